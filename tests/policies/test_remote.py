"""A policy in another process decides as one of ours would, or its episode ends in order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg

import otel_control_gym as ocg
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.policies.evaluation.cases import Case
from otel_control_gym.policies.evaluation.contenders import AskedThrough, Contender, check_names, opened_policy
from otel_control_gym.policies.remote import policy_subject, remote_policy

SUBJECT = "policies.mine"
Answer = Callable[[dict[str, Any]], dict[str, Any]]


def short() -> RunConfig:
    config = ocg.resolve("small-core", workload="steady", seed=7, horizon_seconds=60)
    return msgspec.structs.replace(
        config,
        workload=msgspec.structs.replace(config.workload, users=20),
        scenario=msgspec.structs.replace(config.scenario, name="secret-fault"),
    )


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with open_broker(tmp_path) as broker:
        client = await nats.connect(broker.url)
        yield client
        await client.close()


async def answering(client: Client, answer: Answer) -> None:
    """Answer as an external policy does."""

    async def reply(message: Msg) -> None:
        await message.respond(json.dumps(answer(json.loads(message.data))).encode())

    await client.subscribe(SUBJECT, cb=reply)
    await client.flush()


async def test_it_is_told_what_is_public_and_asked_at_every_step(client: Client, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        if question["request"] == "begin":
            return {"version": 1, "policy_version": "mine-3"}
        action = {"type": "scale", "target": "cart", "replicas": 2} if question["step"] == 1 else {"type": "noop"}
        return {"version": 1, "action": action, "propensity": 0.5, "alternatives": [{"action": action}]}

    await answering(client, answer)
    config = short()
    menu = [{"type": "restart", "target": "cart"}]
    async with (
        remote_policy(SUBJECT, config.public, data_dir=tmp_path, menu=menu) as policy,
        ocg.make(config, data_dir=tmp_path, policy_version=policy.version) as env,
    ):
        observation = await env.reset()
        for step in range(2):
            choice = await policy.decide(observation, step, 30 * step)
            observation, *_ = await env.step(choice.action, propensity=choice.propensity)
    assert policy.version == "mine-3"
    assert [question["request"] for question in asked] == ["begin", "decide", "decide"]
    assert asked[0]["menu"] == menu
    assert len({question["episode"] for question in asked}) == 1
    assert asked[2]["seconds"] == 30
    assert asked[1]["observation"]["node_names"] == list(observation.node_names)
    told = json.dumps(asked)
    assert config.scenario.name not in told
    assert '"seed"' not in told
    rows = ocg.open_run(env.run_dir).table("actions").to_arrow().to_pylist()
    assert [row["action_type"] for row in rows] == ["noop", "scale"]
    assert {row["propensity"] for row in rows} == {0.5}


async def test_it_takes_part_in_an_evaluation_by_its_subject(client: Client, tmp_path: Path) -> None:
    await answering(client, lambda _: {"version": 1, "policy_version": "mine-4", "information": "privileged"})
    name = f"nats:{SUBJECT}"
    check_names([name, "noop"])
    case = Case(scenario="surge", family_id="surge/1", config=short(), menu=())
    contender = Contender(name=name, asked_through=AskedThrough(data_dir=tmp_path))
    async with opened_policy(contender, case, ocg.make(short(), data_dir=tmp_path), None) as policy:
        assert (policy.version, policy.information) == ("mine-4", "privileged")


async def test_a_policy_that_dies_ends_the_episode_in_order(client: Client, tmp_path: Path) -> None:
    await answering(client, lambda _: {"version": 1})
    env = ocg.make(short(), data_dir=tmp_path)

    async def play() -> None:
        async with remote_policy(SUBJECT, short().public, data_dir=tmp_path, seconds=5) as policy, env:
            observation = await env.reset()
            await client.close()
            await policy.decide(observation, 0, 0)

    with pytest.raises(ocg.PolicyError, match="start it first"):
        await play()
    run = ocg.open_run(env.run_dir)
    assert run.metadata["status"] == "aborted"
    assert not ocg.validate(run.path)


async def test_nobody_there_is_told_at_once(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ocg.PolicyError, match=r"policies\.mine"):
        async with remote_policy(SUBJECT, short().public, data_dir=tmp_path):
            pytest.fail("nobody answers there")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"version": 1, "error": {"type": "Tired", "message": "not today"}}, "Tired: not today"),
        ({"version": 2}, "version = 2"),
        ({"version": 1, "information": "all"}, "no 'Begun'"),
        ({}, "version = None"),
    ],
)
async def test_an_answer_that_is_none_is_an_error_that_says_why(
    client: Client, tmp_path: Path, answer: dict[str, Any], message: str
) -> None:
    await answering(client, lambda _: answer)
    with pytest.raises(ocg.PolicyError, match=message):
        async with remote_policy(SUBJECT, short().public, data_dir=tmp_path):
            pytest.fail("that was no answer")


async def test_a_silent_policy_is_not_waited_for(client: Client, tmp_path: Path) -> None:
    async def hear(_: Msg) -> None: ...

    await client.subscribe(SUBJECT, cb=hear)
    await client.flush()
    with pytest.raises(ocg.PolicyError, match=r"gives no answer.*\n.* 0\.2 s"):
        async with remote_policy(SUBJECT, short().public, data_dir=tmp_path, seconds=0.2):
            pytest.fail("it said nothing")


@pytest.mark.parametrize("name", ["nats:", "nats:a..b", "nats:a.*", "nats:>"])
def test_a_subject_names_one_policy(name: str) -> None:
    assert policy_subject("nats:policies.mine") == "policies.mine"
    assert policy_subject("threshold") is None
    with pytest.raises(ocg.UsageError, match="a subject has parts"):
        policy_subject(name)
