"""How each request of the shop is made: the path, the parameters, the body. As the demo's own locustfile makes them (release 2.2.0).

In: an operation as the service configurations name it, a user id, a source of randomness. Out: what to ask for.
"""

import copy
import random

__all__ = ("LOG_LINES", "Asked", "asked")

PRODUCTS = (
    "0PUK6V6EV0", "1YMWWN1N4O", "2ZYFJ3GM2N", "66VCHSJNUP", "6E92ZMYYFZ",
    "9SIQT8TOJO", "L9ECAV7KIM", "LS4PSXUNUM", "OLJCESPC7Z", "HQTGWGPNH4",
)  # fmt: skip
CATEGORIES = ("binoculars", "telescopes", "accessories", "assembly", "travel", "books", None)
QUANTITIES = (1, 2, 3, 4, 5, 10)
QUESTION = "Can you summarize the product reviews?"
BUYER = {
    "email": "buyer@example.com",
    "address": {
        "streetAddress": "1 Example Street",
        "zipCode": "10001",
        "city": "New York",
        "state": "NY",
        "country": "United States",
    },
    "userCurrency": "USD",
    "creditCard": {
        "creditCardNumber": "4111-1111-1111-1111",
        "creditCardExpirationMonth": 1,
        "creditCardExpirationYear": 2039,
        "creditCardCvv": 672,
    },
}
CURRENCIES = ("USD",) * 8 + ("CAD",)  #: of the demo's nine buyers one pays in another currency

LOG_LINES = {  # flow -> what is logged of it, as the demo's own load generator does
    "index": "User accessing index page",
    "browse_product": "User browsing product: {product}",
    "get_recommendations": "User getting recommendations for product: {product}",
    "get_product_reviews": "User getting product reviews for product: {product}",
    "ask_product_ai_assistant": f"Asking the AI Assistant a question for: {{product}} {QUESTION}",
    "get_ads": "User getting ads for category: {category}",
    "view_cart": "User viewing cart",
    "add_to_cart": "User {user} adding {quantity} of product {product} to cart",
    "checkout": "Checkout completed for user {user}",
    "checkout_multi": "Multi-item checkout completed for user {user}",
    "flood_home": "User flooding homepage {count} times",
}


class Asked:
    """One request."""

    def __init__(self, method: str, path: str, *, params: object = None, json: object = None) -> None:
        self.method, self.path, self.params, self.json = method, path, params, json


def asked(
    operation: str, *, user: str, product: str, category: str | None, quantity: int, currency: str
) -> Asked | None:
    """Return the request of an operation; None: it follows by itself from the one before, as where a redirect leads.

    Raises: KeyError: no operation of the shop's has this name.
    """
    match operation:
        case "GET /":
            return Asked("GET", "/")
        case "GET /api/products/{productId}":
            return Asked("GET", f"/api/products/{product}")
        case "GET /api/recommendations":
            return Asked("GET", "/api/recommendations", params={"productIds": [product]})
        case "GET /api/product-reviews/{productId}":
            return Asked("GET", f"/api/product-reviews/{product}")
        case "POST /api/product-ask-ai-assistant/{productId}":
            return Asked("POST", f"/api/product-ask-ai-assistant/{product}", json={"question": QUESTION})
        case "GET /api/data/":
            return Asked("GET", "/api/data/", params={"contextKeys": [category]})
        case "GET /api/data":
            return None
        case "GET /api/cart":
            return Asked("GET", "/api/cart")
        case "POST /api/cart":
            item = {"productId": product, "quantity": quantity}
            return Asked("POST", "/api/cart", json={"item": item, "userId": user})
        case "POST /api/checkout":
            buyer = copy.deepcopy(BUYER) | {"userId": user, "userCurrency": currency}
            return Asked("POST", "/api/checkout", json=buyer)
    raise KeyError(f"the shop has no operation {operation!r}")


def drawn(draws: random.Random) -> dict[str, object]:
    """Draw what a request is about."""
    return {
        "product": draws.choice(PRODUCTS),
        "category": draws.choice(CATEGORIES),
        "quantity": draws.choice(QUANTITIES),
        "currency": draws.choice(CURRENCIES),
    }
