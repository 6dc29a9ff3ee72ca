"""The gym API on the embedded stand: what a caller is promised, seen through the public face alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import anyio
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

import otel_control_gym as ocg
from otel_control_gym.engine.archive import read_archive
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.codec import encode
from otel_control_gym.engine.events import ActionRequested, EnvironmentRecorded, ObjectsWritten, RunDeclared
from otel_control_gym.engine.provenance import git_shas
from otel_control_gym.engine.settings import Randomization, RunConfig, RunIdentity


def short(seed: int = 7, **scenario: Any) -> RunConfig:
    """A run of 120 s control time under a light load: two users' worth of everything, in seconds of wall time."""
    config = ocg.resolve("small-core", workload="steady", seed=seed)
    return msgspec.structs.replace(
        config,
        public=msgspec.structs.replace(config.public, horizon_seconds=120),
        workload=msgspec.structs.replace(config.workload, users=60),
        scenario=msgspec.structs.replace(config.scenario, **scenario),
    )


@pytest_asyncio.fixture
async def env(tmp_path: Path) -> AsyncIterator[ocg.Env]:
    """An environment that is entered in one task and left in another, as fixtures are."""
    async with ocg.make(short(), data_dir=tmp_path) as env:
        yield env


async def test_an_episode_gives_observations_of_the_declared_shape_and_a_dataset(tmp_path: Path) -> None:
    async with ocg.make(short(), data_dir=tmp_path) as env:
        observation = await env.reset(seed=7)
        buckets = 300 // 10
        assert observation.nodes.shape == (buckets, len(observation.node_names), len(observation.node_features))
        assert observation.edges.shape == (buckets, len(observation.edge_names), len(observation.edge_features))
        assert not observation.node_mask[0].any(), "a row before the run began was filled"
        assert observation.node_mask[-1].any()
        assert np.isnan(observation.nodes[~observation.node_mask]).all()

        observation, reward, done, info = await env.step(ocg.Scale("checkout", replicas=2), dt=30)
        assert info["action"] is not None
        assert info["action"].status == "applied"
        assert not done
        assert np.isfinite(reward)
        ready = observation.nodes[
            -1, observation.node_names.index("checkout"), observation.node_features.index("replicas_ready")
        ]
        assert ready == 2

        wider = await env.observe(window=60, granularity=30)
        assert wider.nodes.shape[0] == 2
    assert ocg.validate(env.run_dir) == []


async def test_the_observation_is_the_table_bit_for_bit(tmp_path: Path) -> None:
    async with ocg.make(short(), data_dir=tmp_path) as env:
        await env.reset()
        for action in (ocg.Restart("recommendation"), ocg.Noop()):
            observation, *_ = await env.step(action)
    table = pq.read_table(env.run_dir / "node_features.parquet")
    starts = [moment * 1000 for moment in table["time"].cast("int64").to_pylist()]
    cells = {(start, row["service"]): row for start, row in zip(starts, table.to_pylist(), strict=True)}
    seen = 0
    for t, n, f in np.ndindex(observation.nodes.shape):
        row = cells.get((int(observation.time[t]), observation.node_names[n]))
        if observation.node_mask[t, n, f]:
            assert row is not None
            assert row[observation.node_features[f]] == observation.nodes[t, n, f]
            seen += 1
        else:
            assert row is None or row[observation.node_features[f]] is None
    assert seen > 1_000


async def test_each_seed_of_a_randomised_configuration_is_an_application_of_its_own_and_the_log_says_which(
    tmp_path: Path,
) -> None:
    declared = []
    async with ocg.make(short(randomize=Randomization(work=(0.5, 2.0), replicas=(1, 2))), data_dir=tmp_path) as env:
        for seed in (1, 2, 1):
            observation = await env.reset(seed=seed)
            await env.step(ocg.Noop())
            declared.append((env.run_dir, observation))
    effective = []
    for directory, observation in declared:
        entries = read_archive(directory / "event_log.zst", truth=False)
        settings = next(entry.event.settings for entry in entries if isinstance(entry.event, RunDeclared))
        assert settings.services.randomize is None
        row = observation.node_features.index("replicas_ready")
        ready = observation.nodes[-1, observation.node_names.index("frontend"), row]
        assert ready == settings.services.services["frontend"].replicas
        effective.append(settings.services)
    assert effective[0] == effective[2] != effective[1]
    first, _, again = (json.loads((directory / "metadata.json").read_text()) for directory, _ in declared)
    assert first["content_digest"] == again["content_digest"]


async def test_an_unknown_service_and_a_negative_count_raise_and_log_nothing(env: ocg.Env) -> None:
    await env.reset()
    _, _, _, info = await env.step(ocg.Noop())
    before = info["log_sequence"]
    with pytest.raises(ocg.InvalidAction, match="checkout"):
        await env.step({"type": "scale", "target": "chekout", "replicas": 2})
    with pytest.raises(ocg.InvalidAction, match="replicas"):
        await env.step({"type": "scale", "target": "checkout", "replicas": -1})
    observation = await env.observe()
    assert observation.log_sequence == before


async def test_a_rejected_action_is_data(env: ocg.Env) -> None:
    await env.reset()
    _, _, _, info = await env.step(ocg.Scale("postgresql", replicas=3))
    assert info["action"] is not None
    assert info["action"].status == "rejected"
    assert "stateful" in info["action"].reason


async def test_an_episode_is_done_at_its_horizon_and_says_so(env: ocg.Env) -> None:
    await env.reset()
    done = False
    steps = 0
    while not done:
        _, _, done, info = await env.step(ocg.Noop())
        steps += 1
    assert steps == 4
    assert info["done_reason"] == "horizon"
    assert info["truncated"]
    assert not info["terminated"]
    with pytest.raises(ocg.UsageError, match="reset"):
        await env.step(ocg.Noop())


async def test_a_step_ends_at_the_horizon_at_the_latest(env: ocg.Env) -> None:
    await env.reset()
    first, *_ = await env.step(ocg.Noop(), dt=30)
    last, _, done, info = await env.step(ocg.Noop(), dt=600)
    assert (done, info["done_reason"]) == (True, "horizon")
    assert last.time[-1] - first.time[-1] == 90 * 1_000_000_000


async def test_a_step_that_is_no_multiple_of_the_bucket_is_refused_with_both_values(env: ocg.Env) -> None:
    await env.reset()
    with pytest.raises(ocg.ConfigurationError, match=r"(?s)25.*10"):
        await env.step(ocg.Noop(), dt=25)


async def test_a_second_reset_closes_the_first_run_and_starts_from_the_same_state(env: ocg.Env) -> None:
    first = await env.reset(seed=3)
    first_directory = env.run_dir
    second = await env.reset(seed=3)
    assert ocg.validate(first_directory) == []
    assert np.array_equal(first.nodes, second.nodes, equal_nan=True)


async def test_same_seed_same_digest_and_another_seed_another(tmp_path: Path) -> None:
    digests = [await digest(tmp_path, seed, ocg.Noop()) for seed in (5, 5, 6)]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


async def test_a_run_s_place_among_others_is_in_its_metadata_and_changes_nothing_that_happens(tmp_path: Path) -> None:
    place = RunIdentity(stratum="single-fault", retry_of="01EARLIER", split_ids={"iid": "train"})
    told = {}
    for name, identity in (("placed", place), ("alone", RunIdentity())):
        config = msgspec.structs.replace(short(), identity=identity)
        async with ocg.make(config, data_dir=tmp_path) as env:
            await env.reset()
            await env.step(ocg.Noop())
        told[name] = json.loads((env.run_dir / "metadata.json").read_text())
        assert ocg.validate(env.run_dir) == []
    placed, alone = told["placed"], told["alone"]
    assert (placed["stratum"], placed["retry_of"], placed["split_ids"]) == (
        "single-fault",
        "01EARLIER",
        {"iid": "train"},
    )
    assert (alone["stratum"], alone["retry_of"], alone["split_ids"]) == (None, None, {})
    assert placed["content_digest"] == alone["content_digest"]
    assert (placed["status"], placed["void_rule"]) == ("completed", None)
    assert placed["image_digests"]["cart"].startswith("ghcr.io/open-telemetry/demo:2.2.0-cart")


async def digest(directory: Path, seed: int, *actions: Any) -> str:
    async with ocg.make(short(seed), data_dir=directory) as env:
        await env.reset()
        for action in actions:
            await env.step(action)
    metadata = json.loads((env.run_dir / "metadata.json").read_text())
    return str(metadata["content_digest"])


async def test_runs_that_differ_in_one_action_are_equal_up_to_it(tmp_path: Path) -> None:
    last: list[list[Any]] = []
    logs = []
    for second in (ocg.Noop(), ocg.Scale("frontend", replicas=2)):
        async with ocg.make(short(), data_dir=tmp_path) as env:
            seen = [await env.reset()]
            for action in (ocg.Noop(), second, ocg.Noop()):
                observation, *_ = await env.step(action)
                seen.append(observation)
        last.append(seen)
        entries = list(read_archive(env.run_dir / "event_log.zst"))
        decided = [number for number, entry in enumerate(entries) if isinstance(entry.event, ActionRequested)]
        logs.append(
            [
                (entry.truth, encode(entry.event))
                for entry in entries[: decided[1]]
                if not isinstance(entry.event, EnvironmentRecorded)
            ]
        )
    same, other = last
    assert logs[0] == logs[1]
    assert len(logs[0]) > 20
    assert all(np.array_equal(a.nodes, b.nodes, equal_nan=True) for a, b in zip(same[:2], other[:2], strict=True))
    assert not np.array_equal(same[3].nodes, other[3].nodes, equal_nan=True)


async def test_a_placebo_leaves_every_feature_bit_identical(tmp_path: Path) -> None:
    """Scaling to the present count is done, logged and verified, and nothing follows from it (science: "Coupling")."""
    tables = []
    for action in (ocg.Noop(), ocg.Scale("frontend", replicas=1)):
        async with ocg.make(short(), data_dir=tmp_path) as env:
            await env.reset()
            _, _, _, info = await env.step(action)
            await env.step(ocg.Noop())
            observation = await env.observe()
        assert info["action"] is not None
        assert info["action"].status == "applied"
        tables.append(observation)
    plain, placebo = tables
    assert np.array_equal(plain.nodes, placebo.nodes, equal_nan=True)
    assert np.array_equal(plain.edges, placebo.edges, equal_nan=True)
    assert np.array_equal(plain.node_mask, placebo.node_mask)


async def test_leaving_by_cancellation_keeps_a_valid_partial_run(tmp_path: Path) -> None:
    env = ocg.make(short(), data_dir=tmp_path)
    with anyio.CancelScope() as scope:
        async with env:
            await env.reset()
            await env.step(ocg.Noop())
            scope.cancel()
            await env.step(ocg.Noop())
    assert json.loads((env.run_dir / "metadata.json").read_text())["status"] == "aborted"
    assert ocg.validate(env.run_dir) == []


async def test_a_step_that_a_time_limit_cut_off_asks_for_a_reset_and_leaves_a_valid_run(tmp_path: Path) -> None:
    async with ocg.make(short(), data_dir=tmp_path, pace=30) as env:
        await env.reset()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(env.step(ocg.Scale("frontend", replicas=2)), 0.3)
        with pytest.raises(ocg.UsageError, match="reset"):
            await env.step(ocg.Noop())
        cut_off = env.run_dir
        await env.reset()
        assert (await env.observe()).log_sequence > 0
    assert json.loads((cut_off / "metadata.json").read_text())["status"] == "aborted"
    assert ocg.validate(cut_off) == []


async def test_a_scenario_that_plans_the_impossible_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    delay = {"type": "network_delay", "target": "frontend->cat", "duration_seconds": 60}
    config = short(interventions=(msgspec.convert({"at_seconds": 0, "action": delay}, type=ocg.PlannedAction),))
    with pytest.raises(ocg.ConfigurationError, match=r"interventions\[0\]"):
        ocg.make(config, data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


async def test_interventions_are_hidden_from_the_observation_and_stand_in_the_labels(tmp_path: Path) -> None:
    pressure = {"type": "cpu_pressure", "target": "recommendation", "intensity": "severe", "duration_seconds": 60}
    config = short(interventions=(msgspec.convert({"at_seconds": 30, "action": pressure}, type=ocg.PlannedAction),))
    async with ocg.make(config, data_dir=tmp_path) as env:
        await env.reset()
        done = False
        while not done:
            observation, _, done, info = await env.step(ocg.Noop())
            assert "cpu_pressure" not in repr(observation)
            assert all(record.action["type"] == "noop" for record in info["settled"])
    labels = pq.read_table(env.run_dir / "labels.parquet").to_pylist()
    fault = next(row for row in labels if row["is_fault"])
    assert fault["fault_type"] == "cpu_pressure"
    assert fault["applied"]


def test_the_synchronous_face_gives_the_same_observation(tmp_path: Path) -> None:
    async def asynchronous() -> Any:
        async with ocg.make(short(), data_dir=tmp_path) as env:
            return await env.reset()

    with ocg.synchronous(ocg.make(short(), data_dir=tmp_path)) as env:
        observation = env.reset()
    assert np.array_equal(observation.nodes, anyio.run(asynchronous).nodes, equal_nan=True)


async def test_the_stand_s_own_interfaces_can_be_reached_while_the_environment_is_open(env: ocg.Env) -> None:
    await env.reset()
    async with aiohttp.ClientSession(env.endpoints.kubernetes) as session, session.get("/version") as answer:
        assert answer.status == 200
        assert (await answer.json())["major"] == "1"


async def test_truth_is_revealed_only_on_request_and_the_metadata_says_so(tmp_path: Path) -> None:
    delay = {
        "type": "network_delay",
        "target": "frontend->cart",
        "latency_ms": 100,
        "jitter_ms": 0,
        "duration_seconds": 60,
    }
    config = short(interventions=(msgspec.convert({"at_seconds": 0, "action": delay}, type=ocg.PlannedAction),))
    for reveal in (False, True):
        async with ocg.make(config, data_dir=tmp_path, reveal_truth=reveal) as env:
            await env.reset()
            observation, *_ = await env.step(ocg.Noop())
        if reveal:
            assert observation.truth is not None
            assert [record.action["type"] for record in observation.truth] == ["network_delay"]
        else:
            assert observation.truth is None
        assert json.loads((env.run_dir / "metadata.json").read_text())["reveal_truth"] is reveal
        decision = pq.read_table(env.run_dir / "actions.parquet").to_pylist()[-1]
        assert decision["policy_information"] == ("privileged" if reveal else "public")


async def test_a_step_is_shown_to_whoever_watches_and_isn_t_logged(tmp_path: Path) -> None:
    import nats

    async with open_broker(tmp_path) as broker:
        watcher = await nats.connect(broker.url)
        views = await watcher.subscribe("ocg.view.>")
        async with ocg.make(short(), data_dir=tmp_path) as env:
            await env.reset()
            _, reward, _, info = await env.step(ocg.Noop())
            view = await views.next_msg(timeout=10)
            assert view.subject == f"ocg.view.{info['run_id']}.step"
            seen = json.loads(view.data)
            assert seen["reward"] == reward
            assert seen["action"]["status"] == "applied"
            assert (await env.observe()).log_sequence == info["log_sequence"]
        await watcher.close()


@pytest.mark.parametrize(
    ("propensity", "alternatives", "message"),
    [
        (0.0, None, "above 0"),
        (1.5, None, "at most 1"),
        (0.5, [{"action": {"type": "noop"}}], "probability"),
        (0.5, [{"action": {"type": "noop"}, "probability": 0.5}], "sum to 0.5"),
    ],
)
async def test_a_probability_that_is_none_is_refused(
    env: ocg.Env, propensity: float, alternatives: list[dict[str, Any]] | None, message: str
) -> None:
    await env.reset()
    with pytest.raises(ocg.UsageError, match=message):
        await env.step(ocg.Noop(), propensity=propensity, alternatives=alternatives)


async def test_the_reward_of_a_step_and_the_control_inputs_do_not_know_the_next_action(tmp_path: Path) -> None:
    async with ocg.make(short(), data_dir=tmp_path) as env:
        await env.reset(seed=7)
        rewards = [
            (await env.step(action))[1] for action in (ocg.Noop(), ocg.Scale("frontend", replicas=3), ocg.Noop())
        ]
    stored = [row["value"] for row in pq.ParquetFile(env.run_dir / "rewards.parquet").read().to_pylist()]
    assert rewards == stored[2:5]  # two of the warm-up come before them
    inputs = pq.ParquetFile(env.run_dir / "control_inputs.parquet").read().to_pylist()
    replicas = [row["value"] for row in inputs if (row["target"], row["name"]) == ("frontend", "replicas")]
    assert replicas[:12] == [1.0] * 9 + [3.0] * 3, "scaled at 90 s, where the tenth bucket begins"


async def test_a_hidden_intervention_without_effect_changes_nothing_that_is_public(tmp_path: Path) -> None:
    """Its versions are in the truth stream, those of the policy's own action too: in numbers they would differ."""
    hidden = ocg.PlannedAction(
        at_seconds=10,
        action={"type": "network_delay", "target": "frontend->cart", "intensity": "zero", "duration_seconds": 60},
    )
    digests, versions = [], []
    for interventions in ((), (hidden,)):
        async with ocg.make(short(interventions=interventions), data_dir=tmp_path) as env:
            await env.reset(seed=7)
            await env.step(ocg.Noop())
            await env.step(ocg.Restart("cart"))  # touches objects, and makes new ones, after the hidden ones were made
            await env.step(ocg.Noop())
        entries = list(read_archive(env.run_dir / "event_log.zst"))
        written = [(entry.event, entry.truth) for entry in entries if isinstance(entry.event, ObjectsWritten)]
        assert all(truth for _, truth in written)
        versions.append([item.version_after for event, _ in written for item in event.objects if item.name == "cart"])
        digests.append(
            [
                (type(entry.event).__name__, encode(entry.event))
                for entry in entries
                if not entry.truth and not isinstance(entry.event, EnvironmentRecorded)
            ]
        )
    assert [name for name, _ in digests[0]] == [name for name, _ in digests[1]]
    assert [a[0] for a, b in zip(*digests, strict=True) if a != b] == []
    assert len(versions[0]) == 1
    assert versions[0] < versions[1], "nothing hidden was written before"


async def test_a_policy_may_compute_with_numpy(env: ocg.Env) -> None:
    await env.reset(seed=cast("int", np.int64(3)))
    action = ocg.Scale("checkout", replicas=cast("int", np.int64(2)))
    weighed = [{"action": action, "probability": np.float32(1.0)}]
    *_, info = await env.step(action, cast("int", np.int64(30)), propensity=np.float64(1.0), alternatives=weighed)
    assert info["action"] is not None
    assert (info["action"].action["replicas"], info["action"].status) == (2, "applied")
    *_, info = await env.step({"type": "set_resources", "target": "cart", "cpu_limit_cores": np.float32(0.25)})
    assert info["action"] is not None
    assert info["action"].action["cpu_limit_cores"] == 0.25


@pytest.mark.parametrize("seed", ["a", 1.5, -1, 2**64, True])
async def test_a_seed_that_is_none_is_refused_before_anything_is_written(env: ocg.Env, seed: Any) -> None:
    with pytest.raises(ocg.UsageError, match="seed"):
        await env.reset(seed=seed)


@pytest.mark.parametrize("action", ["noop", None, 0, [], ocg.Noop, {"type": "scale", "target": object()}])
async def test_what_is_no_action_is_refused_by_name_and_the_episode_goes_on(env: ocg.Env, action: Any) -> None:
    await env.reset()
    with pytest.raises(ocg.InvalidAction, match=r"scale"):
        await env.step(action)
    await env.step(ocg.Noop())


async def test_arguments_of_the_wrong_type_are_refused_by_name_and_the_episode_goes_on(env: ocg.Env) -> None:
    await env.reset()
    wrong: Any = "30"
    with pytest.raises(ocg.UsageError, match="dt"):
        await env.step(ocg.Noop(), wrong)
    with pytest.raises(ocg.UsageError, match="window"):
        await env.observe(window=wrong)
    with pytest.raises(ocg.UsageError, match="granularity"):
        await env.observe(granularity=wrong)
    with pytest.raises(ocg.UsageError, match="propensity"):
        await env.step(ocg.Noop(), propensity=wrong)
    for alternatives in ([1], [{"action": object(), "probability": 1.0}]):
        with pytest.raises(ocg.UsageError, match="alternatives"):
            await env.step(ocg.Noop(), alternatives=cast("Any", alternatives))
    await env.step(ocg.Noop())


async def test_an_environment_that_was_closed_is_not_opened_again(tmp_path: Path) -> None:
    env = ocg.make(short(), data_dir=tmp_path)
    async with env:
        pass
    with pytest.raises(ocg.UsageError, match="make another"):
        async with env:
            pass


async def test_the_metadata_names_what_made_the_run(tmp_path: Path) -> None:
    async with ocg.make(short(), data_dir=tmp_path) as env:
        await env.reset()
    metadata = json.loads((env.run_dir / "metadata.json").read_text())
    assert len(metadata["hashes"]["lock"]) == 64
    assert "emulated" in metadata["collector_config_hash"]
    assert metadata["git_shas"] == git_shas()


async def test_an_advance_is_a_step_without_the_observation(tmp_path: Path) -> None:
    restart = {"type": "restart", "target": "cart"}
    async with ocg.make(short(), data_dir=tmp_path) as env:
        await env.reset()
        seen, *paid, stepped = await env.step(restart)
        await env.reset()
        reward, done, advanced = await env.advance(restart)
        looked = await env.observe()
    assert msgspec.to_builtins({**stepped, "run_id": ""}) == msgspec.to_builtins({**advanced, "run_id": ""})
    assert paid == [reward, done]
    np.testing.assert_array_equal(seen.nodes, looked.nodes)
    assert seen.log_sequence == looked.log_sequence
