"""The JSON files of a run ➜ Python objects, public parts alone unless truth is asked for.

In: a file. Out: its object, or its lines one after the other, decompressed as they are read. What isn't public: lines of the truth
stream, and in `metadata.json` what its contract calls truth (`documents.TRUTH_KEYS`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from otel_control_gym.engine.errors import DatasetError
from otel_control_gym.projections.documents import METADATA_KEYS, TRUTH_KEYS

__all__ = ("public_metadata", "read_document", "read_lines", "read_metadata")

_CHUNK_BYTES = 1 << 16

_TRUTH = frozenset(TRUTH_KEYS)
_CONFIGURATION = "effective_configuration"


def read_document(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises: DatasetError: it isn't there, or isn't JSON.
    """
    try:
        return msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        raise DatasetError(f"{path} can't be read: {error}") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the content of a `metadata.json`; keys that its contract didn't have yet are null.

    `split_ids` was a list, always empty, under version 1.

    Raises: DatasetError: it isn't there, or isn't JSON.
    """
    document: dict[str, Any] = read_document(path)
    if document.get("contract_version") == 1:
        document["split_ids"] = {}
    return dict.fromkeys(METADATA_KEYS) | document


def public_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata without what is truth."""
    shown = {key: value for key, value in metadata.items() if key not in _TRUTH}
    configuration = metadata.get(_CONFIGURATION, {})
    shown[_CONFIGURATION] = {
        key: value for key, value in configuration.items() if f"{_CONFIGURATION}.{key}" not in _TRUTH
    }
    shown["streams"] = {
        name: {key: value for key, value in stream.items() if key != "truth_sequence"}
        for name, stream in metadata.get("streams", {}).items()
    }
    return shown


def read_lines(path: Path, *, truth: bool) -> Iterator[dict[str, Any]]:
    """Yield the records of a `.jsonl.zst` file in order, without `truth` the public ones alone.

    Raises: DatasetError: the file isn't there, was cut off, or a line isn't JSON.
    """
    read = 0
    try:
        for line in _lines(path):
            record = msgspec.json.decode(line)
            read += 1
            if truth or record.get("visibility") == "public":
                yield record
    except (OSError, msgspec.MsgspecError, zstandard.ZstdError) as error:
        raise DatasetError(f"{path} can't be read after line {read}: {error}") from error


def _lines(path: Path) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            *lines, rest = (rest + decompressor.decompress(chunk)).split(b"\n")
            yield from lines
    if not decompressor.eof or rest:  # zstd itself takes the end of the file for the end of the data
        raise DatasetError(f"{path} was cut off\n  `ocg rebuild` makes it again from the log")
