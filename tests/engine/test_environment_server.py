"""A process that speaks JSON over NATS drives an environment as one in this process would, and never waits in vain."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import nats
import nats.errors
import numpy as np
import pytest
import pytest_asyncio
from nats.aio.client import Client

import otel_control_gym as ocg
from otel_control_gym.engine.broker import Broker, RemoteBroker
from otel_control_gym.engine.environment_server import EnvironmentServer
from otel_control_gym.engine.jetstream import JetStream
from otel_control_gym.engine.settings import RunConfig

ANSWER_SECONDS = 60.0


def short() -> RunConfig:
    config = ocg.resolve("small-core", workload="steady", seed=7, horizon_seconds=60)
    return msgspec.structs.replace(config, workload=msgspec.structs.replace(config.workload, users=20))


class Driver:
    """What an external process does: plain NATS requests with JSON in them."""

    def __init__(self, client: Client, subject: str) -> None:
        self.client, self.subject = client, subject

    async def ask(self, request: str, /, *, version: int = 1, **fields: Any) -> dict[str, Any]:
        body = json.dumps({"version": version, "request": request, **fields}).encode()
        answer: dict[str, Any] = json.loads(
            (await self.client.request(self.subject, body, timeout=ANSWER_SECONDS)).data
        )
        assert answer["version"] == 1
        return answer

    async def open(self, **fields: Any) -> Driver:
        return Driver(self.client, (await self.ask("open", **fields))["subject"])


@pytest_asyncio.fixture
async def client(broker_url: str) -> AsyncIterator[Client]:
    client = await nats.connect(broker_url)
    yield client
    await client.close()


class Serving:
    """A server in the test's own loop."""

    def __init__(self, broker: Broker, data_dir: Path, name: str, **options: Any) -> None:
        self._broker, self._data_dir, self._name, self._options = broker, data_dir, name, options
        self.changes: list[str] = []
        self._change = anyio.Event()

    async def __aenter__(self) -> Serving:
        self._jetstream = JetStream(self._broker)
        await self._jetstream.__aenter__()
        make = partial(ocg.make, short(), data_dir=self._data_dir, nats=self._broker.url, actor="external")
        server = EnvironmentServer(self._jetstream, make, name=self._name, on_change=self._note, **self._options)
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        await self._group.start(server.serve)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)
        await self._jetstream.__aexit__(None, None, None)

    def _note(self, sentence: str) -> None:
        self.changes.append(sentence)
        self._change.set()

    async def wait_for(self, word: str) -> str:
        """Return the change that says `word`, once there is one."""
        with anyio.fail_after(60):
            while not (found := [change for change in self.changes if word in change]):
                await self._change.wait()
                self._change = anyio.Event()
        return found[0]


def numbers(array: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    if isinstance(array, dict):
        return np.frombuffer(base64.b64decode(array["base64"]), array["dtype"]).reshape(array["shape"])
    return np.array(array, dtype=np.float64)


async def test_a_driver_sees_and_earns_what_a_caller_in_the_process_does(
    broker_url: str, client: Client, tmp_path: Path
) -> None:
    action = {"type": "scale", "target": "checkout", "replicas": 2}
    async with ocg.make(short(), data_dir=tmp_path / "here", nats=broker_url) as env:
        first = await env.reset(seed=3)
        second, reward, done, _ = await env.step(action)
        narrow = await env.observe(60, 20)
    async with Serving(RemoteBroker(broker_url), tmp_path / "there", "same"):
        driver = await Driver(client, "ocg.env.same").open(arrays="base64")
        told = (await driver.ask("reset", seed=3))["observation"]
        stepped = await driver.ask("step", action=action, step=0)
        looked = (await driver.ask("observe", window_seconds=60, bucket_seconds=20))["observation"]
        closed = await driver.ask("close")
    assert np.array_equal(numbers(told["nodes"]), first.nodes, equal_nan=True)
    assert np.array_equal(numbers(stepped["observation"]["edges"]), second.edges, equal_nan=True)
    assert np.array_equal(numbers(stepped["observation"]["offered_rate"]), second.offered_rate, equal_nan=True)
    assert np.array_equal(numbers(looked["nodes"]), narrow.nodes, equal_nan=True)
    assert (stepped["reward"], stepped["done"], stepped["info"]["action"]["status"]) == (reward, done, "applied")
    assert not ocg.validate(closed["run_dir"])


async def test_lists_say_null_where_nothing_is_known(broker_url: str, client: Client, tmp_path: Path) -> None:
    async with Serving(RemoteBroker(broker_url), tmp_path, "lists"):
        driver = await Driver(client, "ocg.env.lists").open(window_seconds=60)
        observation = (await driver.ask("reset"))["observation"]
    array = numbers(observation["nodes"])
    assert array.shape[0] == 6
    assert array.shape == (len(observation["time"]), len(observation["node_names"]), len(observation["node_features"]))
    assert np.isnan(array).any()
    assert not np.isnan(array).all()


async def test_what_is_wrong_is_an_answer_and_the_session_goes_on(
    broker_url: str, client: Client, tmp_path: Path
) -> None:
    async with Serving(RemoteBroker(broker_url), tmp_path, "wrong"):
        server = Driver(client, "ocg.env.wrong")
        assert "open" in (await server.ask("reset"))["error"]["message"]
        driver = await server.open()
        assert (await driver.ask("step", action={"type": "noop"}))["error"]["type"] == "UsageError"
        await driver.ask("reset")
        for request, fields, message in (
            ("step", {"action": {"type": "scale", "target": "nobody", "replicas": 2}}, "nobody"),
            ("step", {"action": {"type": "noop"}, "sceonds": 30}, "sceonds"),
            ("step", {"action": {"type": "noop"}, "step": 4}, "the next one is 0"),
            ("observe", {"window_seconds": 7}, "multiple"),
            ("jump", {}, "jump"),
            ("reset", {"version": 2}, "version 1"),
        ):
            assert message in (await driver.ask(request, **fields))["error"]["message"], request
        raw = await client.request(driver.subject, b"\xff", timeout=ANSWER_SECONDS)
        assert "error" in json.loads(raw.data)
        assert "error" not in await driver.ask("step", action={"type": "noop"})


async def test_a_step_that_is_asked_for_again_is_answered_again_and_not_done_again(
    broker_url: str, client: Client, tmp_path: Path
) -> None:
    async with Serving(RemoteBroker(broker_url), tmp_path, "again"):
        driver = await Driver(client, "ocg.env.again").open()
        await driver.ask("reset")
        first = await driver.ask("step", action={"type": "noop"}, step=0)
        assert await driver.ask("step", action={"type": "noop"}, step=0) == first
        assert (await driver.ask("step", action={"type": "noop"}, step=1))["done"], "the horizon is two steps away"


async def test_one_environment_has_one_driver_at_a_time(broker_url: str, client: Client, tmp_path: Path) -> None:
    async with Serving(RemoteBroker(broker_url), tmp_path, "busy") as serving:
        server = Driver(client, "ocg.env.busy")
        driver = await server.open()
        assert (await server.ask("open"))["error"]["type"] == "Busy"
        await driver.ask("close")
        await serving.wait_for("is over: closed")
        assert "error" not in await server.ask("open")


async def test_a_driver_that_dies_leaves_a_whole_run_and_its_place(
    broker_url: str, client: Client, tmp_path: Path
) -> None:
    async with Serving(RemoteBroker(broker_url), tmp_path, "lease", lease_seconds=1.0) as serving:
        driver = await Driver(client, "ocg.env.lease").open()
        run_id = (await driver.ask("reset"))["run_id"]
        assert "nothing was asked for 1 s" in await serving.wait_for("is over")
        with pytest.raises(nats.errors.NoRespondersError):
            await driver.ask("step", action={"type": "noop"})
        await Driver(client, "ocg.env.lease").open()
    (run,) = ocg.find_runs(tmp_path)[:1]
    assert ocg.open_run(run_id, tmp_path).metadata["status"] == "completed", run


async def test_a_server_that_ends_ends_its_sessions_in_order(broker_url: str, client: Client, tmp_path: Path) -> None:
    async with Serving(RemoteBroker(broker_url), tmp_path, "ends"):
        driver = await Driver(client, "ocg.env.ends").open()
        run_id = (await driver.ask("reset"))["run_id"]
    assert ocg.open_run(run_id, tmp_path).metadata["status"] == "aborted"
    with pytest.raises(nats.errors.NoRespondersError):
        await driver.ask("observe")


async def test_a_name_that_would_be_another_subject_is_refused(broker: Broker, tmp_path: Path) -> None:
    async with JetStream(broker) as jetstream:
        with pytest.raises(ocg.UsageError, match="letters"):
            EnvironmentServer(jetstream, partial(ocg.make, short(), data_dir=tmp_path), name="a.>")
