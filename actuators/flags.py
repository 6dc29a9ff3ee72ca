"""Feature flags of the application, through the API of flagd-ui; evidence by flagd itself.

In: a flag and a variant. Out: the whole flag document with another default, and what flagd evaluates the flag to (OFREP).

Traps: flagd-ui answers before it writes, so its yes is no evidence; it replaces the *whole* document, so that is read right before; a flag
with targeting ignores its default; the document lies in an emptyDir, so a new flagd pod has the old one again: every flag that was
switched is back, and the intervention has ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec

from otel_control_gym.actuators.procedure import Check, Precheck, Reversal, Standing
from otel_control_gym.actuators.transport import CALL_SECONDS, Refused, decoded, receive
from otel_control_gym.engine.events import InverseCall, TouchedObject
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.engine.service_sessions import service_session

__all__ = ("FeatureFlagProcedure", "FlagClient", "open_flags")

_PREFIX = "feature/"  #: of flagd-ui's paths, behind the demo's proxy
_WRITE = f"{_PREFIX}api/write"
_NOT_FOUND = 404

T = TypeVar("T")


class _Evaluation(msgspec.Struct, frozen=True):
    variant: str = ""
    reason: str = ""


class FlagClient:
    """Calls to flagd-ui and to flagd, each by a session to its URL.

    flagd-ui's paths begin with `feature/` behind the demo's proxy and not on its own Service: what isn't found is asked for without.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, evaluating: aiohttp.ClientSession, evaluation: str
    ) -> None:
        self._session, self._url = session, url
        self._evaluating, self._evaluation = evaluating, evaluation
        self._prefix = _PREFIX

    async def call(self, method: str, path: str, answer: type[T], *, body: Any = None) -> T:
        """Call flagd-ui and return the answer as a struct; `path` is the one behind the demo's proxy, without a leading slash.

        Raises: CallError: one of its three kinds.
        """
        name, place = f"{method} {path}", path.removeprefix(_PREFIX)
        try:
            payload = await receive(
                name, self._session.request(method, f"{self._url}/{self._prefix}{place}", json=body)
            )
        except Refused as refusal:
            if refusal.status != _NOT_FOUND or not self._prefix:
                raise
            payload = await receive(name, self._session.request(method, f"{self._url}/{place}", json=body))
            self._prefix = ""
        return decoded(name, payload, answer)

    async def document(self) -> dict[str, Any]:
        """Return the flag document as it is.

        Raises: CallError: one of its three kinds.
        """
        document: dict[str, Any] = await self.call("GET", "feature/api/read", dict)
        return document

    async def evaluate(self, flag: str) -> str:
        """Return the variant to which flagd evaluates a flag.

        Raises: CallError: one of its three kinds.
        """
        name = f"POST ofrep/v1/evaluate/flags/{flag}"
        call = self._evaluating.post(f"{self._evaluation}/ofrep/v1/evaluate/flags/{flag}", json={"context": {}})
        return decoded(name, await receive(name, call), _Evaluation).variant


@asynccontextmanager
async def open_flags(endpoints: Endpoints) -> AsyncIterator[FlagClient]:
    """Open the session to a stand's flagd; closed on exit."""
    evaluation = endpoints.flagd_evaluation or endpoints.flagd
    async with (
        service_session(endpoints, endpoints.flagd, CALL_SECONDS) as writing,
        service_session(endpoints, evaluation, CALL_SECONDS) as evaluating,
    ):
        yield FlagClient(writing, endpoints.flagd, evaluating, evaluation)


class FeatureFlagProcedure:
    """Give a flag another default variant; back: the one that it had."""

    begun = False

    def __init__(self, flags: FlagClient, *, flag: str, variant: str, nil: bool) -> None:
        self.fields = (f"flag:{flag}",)
        self._flags = flags
        self._flag = flag
        self._variant = variant
        self._nil = nil  # strength zero: the variant is the one that it has
        self._before: dict[str, Any] = {}

    async def precheck(self) -> Precheck:
        """Refuse flags that aren't there, are disabled, have targeting, or are switched already."""
        self._before = document = await self._flags.document()
        flag = document.get("flags", {}).get(self._flag)
        if flag is None:
            return Precheck(rejection=f"the flag document has no {self._flag!r}")
        evidence = {"variant_before": flag.get("defaultVariant")}
        rejection = ""
        if self._variant not in flag.get("variants", {}):
            rejection = f"{self._flag} has no variant {self._variant!r}"
        elif flag.get("state") != "ENABLED":
            rejection = f"{self._flag} is {flag.get('state')}: its variants have no effect"
        elif flag.get("targeting"):
            rejection = f"{self._flag} has targeting rules, which go before its default variant"
        elif flag.get("defaultVariant") == self._variant and not self._nil:
            rejection = f"{self._flag} is {self._variant} already"
        return Precheck(rejection=rejection, evidence=evidence)

    def _with(self, document: dict[str, Any], variant: str) -> dict[str, Any]:
        flags = document["flags"]
        return {**document, "flags": {**flags, self._flag: {**flags[self._flag], "defaultVariant": variant}}}

    def _variant_before(self) -> str:
        return str(self._before["flags"][self._flag]["defaultVariant"])

    def inverse(self) -> tuple[InverseCall, ...]:
        """Write the document that was."""
        return (InverseCall(api="flagd", method="POST", path=_WRITE, body={"data": self._before}),)

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Write the present document with the variant."""
        return await self._write(self._variant)

    async def _write(self, variant: str) -> tuple[TouchedObject, ...]:
        document = await self._flags.document()
        await self._flags.call("POST", _WRITE, dict, body={"data": self._with(document, variant)})
        return (TouchedObject(kind="HTTP", name=f"POST /{_WRITE}", uid=""),)

    async def postcheck(self) -> Check:
        """Ask flagd."""
        found = await self._flags.evaluate(self._flag)
        evidence: dict[str, Any] = {"variant": found}
        if found == self._variant:
            return Check(seen="all", evidence=evidence)
        return Check(seen="none", evidence=evidence | {"missing": f"flagd says {found!r}, not {self._variant!r}"})

    async def standing(self) -> Standing:
        """Ask flagd; strength zero has nothing to end."""
        if self._nil:
            return Standing()
        found = await self._flags.evaluate(self._flag)
        if found == self._variant:
            return Standing(left=(self._flag,))
        return Standing(lost=(self._flag,), reason=f"flagd says {found!r}, not {self._variant!r}")

    async def sustain(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """The document stays as long as flagd's pod."""
        return ()

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Write the present document with the variant that was."""
        return await self._write(self._variant_before())

    async def reverted(self, _now: int, /) -> Reversal:
        """Ask flagd."""
        found = await self._flags.evaluate(self._flag)
        return Reversal(verified=found == self._variant_before(), evidence={"variant": found})
