"""Actions ⇄ fixed arrays of numbers, for learners that want a space of one shape.

In: the JSON Schema of all actions and the targets of an application. Out: an `ActionEncoding`, which is data (it is stored beside what it
encoded), and by it an action as `type`, `target`, `numbers`, `given` and `choices`, and back.

- `type`: index of the action's type. `target`: index of the target, 0 for none.
- `numbers`: every parameter that is a number, in its own unit, 0 where the action doesn't have it; `given` says which it has.
- `choices`: every parameter with a few accepted values, 0 where the action doesn't have it, else 1 + the index of the value.

Texts and mappings (environment variables, the mix of a workload, a version's name) have no place in it: `lossless` says whether an action
had any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ("ActionEncoding", "EncodedAction", "encoding_of")

_NOT_PARAMETERS = ("type", "target")
_IN_WORDS = ("duration",)  #: said by `duration_seconds` once it is resolved


class EncodedAction(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An action in arrays."""

    type: int
    target: int
    numbers: npt.NDArray[np.float64]  #: [P]
    given: npt.NDArray[np.int8]  #: [P]
    choices: npt.NDArray[np.int64]  #: [Q]
    lossless: bool  #: nothing of the action is missing


class ActionEncoding(msgspec.Struct, frozen=True, kw_only=True):
    """What the indices mean."""

    types: tuple[str, ...]
    targets: tuple[str, ...]  #: the first is empty: none
    numbers: tuple[str, ...]  #: [P]
    choices: tuple[tuple[str, tuple[Any, ...]], ...]  #: [Q] parameter and its accepted values

    def encode(self, action_type: str, target: str, parameters: Mapping[str, Any]) -> EncodedAction:
        """Return an action in arrays; `parameters` are resolved ones, null and absent are the same.

        Raises: ValueError: the type or target isn't one of the encoding's.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        options = dict(self.choices)
        numbers = [float(given.get(name, 0.0)) for name in self.numbers]
        choices = [
            1 + values.index(given[name]) if given.get(name) in values and name in given else 0
            for name, values in self.choices
        ]
        placed = set(self.numbers) | {name for name, value in given.items() if value in options.get(name, ())}
        return EncodedAction(
            type=self.types.index(action_type),
            target=self.targets.index(target),
            numbers=np.array(numbers, np.float64),
            given=np.array([name in given for name in self.numbers], np.int8),
            choices=np.array(choices, np.int64),
            lossless=set(given) <= placed,
        )

    def decode(self, encoded: EncodedAction) -> tuple[str, str, dict[str, Any]]:
        """Return type, target and parameters of an action in arrays; whole numbers as `int`."""
        parameters: dict[str, Any] = {}
        for name, number, there in zip(self.numbers, encoded.numbers.tolist(), encoded.given.tolist(), strict=True):
            if there:
                parameters[name] = int(number) if number.is_integer() else number
        for (name, values), choice in zip(self.choices, encoded.choices.tolist(), strict=True):
            if choice:
                parameters[name] = values[choice - 1]
        return self.types[encoded.type], self.targets[encoded.target], parameters


def encoding_of(schema: Mapping[str, Any], targets: Sequence[str]) -> ActionEncoding:
    """Return the encoding for a catalogue's JSON Schema (`ocg.action_schema()`) and an application's targets."""
    types: list[str] = []
    numbers: dict[str, None] = {}
    choices: dict[str, dict[Any, None]] = {}
    for definition in schema["$defs"].values():
        properties = definition.get("properties", {})
        tag = properties.get("type", {}).get("enum")
        if not tag:
            continue
        types.append(tag[0])
        for name, rule in properties.items():
            if name in _NOT_PARAMETERS or name in _IN_WORDS:
                continue
            for option in rule.get("anyOf", [rule]):
                if "enum" in option:
                    choices.setdefault(name, {}).update(dict.fromkeys(option["enum"]))
                elif option.get("type") == "boolean":
                    choices.setdefault(name, {}).update(dict.fromkeys((False, True)))
                elif option.get("type") in ("integer", "number"):
                    numbers[name] = None
    return ActionEncoding(
        types=tuple(types),
        targets=("", *targets),
        numbers=tuple(sorted(numbers)),
        choices=tuple((name, tuple(values)) for name, values in sorted(choices.items())),
    )
