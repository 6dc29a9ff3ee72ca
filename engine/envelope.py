"""The envelope of an event: subject, CloudEvents headers, and the two digests that make a log tamper-evident.

In: an event's body and where it stands (run, stream, sequence, the message before it). Out: a `Message`, ready to be published; and
for a message that was read, the word that it is the one that was written.

Two digests, for two questions:
- *The chain* asks whether this very log is intact. `ocg-chain` holds the digest of the message before it, `ocg-digest` that of the
  message itself (over chain, subject, headers and body): so a flipped bit shows in the message it hit, the last one included, and
  a message that was dropped, swapped or put in shows in the next. NATS' own checksums let a flipped bit through.
- *The content digest* asks whether two runs are the same: type, time and body of all events but `EnvironmentRecorded`,
  `RunIdentified` and `BranchTaken`, which say where a run comes from. Each stream is hashed in its own order and the two hashes are
  hashed together, so neither the interleaving of the streams nor the run id, which stands in subjects and headers alone, enters it.

Pure. Headers follow the CloudEvents binding for NATS, binary mode. Downstream: `engine.log` (live), `engine.archive` (file).
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from otel_control_gym.engine.clock import rfc3339
from otel_control_gym.engine.codec import Encoded, content_type
from otel_control_gym.engine.errors import LogCorrupted, LogError
from otel_control_gym.engine.events import BranchTaken, EnvironmentRecorded, RunIdentified, type_tag

__all__ = ("ContentDigest", "Head", "Message", "RunName", "genesis", "seal", "verify")

_DIGEST_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LEFT_OUT = (type_tag(EnvironmentRecorded), type_tag(RunIdentified), type_tag(BranchTaken))


class RunName(msgspec.Struct, frozen=True):
    """A run as subjects and headers name it."""

    campaign: str
    run_id: str

    def checked(self) -> RunName:
        """Return the name if it can stand in a subject.

        Raises: LogError: it can't, or it would meet the subjects of the views.
        """
        for what, token in (("campaign", self.campaign), ("run id", self.run_id)):
            if not _TOKEN.fullmatch(token) or token == "view":
                raise LogError(f"{what} {token!r}: use 1 to 64 letters, digits, `_` or `-`; `view` is taken")
        return self

    def subject_root(self, *, truth: bool) -> str:
        """Return the first tokens of all subjects of one of the run's streams."""
        return f"{'ocg-truth' if truth else 'ocg'}.{self.campaign}.{self.run_id}"

    def subject(self, tag: str, *, truth: bool) -> str:
        """Return the subject of an event type, e.g. `ocg.default.01J….action.requested`."""
        return f"{self.subject_root(truth=truth)}.{tag.rpartition('.')[0]}"


class Head(msgspec.Struct, frozen=True):
    """How far a stream goes: the last message's sequence (0: none) and digest."""

    sequence: int
    digest: str


class Message(msgspec.Struct, frozen=True):
    """One message of a stream as it is stored."""

    sequence: int
    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def tag(self) -> str:
        """Type tag of the event."""
        return self.headers["ce-type"]

    @property
    def after_sequence(self) -> int:
        """Public position that a truth event follows; 0 for a public event."""
        return int(self.headers.get("ocg-after-seq", 0))

    @property
    def head(self) -> Head:
        """Return where the stream stands after this message."""
        return Head(self.sequence, self.headers["ocg-digest"])


def genesis(run: RunName, *, truth: bool) -> Head:
    """Return the head of an empty stream; its digest names the stream, so that no message fits another run's."""
    return Head(0, _hash(run.subject_root(truth=truth).encode()))


def seal(part: Encoded, run: RunName, head: Head, *, after_sequence: int | None = None) -> Message:
    """Return the message that carries an event after `head`; `after_sequence` is given for the truth stream, and only there."""
    truth = after_sequence is not None
    tag = type_tag(part.event)
    subject = run.subject(tag, truth=truth)
    headers = {
        "ce-specversion": "1.0",
        "ce-id": str(head.sequence + 1),
        "ce-type": tag,
        "ce-source": "/" + run.subject_root(truth=truth).replace(".", "/"),
        "ce-time": rfc3339(part.event.time),
        "content-type": content_type(type(part.event), part.body),
        "ocg-chain": head.digest,
    }
    if truth:
        headers["ocg-after-seq"] = str(after_sequence)
    headers["ocg-digest"] = _message_digest(subject, headers, part.body)
    return Message(head.sequence + 1, subject, headers, part.body)


def verify(message: Message, before: Head | None, *, where: str) -> Head:
    """Return the head after a message that was read; `before` is None where reading began in the middle.

    Raises: LogCorrupted: it isn't what was written, or doesn't follow `before`; names the sequence and `where` it was read.
    """
    headers = message.headers
    sealed = {name: value for name, value in headers.items() if name != "ocg-digest"}
    if headers.get("ocg-digest") != _message_digest(message.subject, sealed, message.body):
        raise LogCorrupted(f"{where}: message {message.sequence} was altered: its digest isn't that of its content")
    if headers["ce-id"] != str(message.sequence):
        raise LogCorrupted(f"{where}: message {message.sequence} was written as number {headers['ce-id']}")
    if before is not None and message.sequence != before.sequence + 1:
        raise LogCorrupted(f"{where}: message {before.sequence + 1} is missing, {message.sequence} follows")
    if before is not None and headers["ocg-chain"] != before.digest:
        raise LogCorrupted(f"{where}: message {message.sequence} doesn't continue the chain of the one before it")
    return message.head


class ContentDigest:
    """Running content digest of a run; messages of each stream in order, the streams interleaved in any way."""

    def __init__(self) -> None:
        self._streams = (hashlib.blake2b(digest_size=_DIGEST_BYTES), hashlib.blake2b(digest_size=_DIGEST_BYTES))

    def add(self, message: Message, *, truth: bool) -> None:
        """Take in the next message of a stream."""
        if message.tag not in _LEFT_OUT:
            stream = self._streams[truth]
            for field in (message.tag.encode(), message.headers["ce-time"].encode(), message.body):
                stream.update(len(field).to_bytes(8, "big"))
                stream.update(field)

    def hexdigest(self) -> str:
        """Return the digest so far, as 64 hex digits."""
        return _hash(b"".join(stream.digest() for stream in self._streams))


def _message_digest(subject: str, headers: dict[str, str], body: bytes) -> str:
    lines = "".join(f"{name}: {value}\n" for name, value in sorted(headers.items()))
    return _hash(f"{subject}\n{lines}\n".encode(), body)


def _hash(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
