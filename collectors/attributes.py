"""OTLP attributes ➜ texts, and which of them tell of a feature flag.

In: key-value lists of decoded OTLP messages. Out: dictionaries of texts, in the order of their keys. Pure.

**Flags leak.** The demo's SDKs write evaluated feature flags into spans and logs, its code into messages and statuses ("Product Catalog
Fail Feature Flag Enabled"), and a flag *is* the fault. What is named like one, or speaks of one, belongs to the truth stream, and so does
everything that flagd itself sends. Next: `collectors.spans`, `collectors.log_records`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

__all__ = (
    "FLAG_SERVICES",
    "SAMPLING",
    "attributes",
    "is_flag",
    "sent_probability",
    "speaks_of_flags",
    "take_probability",
)

FLAG_SERVICES = ("flagd", "flagd-ui")
SAMPLING = (
    "sampling.probability"  #: attribute of our overlay: with which probability this span, or log record, was kept
)
_FLAG = "feature_flag"
_TEXTS = 1 << 12  #: that are remembered: most attributes have one of few values
_FLAG_WORDS = ("feature flag", "feature_flag", "featureflag")


def attributes(items: Iterable[Any]) -> dict[str, str]:
    """Return a list of KeyValue as texts, by key."""
    return {item.key: text(item.value) for item in sorted(items, key=lambda item: str(item.key))}


def text(value: Any) -> str:
    """Return an AnyValue as text; empty if it holds nothing, bytes as hex digits."""
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    if kind == "string_value":
        return str(value.string_value)
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "array_value":
        return "[" + ",".join(text(item) for item in value.array_value.values) + "]"
    if kind == "kvlist_value":
        return "{" + ",".join(f"{item.key}={text(item.value)}" for item in value.kvlist_value.values) + "}"
    if kind == "bytes_value":
        return bytes(value.bytes_value).hex()
    return str(getattr(value, kind))


def is_flag(name: str) -> bool:
    """Return whether an attribute of this name tells of a feature flag."""
    return name.startswith(_FLAG)


@lru_cache(maxsize=_TEXTS)
def speaks_of_flags(text: str, names: tuple[str, ...]) -> bool:
    """Return whether a text speaks of feature flags, or names one of the application's."""
    lowered = text.lower()
    return any(word in lowered for word in _FLAG_WORDS) or any(name.lower() in lowered for name in names)


def take_probability(items: Any) -> float | None:
    """Take the sampling probability out of a list of KeyValue, and return it, if it comes last, as a collector adds it; else None.

    It is what differs most between spans that say the same.
    """
    if not items or items[-1].key != SAMPLING:
        return None
    return sent_probability({SAMPLING: text(items.pop().value)})


def sent_probability(found: Mapping[str, str]) -> float | None:
    """Return the probability that the sender says it kept this with; None if it says none, or one that can't be."""
    try:
        probability = float(found[SAMPLING])
    except (KeyError, ValueError):
        return None
    return probability if 0 < probability <= 1 else None
