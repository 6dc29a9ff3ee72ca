"""Environments for other processes, over NATS: each session drives one of its own, under a lease.

In: a way to make environments, a connection. Out: answers on `ocg.env.<name>` (`open`) and on a subject per session (`reset`, `observe`,
`step`, `close`); the messages are those of `engine.remote_messages`.

Nobody is left waiting, and nothing is left lying: whatever goes wrong is an answer; who asks where nobody serves is told by NATS at once; a
session that isn't asked anything for the length of its lease is over, its episode ended in order and its dataset written. Requests of a
session are answered one after the other. One whose answer got lost can be asked again: a step has a number, and is done once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskGroup, TaskStatus

from otel_control_gym.engine.clock import new_run_id
from otel_control_gym.engine.env import Env
from otel_control_gym.engine.errors import OtelControlGymError, UsageError
from otel_control_gym.engine.jetstream import JetStream
from otel_control_gym.engine.remote_messages import (
    Answer,
    Close,
    Closed,
    DriverRequest,
    Observe,
    Observed,
    Open,
    Opened,
    Reset,
    Step,
    Stepped,
    driver_request,
    info_message,
    observation_message,
    refusal,
)

__all__ = ("ANSWER_BYTES", "EnvironmentServer", "server_subject")

ANSWER_BYTES = 1_000_000  #: below what NATS takes in a message (1 MiB unless it is configured otherwise)

_LOGGER = logging.getLogger(__name__)


def server_subject(name: str) -> str:
    """Return the subject of a server.

    Raises: UsageError: the name can't stand in a subject.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name):
        raise UsageError(f"{name!r}: a server's name is made of letters, digits, - and _")
    return f"ocg.env.{name}"


class EnvironmentServer:
    """Serves up to `sessions` environments at a time; `make` makes one that isn't open yet."""

    def __init__(
        self,
        jetstream: JetStream,
        make: Callable[[], Env],
        *,
        name: str,
        sessions: int = 1,
        lease_seconds: float = 120.0,
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_change` is told in one sentence who comes and goes.

        Raises: UsageError: the name can't stand in a subject.
        """
        self.subject = server_subject(name)
        self._jetstream = jetstream
        self._make = make
        self._limit = sessions
        self._lease_seconds = lease_seconds
        self._on_change = on_change
        self._sessions: dict[str, _Session] = {}
        self._group: TaskGroup | None = None

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until this is cancelled; sessions that are open then are ended in order."""
        async with anyio.create_task_group() as self._group, self._jetstream.serving(self.subject, self._answer):
            task_status.started()
            await anyio.sleep_forever()

    async def _answer(self, body: bytes) -> bytes:
        return await answered(self._open, body)

    async def _open(self, request: DriverRequest) -> Answer:
        if not isinstance(request, Open):
            raise UsageError(f"{_word(request)!r} is asked on a session's subject; ask `open` here to be given one")
        if len(self._sessions) >= self._limit:
            left = min(session.lease_left for session in self._sessions.values())
            return refusal(
                f"all {self._limit} environments are taken; the next lease may end in {max(left, 0.0):.0f} s", "Busy"
            )
        assert self._group is not None
        session = _Session(self._make(), self._jetstream, request, self.subject, self._lease_seconds)
        self._sessions[session.id] = session
        try:
            await self._group.start(self._keep, session)
        except BaseException:
            self._sessions.pop(session.id, None)
            raise
        return session.opened()

    async def _keep(self, session: _Session, *, task_status: TaskStatus[None]) -> None:
        """Keep a session until its end. One that fails is over; the others go on."""
        begun = False

        class Status:
            def started(self, value: None = None) -> None:
                nonlocal begun
                begun = True
                task_status.started(value)

        why = "the server ends"
        try:
            self._on_change(f"session {session.id} opens an environment")
            why = await session.run(task_status=Status())
        except Exception as error:
            if not begun:
                raise
            why = str(error)
            _LOGGER.error("session %s: %s", session.id, error)
        finally:
            self._sessions.pop(session.id, None)
            self._on_change(f"session {session.id} is over: {why}")


class _Session:
    """One environment in one driver's hands."""

    def __init__(self, env: Env, jetstream: JetStream, request: Open, root: str, lease_seconds: float) -> None:
        self.id = new_run_id()
        self.subject = f"{root}.{self.id}"
        self._env = env
        self._jetstream = jetstream
        self._arrays, self._window = request.arrays, request.window_seconds
        self._lease_seconds = lease_seconds
        self._deadline = anyio.current_time() + lease_seconds
        self._closed = anyio.Event()
        self._steps = 0
        self._last: Stepped | None = None

    @property
    def lease_left(self) -> float:
        """Seconds until the lease ends unless something is asked; infinite while something is being done."""
        return self._deadline - anyio.current_time()

    def opened(self) -> Opened:
        """Return what the driver is told at first."""
        public = self._env.config.public
        return Opened(
            session=self.id,
            subject=self.subject,
            lease_seconds=self._lease_seconds,
            application=public.services.name,
            nodes=tuple(public.services.services),
            edges=tuple((edge.source, edge.target, edge.protocol) for edge in public.services.edges),
            control_step_seconds=public.granularity.control_step_seconds,
            horizon_seconds=public.horizon_seconds,
        )

    async def run(self, *, task_status: TaskStatus[None]) -> str:
        """Serve until the driver closes the session or its lease ends; return which."""
        async with self._env, self._jetstream.serving(self.subject, self._answer):
            self._deadline = anyio.current_time() + self._lease_seconds
            task_status.started()
            while (left := self.lease_left) > 0:
                with anyio.move_on_after(min(left, self._lease_seconds)):
                    await self._closed.wait()
                    return "closed"
        return f"nothing was asked for {self._lease_seconds:g} s"

    async def _answer(self, body: bytes) -> bytes:
        self._deadline = float("inf")
        try:
            return await answered(self._done, body)
        finally:
            self._deadline = anyio.current_time() + self._lease_seconds

    async def _done(self, request: DriverRequest) -> Answer:
        match request:
            case Open():
                raise UsageError(f"session {self.id} is open already")
            case Reset():
                self._steps, self._last = 0, None
                await self._env.reset(request.seed)
                return await self._observed(self._window, None)
            case Observe():
                return await self._observed(request.window_seconds or self._window, request.bucket_seconds)
            case Step():
                return await self._step(request)
            case Close():
                await self._env.close_episode()
                self._closed.set()
                return Closed(run_dir=None if self._env.run_id is None else str(self._env.run_dir))

    async def _step(self, request: Step) -> Stepped:
        if request.step is not None and request.step != self._steps:
            if self._last is not None and request.step == self._last.step:
                return self._last
            raise UsageError(f"step = {request.step}: the next one is {self._steps}")
        observation, reward, done, info = await self._env.step(
            request.action, request.seconds, propensity=request.propensity, alternatives=request.alternatives
        )
        if self._window is not None:
            observation = await self._env.observe(self._window)
        self._last = Stepped(
            observation=observation_message(observation, self._arrays),
            reward=reward,
            done=done,
            info=info_message(info),
            step=self._steps,
        )
        self._steps += 1
        return self._last

    async def _observed(self, window: int | None, bucket: int | None) -> Observed:
        observation = await self._env.observe(window, bucket)
        return Observed(observation=observation_message(observation, self._arrays), run_id=self._env.run_id or "")


async def answered(do: Callable[[DriverRequest], Awaitable[Answer]], body: bytes) -> bytes:
    """Return the answer to a message, whatever becomes of it."""
    try:
        answer: Answer = await do(driver_request(body))
    except OtelControlGymError as error:
        answer = refusal(error)
    except Exception as error:  # whoever asked must not wait for ever because of a mistake of ours
        _LOGGER.exception("a request failed")
        answer = refusal(f"unexpected {type(error).__name__}: {error}", "Unexpected")
    sent = msgspec.json.encode(answer)
    if len(sent) > ANSWER_BYTES:
        sent = msgspec.json.encode(
            refusal(
                f"the answer has {len(sent)} bytes, a message holds {ANSWER_BYTES}\n"
                '  open the session with a shorter `window_seconds`, or with `"arrays": "base64"`',
                "TooLarge",
            )
        )
    return sent


def _word(request: Any) -> str:
    return str(request.__struct_config__.tag)
