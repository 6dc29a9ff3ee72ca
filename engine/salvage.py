"""The beginning of a MessagePack value ➜ the items that are whole in it.

In: the first bytes of an array, as a damaged file still has them. Out: its items before the end, each as bytes. A decoder takes a
value whole or not at all; what was cut off or overwritten in its middle has a beginning that is worth reading. Whether an item is
what was written isn't known here: `engine.archive_reader` checks every message by its digest.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ("whole_items",)

# Bytes that follow the first one: a size of so many bytes, or a fixed number; by the first byte (the MessagePack specification, "Formats").
_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_FIXED = {
    0xC0: 0,
    0xC2: 0,
    0xC3: 0,
    0xCA: 4,
    0xCB: 8,
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
}
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}


class _Broken(Exception):
    """Raised where the bytes end, or are none of MessagePack's that an archive uses."""


def whole_items(content: bytes, path: tuple[int, ...]) -> Iterator[bytes]:
    """Yield the items of an array that are whole in `content`.

    `path` leads to the array from the outermost value, which is an array too: the positions of the items to go into.
    """
    position = 0
    try:
        for step in path:
            position, _ = _array(content, position)
            for _ in range(step):
                position = _end(content, position)
        position, count = _array(content, position)
        for _ in range(count):
            end = _end(content, position)
            yield content[position:end]
            position = end
    except _Broken:
        return


def _array(content: bytes, position: int) -> tuple[int, int]:
    """Return where the items of the array at a position begin, and how many there are."""
    first = _byte(content, position)
    if 0x90 <= first <= 0x9F:
        return position + 1, first & 0x0F
    if first in _ARRAYS:
        return position + 1 + _ARRAYS[first], _number(content, position + 1, _ARRAYS[first])
    raise _Broken


def _end(content: bytes, position: int) -> int:
    """Return where the value at a position ends."""
    waiting = 1
    while waiting:
        first = _byte(content, position)
        waiting -= 1
        position += 1
        if first in _SIZED:
            position += _SIZED[first] + _number(content, position, _SIZED[first])
        elif 0xA0 <= first <= 0xBF:
            position += first & 0x1F
        elif first in _FIXED:
            position += _FIXED[first]
        elif 0x90 <= first <= 0x9F or first in _ARRAYS:
            position, count = _array(content, position - 1)
            waiting += count
        elif 0x80 <= first <= 0x8F:
            waiting += 2 * (first & 0x0F)
        elif first in _MAPS:
            waiting += 2 * _number(content, position, _MAPS[first])
            position += _MAPS[first]
        elif 0x80 <= first < 0xE0:
            raise _Broken
    if position > len(content):
        raise _Broken
    return position


def _byte(content: bytes, position: int) -> int:
    if position >= len(content):
        raise _Broken
    return content[position]


def _number(content: bytes, position: int, length: int) -> int:
    if position + length > len(content):
        raise _Broken
    return int.from_bytes(content[position : position + length], "big")
