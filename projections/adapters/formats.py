"""What is known about a format besides how to write it: its files, its fields, its gaps. Data, for the command's answer and the docs."""

from __future__ import annotations

import msgspec

__all__ = ("Correspondence", "FileKind", "Format", "Omission")


class FileKind(msgspec.Struct, frozen=True):
    """A kind of file that an export holds."""

    path: str  #: below the export's directory; `<…>` varies
    holds: str
    truth: bool = False  #: it is the format's answer key


class Correspondence(msgspec.Struct, frozen=True):
    """A field of the format and where it comes from."""

    theirs: str
    ours: str
    note: str = ""


class Omission(msgspec.Struct, frozen=True):
    """What a run holds and the format can't."""

    what: str
    why: str


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One target of `ocg export --to`."""

    name: str
    summary: str
    read_by: str  #: who reads it, and where it is described
    files: tuple[FileKind, ...]
    fields: tuple[Correspondence, ...]
    rules: tuple[str, ...]  #: what was decided where the format leaves a choice, and what it demands of a run
    left_out: tuple[Omission, ...]
    extra: str | None = None  #: extra of this package that writing it needs
