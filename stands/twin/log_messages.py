"""What the demo's services log, as data.

In: which service did what, and how it ended. Out: messages, whose gaps are filled with facts of the trace.

Texts, severities and attributes are those of the demo's sources (2.2.0), as each service's SDK spells them. Who isn't here is silent there,
too: frontend and flagd send no logs, databases and caches none by OTLP; and most failures are told of by a span's status alone: checkout
logs that a mail or a message wasn't sent, not that a card wasn't charged.

A user's task is one trace, so user, order, product and mail address are drawn from the trace's id, and the services that log them agree.
What differs from call to call is drawn from the span's.

Simplifications: a record bears the moment at which its span ends, also where the service logs first and works afterwards; one product per
trace; what isn't about a request (start, stop, health checks) isn't logged. Downstream: `spans`, which sends records beside spans.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Final, Literal, TypeAlias

import msgspec

from otel_control_gym.engine.clock import rfc3339

__all__ = ("Facts", "Message", "When", "messages")

#: From the side of who logs: an operation of its own succeeded or failed, a call that it made did, or a user's task is over.
When: TypeAlias = Literal["served", "failed", "called", "call failed", "task"]


class Message(msgspec.Struct, frozen=True):
    """A log statement: severity as the SDK spells it, text and attributes with gaps for `Facts`."""

    severity: str
    text: str
    attributes: dict[str, str] = {}

    @property
    def varies(self) -> bool:
        """Whether it has gaps."""
        return any("{" in text for text in (self.text, *self.attributes.values()))


_ACCESS = Message(
    "",
    '[{time}] "{request}" {status} {flags} {details} - "-" 0 0 {duration_ms} {duration_ms} "-" "python-requests/2.32.5" "{request_id}" '
    '"frontend-proxy:8080" "frontend:8080" frontend - - - - -',
    {"event.name": "proxy.access"},
)
_PLACED = {
    "app.order.id": "{order}",
    "app.order.amount": "{amount}",
    "app.shipping.tracking.id": "{tracking}",
}
_CHARGED = {"transactionId": "{transaction}", "cardType": "visa", "lastFourDigits": "{card}"}
_ORDER = 'Order details: {{ "orderId": "{order}", "shippingTrackingId": "{tracking}", "items": [{{ "productId": "{product}" }}] }}.'
_LISTED = Message("INFO", "Receive ListRecommendations for product ids:{products}")
_QUESTION = Message(
    "INFO", "Receive AskProductAIAssistant for product id:{product}, question: Can you summarize the reviews?"
)
_AD_FAILED = Message("WARN", "GetAds Failed with status Status{{code=UNAVAILABLE, description=null, cause=null}}")
_NO_MAIL = Message("WARN", 'failed to send order confirmation to "{email}": {error}')
_WRITTEN = Message("INFO", "Successful to write message. offset: {number}, duration: {duration_ms}ms")
_TARGETED = Message("INFO", "Targeted ad request received for [{category}]")
_CONSUMED = Message("INFO", "Consumed record with orderId: {order}, and updated total count to: {number}")
_ADDED = Message("Information", "AddItemAsync called with userId={user}, productId={product}, quantity={quantity}")
_NO_REDIS = Message("Error", "Wasn't able to connect to redis")
_PUT_IN_CART = Message("INFO", "User {user} adding {quantity} of product {product} to cart")
_ASKED = Message("INFO", "[PlaceOrder]", {"user_id": "{user}", "user_currency": "USD"})
_CHARGE = Message("info", "Charge request received.")
_REQUESTING = Message("INFO", "Requesting quote", {"quote_service_addr": "http://quote:8090/getquote"})

#: (when, service, operation; of the called service where it is a call) -> what is logged, in order.
_MESSAGES: Final[dict[tuple[When, str, str], tuple[Message, ...]]] = {
    # cart, .NET
    ("served", "cart", "GetCart"): (Message("Information", "GetCartAsync called with userId={user}"),),
    ("failed", "cart", "GetCart"): (Message("Information", "GetCartAsync called with userId={user}"),),
    ("served", "cart", "AddItem"): (_ADDED,),
    ("failed", "cart", "AddItem"): (_ADDED,),
    ("served", "cart", "EmptyCart"): (Message("Information", "EmptyCartAsync called with userId={user}"),),
    ("failed", "cart", "EmptyCart"): (Message("Information", "EmptyCartAsync called with userId={user}"),),
    ("call failed", "cart", "HGET"): (_NO_REDIS,),
    ("call failed", "cart", "HSET"): (_NO_REDIS,),
    ("call failed", "cart", "EXPIRE"): (_NO_REDIS,),
    # checkout, Go
    ("served", "checkout", "PlaceOrder"): (_ASKED, Message("INFO", "order placed", _PLACED)),
    ("failed", "checkout", "PlaceOrder"): (_ASKED,),
    ("called", "checkout", "Charge"): (Message("INFO", "payment went through", {"transaction_id": "{transaction}"}),),
    ("called", "checkout", "POST /send_order_confirmation"): (
        Message("INFO", 'order confirmation email sent to "{email}"'),
    ),
    ("call failed", "checkout", "POST /send_order_confirmation"): (_NO_MAIL,),
    ("called", "checkout", "publish orders"): (Message("INFO", "sending to postProcessor"), _WRITTEN),
    ("call failed", "checkout", "publish orders"): (Message("ERROR", "Failed to write message: {error}"),),
    # payment, Node
    ("served", "payment", "Charge"): (_CHARGE, Message("info", "Transaction complete.", _CHARGED)),
    ("failed", "payment", "Charge"): (
        _CHARGE,
        Message("warn", "Payment request failed. Invalid token. app.loyalty.level=gold"),
    ),
    # product-catalog, Go
    ("served", "product-catalog", "GetProduct"): (
        Message("INFO", "Product Found", {"app.product.name": "{product_name}", "app.product.id": "{product}"}),
    ),
    ("served", "product-catalog", "ListProducts"): (Message("INFO", "Found 10 products from database"),),
    # recommendation, product-reviews, Python
    ("served", "recommendation", "ListRecommendations"): (_LISTED,),
    ("failed", "recommendation", "ListRecommendations"): (_LISTED,),
    ("served", "product-reviews", "GetProductReviews"): (
        Message("INFO", "Receive GetProductReviews for product id:{product}"),
    ),
    ("served", "product-reviews", "AskProductAIAssistant"): (_QUESTION,),
    ("failed", "product-reviews", "AskProductAIAssistant"): (_QUESTION,),
    # currency, C++
    ("served", "currency", "Convert"): (Message("INFO", "Convert conversion successful"),),
    ("failed", "currency", "Convert"): (Message("ERROR", "Convert conversion failure"),),
    # shipping, Rust
    ("called", "shipping", "POST /getquote"): (_REQUESTING,),
    ("call failed", "shipping", "POST /getquote"): (_REQUESTING,),
    ("served", "shipping", "POST /get-quote"): (
        Message("INFO", "Sending Quote", {"quote.dollars": "{dollars}", "quote.cents": "{cents}"}),
    ),
    ("served", "shipping", "POST /ship-order"): (
        Message("INFO", "Tracking ID Created", {"tracking_id": "{tracking}"}),
    ),
    # quote, PHP; email, Ruby; ad, Java
    ("served", "quote", "POST /getquote"): (Message("INFO", "Calculated quote", {"total": "{amount}"}),),
    ("served", "email", "POST /send_order_confirmation"): (
        Message("INFO", "Order confirmation email sent", {"app.email.recipient": "{email}"}),
    ),
    ("served", "ad", "GetAds"): (_TARGETED,),
    ("failed", "ad", "GetAds"): (_TARGETED, _AD_FAILED),
    # accounting, .NET; fraud-detection, Kotlin
    ("served", "accounting", "process orders"): (Message("Information", _ORDER),),
    ("failed", "accounting", "process orders"): (Message("Error", "Order parsing failed:"),),
    ("served", "fraud-detection", "process orders"): (_CONSUMED,),
    # load-generator, Python: one line a task
    ("task", "load-generator", "index"): (Message("INFO", "User accessing index page"),),
    ("task", "load-generator", "browse_product"): (Message("INFO", "User browsing product: {product}"),),
    ("task", "load-generator", "get_recommendations"): (
        Message("INFO", "User getting recommendations for product: {product}"),
    ),
    ("task", "load-generator", "get_product_reviews"): (
        Message("INFO", "User getting product reviews for product: {product}"),
    ),
    ("task", "load-generator", "ask_product_ai_assistant"): (
        Message("INFO", "Asking the AI Assistant a question for: {product} Can you summarize the reviews?"),
    ),
    ("task", "load-generator", "get_ads"): (Message("INFO", "User getting ads for category: {category}"),),
    ("task", "load-generator", "view_cart"): (Message("INFO", "User viewing cart"),),
    ("task", "load-generator", "add_to_cart"): (_PUT_IN_CART,),
    ("task", "load-generator", "checkout"): (_PUT_IN_CART, Message("INFO", "Checkout completed for user {user}")),
    ("task", "load-generator", "checkout_multi"): (
        _PUT_IN_CART,
        Message("INFO", "Multi-item checkout completed for user {user}"),
    ),
    ("task", "load-generator", "flood_home"): (Message("INFO", "User flooding homepage 100 times"),),
}
_PROXY: Final = "frontend-proxy"  #: Envoy: writes an access log, whatever it is asked for

_PRODUCTS: Final = (
    ("OLJCESPC7Z", "National Park Foundation Explorascope"),
    ("66VCHSJNUP", "Starsense Explorer Refractor Telescope"),
    ("1YMWWN1N4O", "Eclipsmart Travel Refractor Telescope"),
    ("L9ECAV7KIM", "Lens Cleaning Kit"),
    ("2ZYFJ3GM2N", "Roof Binoculars"),
    ("0PUK6V6EV0", "Solar System Color Imager"),
    ("LS4PSXUNUM", "Red Flashlight"),
    ("9SIQT8TOJO", "Optical Tube Assembly"),
    ("6E92ZMYYFZ", "Solar Filter"),
    ("HQTGWGPNH4", "The Comet Book"),
)
_CATEGORIES: Final = ("binoculars", "telescopes", "accessories", "assembly", "travel", "books")
_PEOPLE: Final = ("ada", "barbara", "edsger", "grace", "ken")
_QUANTITIES: Final = (1, 2, 3, 4, 5, 10)
_LIST_LENGTH: Final = 5
#: Envoy's words for an answer that is its own: status -> response flags, details.
_ENVOY: Final = {
    502: ("UPE", "upstream_reset_before_response_started{protocol_error}"),
    503: ("UF", "upstream_reset_before_response_started{connection_failure}"),
    504: ("UT", "response_timeout"),
}


def messages(when: When, service: str, operation: str) -> tuple[Message, ...]:
    """Return what a service logs at the end of an operation, a call or a task; nothing for most."""
    if service == _PROXY:
        return (_ACCESS,) if when in ("served", "failed") else ()
    return _MESSAGES.get((when, service, operation), ())


class Facts(msgspec.Struct, frozen=True):
    """What fills the gaps of a message: a mapping, for `str.format_map`.

    `operation` and `status` are the span's, `start` and `end` its moments [ns].
    """

    trace: bytes
    span: bytes
    operation: str
    status: int
    start: int
    end: int

    def __getitem__(self, name: str) -> str:
        match name:
            case "user" | "order" | "transaction" | "tracking":
                return str(uuid.UUID(bytes=_bits(self.trace, name), version=4))
            case "request_id":
                return str(uuid.UUID(bytes=_bits(self.span, name), version=4))
            case "product":
                return _PRODUCTS[self._draw("product", len(_PRODUCTS))][0]
            case "product_name":
                return _PRODUCTS[self._draw("product", len(_PRODUCTS))][1]
            case "products":
                first = _number(_bits(self.span, name)) % len(_PRODUCTS)
                return str([_PRODUCTS[(first + 3 * i) % len(_PRODUCTS)][0] for i in range(_LIST_LENGTH)])
            case "email":
                return f"{_PEOPLE[self._draw(name, len(_PEOPLE))]}@example.com"
            case "category":
                return _CATEGORIES[self._draw(name, len(_CATEGORIES))]
            case "quantity":
                return str(_QUANTITIES[self._draw(name, len(_QUANTITIES))])
            case "dollars" | "cents":
                return str(self._draw(name, 100))
            case "amount":
                return f"{self._draw(name, 100_000) / 100:.2f}"
            case "card":
                return f"{self._draw(name, 10_000):04d}"
            case "number":
                return str(_number(_bits(self.span, name)) % 100_000)
            case "duration_ms":
                return str((self.end - self.start) // 1_000_000)
            case "time":
                return rfc3339(self.start)
            case "request":
                return self.operation.replace("{productId}", self["product"]) + " HTTP/1.1"
            case "status" | "flags" | "details":
                flags, details = _ENVOY.get(self.status, ("-", "via_upstream"))
                return {"status": str(self.status), "flags": flags, "details": details}[name]
            case "error":
                return f"expected 200, got {self.status}" if self.status else "connection refused"
        raise KeyError(name)

    def _draw(self, name: str, count: int) -> int:
        return _number(_bits(self.trace, name)) % count


def _bits(identifier: bytes, name: str) -> bytes:
    return hashlib.blake2b(identifier, digest_size=16, person=name.encode()).digest()


def _number(bits: bytes) -> int:
    return int.from_bytes(bits[:8])
