"""Logs of the application's containers, as the Kubernetes API keeps them ➜ log records.

In: moments. Out: ResourceLogs of lines that weren't there before, and what is missing. `GET pods/NAME/log` gives what a container's current
instance (or, asked for, the one before) has written since a second, the oldest first. Who reads it needs `pods/log`.

Where a reading goes on is the last line that was read, which the answer, asked for from its second on, has to begin with. That is also
how losses are noticed:
- The last line isn't there any more: the kubelet has rotated the file (10 MiB) and what was in between is gone.
- The container was restarted: the instance before is read to its end first; of several restarts between two looks, the others' are gone.
- The pod is gone, and what it has written since the last look with it.
- There is more than `_LIMIT_BYTES`: what comes after waits for the next look, and may then be too late for the tables.
Programs that send their logs by OTLP alone are silent here, which isn't a gap: their logs aren't the pod's. Next: `pod_log_lines`.
"""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec

from otel_control_gym.collectors.kubernetes_rows import service_of
from otel_control_gym.collectors.pod_log_lines import Line, parsed, records
from otel_control_gym.collectors.retrieved import Retrieved, Unread, asked, bounded
from otel_control_gym.engine.clock import SECOND, date_time
from otel_control_gym.engine.protocols import Endpoints

__all__ = ("PodLogs",)

_LIMIT_BYTES = 4 * 2**20  #: of a container's log, at a look
_SLACK_BYTES = 1 << 16  #: a server may give slightly more than it was asked for
_LIST_BYTES = 64 * 2**20
_NAMED = 3  #: containers of a gap's reason
_NOT_STARTED = 400  #: what a container that hasn't started yet is answered with

_MORE = f"more than {_LIMIT_BYTES // 2**20} MiB at once"
_ROTATED = "the file was rotated"
_UNREADABLE = "the kubelet can't read it"
_BETWEEN = "restarted more than once"
_BEFORE = "restarted, and the instance before isn't kept"
_GONE = "the pod is gone, and with it what it wrote last"


class _Metadata(msgspec.Struct):
    name: str
    uid: str
    labels: dict[str, str] | None = None


class _State(msgspec.Struct):
    running: dict[str, Any] | None = None
    terminated: dict[str, Any] | None = None

    @property
    def has_begun(self) -> bool:
        return self.running is not None or self.terminated is not None


class _Container(msgspec.Struct, rename="camel"):
    name: str
    restart_count: int = 0
    state: _State = msgspec.field(default_factory=_State)


class _Status(msgspec.Struct, rename="camel"):
    container_statuses: list[_Container] | None = None


class _Pod(msgspec.Struct):
    metadata: _Metadata
    status: _Status = msgspec.field(default_factory=_Status)


class _Pods(msgspec.Struct):
    items: list[_Pod] | None = None


class _Tail(msgspec.Struct):
    """How far a container's log has been read."""

    pod: str
    container: str
    service: str
    since: int  #: [ns]
    restarts: int
    last: Line | None = None

    def news(self, lines: list[Line]) -> tuple[list[Line], bool]:
        """Return the lines that come after the last one, and whether that one was still there; the last of them becomes the last one."""
        kept, found = self.last is None, lines
        if self.last is not None:
            places = [place for place, line in enumerate(lines) if line == self.last]
            kept = bool(places)
            found = lines[places[-1] + 1 :] if places else [line for line in lines if line.time > self.last.time]
        self.last = found[-1] if found else self.last
        return found, kept


class PodLogs:
    """Reads the logs of one namespace's application; `now` is the run's first moment, `services` are whose logs are wanted."""

    def __init__(self, endpoints: Endpoints, services: frozenset[str], *, now: int) -> None:
        self._pods = f"{endpoints.kubernetes}/api/v1/namespaces/{endpoints.namespace}/pods"
        self._services = services
        self._now = now
        self._tails: dict[tuple[str, str], _Tail] = {}  # by the pod's UID and the container
        self._began = False

    async def read(self, session: aiohttp.ClientSession) -> Retrieved:
        """Return what is new."""
        try:
            pods = await self._list(session)
        except Unread as unread:
            return Retrieved([], (f"not collected: pods can't be listed: {unread}",))
        except msgspec.MsgspecError:
            return Retrieved([], ("not collected: the list of pods can't be read",))
        problems: dict[str, list[str]] = {}
        messages = []
        here: dict[tuple[str, str], None] = {}
        for pod in pods:
            service = service_of(pod.metadata.labels)
            if service not in self._services:
                continue
            for container in pod.status.container_statuses or []:
                if not (container.state.has_begun or container.restart_count):
                    continue
                key = (pod.metadata.uid, container.name)
                here[key] = None
                tail = self._tails.get(key)
                if tail is None:
                    restarts = 0 if self._began else container.restart_count  # before the run isn't the run's
                    tail = _Tail(pod.metadata.name, container.name, service, self._now, restarts)
                    self._tails[key] = tail
                lines = await self._read_container(session, tail, container.restart_count, problems)
                if lines:
                    messages.append(records(lines, service=service, pod=pod.metadata.name))
        for key in [key for key in self._tails if key not in here]:
            _note(problems, _GONE, self._tails.pop(key))
        self._began = True
        return Retrieved(messages, tuple(_told(reason, names) for reason, names in problems.items()))

    async def _list(self, session: aiohttp.ClientSession) -> list[_Pod]:
        async with asked(session, self._pods) as response:
            body = await bounded(response, _LIST_BYTES)
            if response.status != 200:
                raise Unread(f"HTTP {response.status}", response.status)
            return msgspec.json.decode(body.content, type=_Pods).items or []

    async def _read_container(
        self, session: aiohttp.ClientSession, tail: _Tail, restarts: int, problems: dict[str, list[str]]
    ) -> list[Line]:
        """Return a container's new lines, the instance's before it first if it was restarted."""
        found: list[Line] = []
        restarted = restarts > tail.restarts
        if restarts > tail.restarts + 1:
            _note(problems, _BETWEEN, tail)
        tail.restarts = restarts
        for previous in (True, False) if restarted else (False,):
            try:
                lines = await self._lines(session, tail, previous=previous, problems=problems)
            except Unread as unread:
                if unread.status != _NOT_STARTED:
                    _note(problems, f"not collected: {unread}", tail)
                elif previous:
                    _note(problems, _BEFORE, tail)
                continue
            new, kept = tail.news(lines)
            if not kept and previous == restarted:  # the new instance's log never had the last line of the one before
                _note(problems, _ROTATED, tail)
            found += new
        return found

    async def _lines(
        self, session: aiohttp.ClientSession, tail: _Tail, *, previous: bool, problems: dict[str, list[str]]
    ) -> list[Line]:
        """Return what an instance has written since the second of the last line.

        Raises: Unread: it can't be told.
        """
        since = tail.since if tail.last is None else tail.last.time
        query = {
            "container": tail.container,
            "timestamps": "true",
            "sinceTime": f"{date_time(since // SECOND)}Z",
            "limitBytes": str(_LIMIT_BYTES),
            **({"previous": "true"} if previous else {}),
        }
        async with asked(session, f"{self._pods}/{tail.pod}/log", query) as response:
            body = await bounded(response, _LIMIT_BYTES + _SLACK_BYTES)
            if response.status != 200:
                raise Unread(f"HTTP {response.status}", response.status)
        content = body.content
        if not body.whole or len(content) >= _LIMIT_BYTES:
            _note(problems, _MORE, tail)
            content = content.rpartition(b"\n")[0]  # the last line is cut off
        lines, whole = parsed(content)
        if not whole:
            _note(problems, _UNREADABLE, tail)
        return lines


def _note(problems: dict[str, list[str]], reason: str, tail: _Tail) -> None:
    problems.setdefault(reason, []).append(f"{tail.pod}/{tail.container}")


def _told(reason: str, names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}: {reason}"
