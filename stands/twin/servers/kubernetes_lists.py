"""Lists in pages: `limit`, `continue`, `resourceVersion` and `resourceVersionMatch` ➜ which objects, as of which version.

In: the store, a query. Out: a `Page`, or an `ApiError`.

All pages of a list show the objects as they were when its first was asked for: the token names that version, and what has happened since is
undone from the store's history. When the history no longer reaches back, the client is told so (410), with a token to go on
without that promise.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping

import msgspec

from otel_control_gym.stands.twin import api_errors
from otel_control_gym.stands.twin.objects import Kind, Object
from otel_control_gym.stands.twin.selectors import Predicate
from otel_control_gym.stands.twin.servers.kubernetes_requests import natural
from otel_control_gym.stands.twin.store import Expired, ObjectStore

__all__ = ("Page", "asked_version", "page")

_TOKEN_VERSION = "meta.k8s.io/v1"
_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue "
    "parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided "
    "token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was "
    "returned and now may show up in the list."
)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list."""

    objects: list[Object]
    bodies: list[bytes]  #: the same, encoded
    version: int  #: that they are of
    token: str = ""  #: continues the list; empty: this is its end
    remaining: int | None = None  #: how many objects follow, if that is known

    def metadata(self) -> Object:
        """Return the metadata of the list."""
        metadata: Object = {"resourceVersion": str(self.version)}
        if self.token:
            metadata["continue"] = self.token
        if self.remaining is not None:
            metadata["remainingItemCount"] = self.remaining
        return metadata


class _Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a list goes on."""

    v: str
    rv: int  #: -1: whatever is the newest by then
    start: tuple[str, str]  #: namespace and name of the last object shown


def page(
    store: ObjectStore, kind: Kind, namespace: str | None, wanted: Predicate | None, query: Mapping[str, str]
) -> Page:
    """Return the part of a list that a query asks for.

    Raises: ApiError: the query is malformed, asks for what isn't there yet, or for what is forgotten.
    """
    limit, start = natural(query, "limit") or 0, None
    asked, match = asked_version(store, query), query.get("resourceVersionMatch", "")
    _check_match(query, match, asked)
    version = store.version
    if given := query.get("continue", ""):
        if asked:
            raise api_errors.bad_request("specifying resource version is not allowed when using continue")
        token = _token(given)
        start = token.start
        version = store.version if token.rv < 0 else token.rv
        if version > store.version:
            raise api_errors.bad_request("continue key is not valid: it names a version that hasn't been reached")
    elif asked and (match == "Exact" or (limit and not match)):
        version = asked
    try:
        entries = store.snapshot(kind, version, namespace)
    except Expired as error:
        raise _expired(error, start) from error
    if start is not None:
        entries = [entry for entry in entries if entry[0] > start]
    if wanted is not None:
        entries = [entry for entry in entries if wanted(entry[1])]
    shown = entries[:limit] if limit else entries
    more = len(entries) - len(shown)
    return Page(
        objects=[item for _, item, _ in shown],
        bodies=[body for _, _, body in shown],
        version=version,
        token=_encoded(version, shown[-1][0]) if more else "",
        remaining=more if more and wanted is None else None,
    )


def asked_version(store: ObjectStore, query: Mapping[str, str]) -> int | None:
    """Return the resourceVersion that a list or a watch names, None if it names none.

    Raises: ApiError: it is malformed, or hasn't been reached yet.
    """
    asked = natural(query, "resourceVersion")
    if asked is not None and asked > store.version:
        raise api_errors.too_new(asked, store.version)
    return asked


def _check_match(query: Mapping[str, str], match: str, asked: int | None) -> None:
    if not match:
        return
    problem = ""
    if query.get("continue"):
        problem = "Forbidden: resourceVersionMatch is forbidden when continue is provided"
    elif asked is None:
        problem = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif match not in ("Exact", "NotOlderThan"):
        problem = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan", ""'
        raise api_errors.invalid_options("resourceVersionMatch", problem, reason="FieldValueNotSupported")
    elif match == "Exact" and asked == 0:
        problem = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
    if problem:
        raise api_errors.invalid_options("resourceVersionMatch", problem, reason="FieldValueForbidden")


def _encoded(version: int, start: tuple[str, str]) -> str:
    token = msgspec.json.encode(_Token(_TOKEN_VERSION, version, start))
    return urlsafe_b64encode(token).decode().rstrip("=")


def _token(text: str) -> _Token:
    try:
        token = msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=_Token)
    except (ValueError, binascii.Error) as error:
        raise api_errors.bad_request(f"continue key is not valid: {error}") from error
    if token.v != _TOKEN_VERSION:
        raise api_errors.bad_request(f'continue key is not valid: unrecognized version "{token.v}"')
    return token


def _expired(error: Expired, start: tuple[str, str] | None) -> api_errors.ApiError:
    if start is None:
        return api_errors.expired(str(error))
    refusal = api_errors.expired(_TOO_OLD)
    refusal.status["metadata"] = {"continue": _encoded(-1, start)}
    return refusal
