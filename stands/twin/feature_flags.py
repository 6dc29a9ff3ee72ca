"""The application's feature flags: flagd's file, what flagd makes of it, and whether anybody can ask.

In: the configuration's flags (the ConfigMap), documents that flagd-ui writes, whether flagd has a ready pod. Out: evaluations as OFREP
gives them, and the values in force. Upstream: `servers.flagd`, `world`. Downstream: `world` hands the values to the simulation.

- flagd-ui replaces the whole file, and its own reads show that at once. flagd follows the file a moment later: at the next moment at which
  anything happens, so what was written between two moments of a run is in force from the second one on.
- The file lies in an emptyDir that is filled from the ConfigMap when the pod is made: a new pod forgets what was written, a container that
  restarts doesn't.
- A flag that is disabled, unknown to the file or without a valid default variant evaluates to an error, and the application's code falls
  back to its own default, which is off for all of them. So it does while flagd has no ready pod.
- Targeting rules are refused: requests have no context here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from otel_control_gym.engine.settings import Flag

__all__ = ("FLAGD", "Evaluation", "FeatureFlags", "FlagError", "InvalidFlags")

FLAGD: Final = "flagd"  #: the service whose pods evaluate
_STATES = ("ENABLED", "DISABLED")
_SHOWN = 40  #: characters of a bad value in a message


class InvalidFlags(ValueError):
    """Raised when a document can't be a flag file: says where, and what would be right."""

    def __init__(self, where: str, found: object, remedy: str) -> None:
        shown = repr(found)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        super().__init__(f"{where} = {shown}: {remedy}")


class FlagError(LookupError):
    """Raised when a flag can't be evaluated: `code` as OFREP spells it."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


class Evaluation(msgspec.Struct, frozen=True):
    """What a flag is."""

    value: Any
    variant: str


class FeatureFlags:
    """The flags of one application."""

    def __init__(self, flags: Mapping[str, Flag]) -> None:
        self._settings = dict(flags)
        self.file: dict[str, Any] = self._config_map()  #: as flagd-ui shows it
        self._followed = self.file  #: as flagd has it
        self.serving = False  #: flagd has a ready pod

    def reset(self) -> None:
        """Take the file from the ConfigMap, as a new pod does."""
        self.file = self._followed = self._config_map()

    def write(self, document: object) -> None:
        """Replace the file; flagd follows with `follow`.

        Raises:
            InvalidFlags: the document isn't a flag file.
        """
        self.file = _checked(document)

    def follow(self) -> bool:
        """Let flagd read the file, and return whether it had changed."""
        changed = self._followed is not self.file
        self._followed = self.file
        return changed

    def names(self) -> tuple[str, ...]:
        """Return the flags that flagd knows, in the file's order."""
        return tuple(self._followed["flags"])

    def evaluate(self, name: str) -> Evaluation:
        """Return what flagd answers for a flag.

        Raises:
            FlagError: there is no such flag, it is disabled, or its default variant isn't one of its variants.
        """
        flag = self._followed["flags"].get(name)
        if flag is None:
            raise FlagError("FLAG_NOT_FOUND", f"flag `{name}` does not exist")
        if flag["state"] == "DISABLED":
            raise FlagError("FLAG_DISABLED", f"flag `{name}` is disabled")
        variant = flag.get("defaultVariant")
        if variant not in flag["variants"]:
            raise FlagError("PARSE_ERROR", f"flag `{name}`: its default variant {variant!r} is none of its variants")
        return Evaluation(flag["variants"][variant], variant)

    def values(self) -> dict[str, float]:
        """Return what the application reads of each of its flags: a number (true is 1), 0 where it falls back to its code's default."""
        return {name: self._value(name) for name in self._settings}

    def unready(self, service: str) -> bool:
        """Return whether a flag in force lets a service's pods say that they aren't ready."""
        return any(
            effect.unready == service and self._value(name)
            for name, flag in self._settings.items()
            for effect in flag.effects
        )

    def _value(self, name: str) -> float:
        if not self.serving:
            return 0.0
        try:
            value = self.evaluate(name).value
        except FlagError:
            return 0.0
        # A variant of another type than the code asks for is a type mismatch: its default too.
        return float(value) if isinstance(value, int | float) else 0.0

    def _config_map(self) -> dict[str, Any]:
        """Return the document that the chart's ConfigMap holds."""
        return {
            "$schema": "https://flagd.dev/schema/v0/flags.json",
            "flags": {
                name: {
                    "description": flag.description,
                    "state": "ENABLED",
                    "variants": dict(flag.variants),
                    "defaultVariant": flag.default,
                }
                for name, flag in self._settings.items()
            },
        }


def _checked(document: object) -> dict[str, Any]:
    """Return a document if it can be a flag file.

    Raises:
        InvalidFlags: it can't.
    """
    if not isinstance(document, dict):
        raise InvalidFlags("data", document, "must be a flag document, an object with `flags`")
    flags = document.get("flags")
    if not isinstance(flags, dict):
        raise InvalidFlags("data.flags", flags, "must be an object: flag name -> flag")
    for name, flag in flags.items():
        where = f"data.flags.{name}"
        if not isinstance(flag, dict):
            raise InvalidFlags(where, flag, "must be an object with state, variants and defaultVariant")
        if flag.get("state") not in _STATES:
            raise InvalidFlags(f"{where}.state", flag.get("state"), "must be ENABLED or DISABLED")
        variants = flag.get("variants")
        if not isinstance(variants, dict) or not variants:
            raise InvalidFlags(f"{where}.variants", variants, "must be an object that is not empty: variant -> value")
        for variant, value in variants.items():
            if not isinstance(value, bool | int | float | str | dict):
                raise InvalidFlags(f"{where}.variants.{variant}", value, "must be a boolean, number, text or object")
        if not isinstance(flag.get("defaultVariant"), str):
            raise InvalidFlags(f"{where}.defaultVariant", flag.get("defaultVariant"), "must be a variant's name")
        if flag.get("targeting"):
            raise InvalidFlags(f"{where}.targeting", flag["targeting"], "must be empty: requests have no context here")
    return document
