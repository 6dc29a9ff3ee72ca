"""PromQL's selectors: their text ➜ name, matchers and range.

In: the `query` or `match[]` parameter of a request. Out: a `Selector`, or a `SelectorError` with the position and reason, worded as
Prometheus words its parse errors. Selectors are all that this project asks of a Prometheus; functions, operators, `offset` and `@`
are refused with a message that says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

__all__ = ("Matcher", "Selector", "SelectorError", "duration_ms", "parse_selector")

_OFFERED = (
    'only selectors are offered here: name{label="value"} for an instant, name{label="value"}[5m] for raw samples'
)
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OPERATOR = re.compile(r"=~|!~|!=|=")
_SPACE = re.compile(r"\s*")
_QUOTED = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\\n]|\\.)*)'|`([^`]*)`")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\", '"': '"', "'": "'"}
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?")

Operator = Literal["=", "!=", "=~", "!~"]


class SelectorError(ValueError):
    """Raised when a text is no selector; the message is what the API answers."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        super().__init__(f"{line}:{column}: parse error: {problem}")


class Matcher(msgspec.Struct, frozen=True):
    """A condition on one label; a label that isn't there is empty. Regular expressions match whole values."""

    label: str
    operator: Operator
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether a series' labels meet the condition."""
        return self.accepts(labels.get(self.label, ""))

    def accepts(self, found: str) -> bool:
        """Return whether a value of the label meets the condition."""
        if self.operator in ("=", "!="):
            return (found == self.value) is (self.operator == "=")
        return (re.fullmatch(self.value, found, re.DOTALL) is not None) is (self.operator == "=~")


class Selector(msgspec.Struct, frozen=True):
    """Series that meet all conditions; with `range_ms` their raw samples of that time, else their newest sample."""

    matchers: tuple[Matcher, ...]
    range_ms: int | None = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether a series is selected."""
        return all(matcher.matches(labels) for matcher in self.matchers)


def duration_ms(text: str) -> int | None:
    """Return a duration such as `30s`, `1h30m` or a number of seconds (`30`, `0.5`) in milliseconds, or None if it isn't one."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return round(float(text) * 1000)
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    units = ("y", "w", "d", "h", "m", "s", "ms")
    return sum(int(number) * _UNITS_MS[unit] for unit, number in zip(units, match.groups(), strict=True) if number)


def parse_selector(text: str) -> Selector:
    """Return the selector that a text is.

    Raises: SelectorError: it is none, or more than one.
    """
    return _Parser(text).selector()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def selector(self) -> Selector:
        self._skip()
        if self.at == len(self.text):
            raise SelectorError(self.text, self.at, "no expression found in input")
        matchers: list[Matcher] = []
        name = self._take(_NAME)
        if name is not None:
            matchers.append(Matcher("__name__", "=", name))
            if self._peek() == "(":
                raise SelectorError(self.text, self.at, f"function {name!r} isn't evaluated, {_OFFERED}")
        if self._peek() == "{":
            matchers += self._braces(named=name is not None)
        elif name is None:
            raise SelectorError(self.text, self.at, f"unexpected character: {self._peek()!r}, {_OFFERED}")
        if not any(not matcher.matches({}) for matcher in matchers):
            problem = "vector selector must contain at least one non-empty matcher"
            raise SelectorError(self.text, 0, problem)
        range_ms = self._range() if self._peek() == "[" else None
        if self.at < len(self.text):
            raise SelectorError(self.text, self.at, f"unexpected {self.text[self.at :].split()[0]!r}, {_OFFERED}")
        return Selector(tuple(matchers), range_ms)

    def _braces(self, *, named: bool) -> list[Matcher]:
        self._expect("{")
        matchers: list[Matcher] = []
        while self._peek() != "}":
            matcher = self._matcher()
            if named and matcher.label == "__name__":
                raise SelectorError(self.text, self.at, "metric name must not be set twice")
            matchers.append(matcher)
            if self._peek() != ",":
                break
            self._expect(",")
        self._expect("}")
        return matchers

    def _matcher(self) -> Matcher:
        start = self.at
        label = self._take(_LABEL)
        if label is None:
            quoted = self._string()
            if self._peek() in (",", "}"):  # {"metric.name"}
                return Matcher("__name__", "=", quoted)
            label = quoted
        operator = self._take(_OPERATOR)
        if operator is None:
            raise SelectorError(
                self.text, self.at, f"unexpected {self._peek()!r} in label matching, expected label matching operator"
            )
        value = self._string()
        if operator in ("=~", "!~"):
            try:
                re.compile(value)
            except re.error as error:
                raise SelectorError(self.text, start, f"error parsing regexp: {error}: `{value}`") from error
        return Matcher(label, operator, value)  # type: ignore[arg-type]  # the pattern takes no other text

    def _range(self) -> int:
        self._expect("[")
        start = self.at
        end = self.text.find("]", start)
        if end < 0:
            raise SelectorError(self.text, start, "unterminated left bracket")
        found = duration_ms(self.text[start:end].strip())
        if ":" in self.text[start:end]:
            raise SelectorError(self.text, start, f"subqueries aren't evaluated, {_OFFERED}")
        if found is None:
            raise SelectorError(self.text, start, f"not a valid duration string: {self.text[start:end]!r}")
        if found <= 0:
            raise SelectorError(self.text, start, "duration must be greater than 0")
        self.at = end + 1
        self._skip()
        return found

    def _string(self) -> str:
        match = _QUOTED.match(self.text, self.at)
        if match is None:
            raise SelectorError(self.text, self.at, f"unexpected {self._peek()!r} in label matching, expected string")
        self.at = match.end()
        self._skip()
        if match[3] is not None:
            return match[3]
        return _ESCAPE.sub(_unescaped, match[1] if match[1] is not None else match[2])

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        self._skip()
        return match[0]

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            found = repr(self._peek()) if self._peek() else "end of input"
            raise SelectorError(self.text, self.at, f"unexpected {found}, expected {character!r}")
        self.at += 1
        self._skip()

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match is not None else self.at


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "xuU":
        return chr(int(code[1:], 16))
    if code.isdigit():
        return chr(int(code, 8))
    return _ESCAPES.get(code, match[0])
