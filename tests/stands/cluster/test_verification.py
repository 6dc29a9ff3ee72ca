"""A restored stand is looked at: rules that are left, messages that nobody has read, errors and latency out of its band are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.cluster.availability import Patience
from otel_control_gym.stands.cluster.band import Band
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.consumer_lag import GroupSample, backlog, wait_consumed
from otel_control_gym.stands.cluster.kept_baseline import keep_baseline, kept_baseline
from otel_control_gym.stands.cluster.known_state import Reset, restore
from otel_control_gym.stands.cluster.network_rules import rules_left, wait_no_rules
from tests.stands.cluster.served import configuration, connected

CONFIG = configuration("async-store")
SOON = Patience(seconds=20.0, look_seconds=0.1)
PATIENCE = Patience(seconds=60.0, look_seconds=0.1)
CHAOS = "apis/chaos-mesh.org/v1alpha1/namespaces/otel-demo"


async def reset(connection: Connection, **options: Any) -> Reset:
    async def nothing_left() -> tuple[str, ...]:
        return ()

    return await restore(connection, CONFIG, "soft", remove_chaos=nothing_left, patience=PATIENCE, **options)


async def look_until_there_is_a_rule(connection: Connection) -> None:
    with anyio.fail_after(20):
        while True:
            await wait_no_rules(connection, Patience(seconds=0.0, look_seconds=0.1))
            await anyio.sleep(0.1)


@pytest.mark.timeout(300)
async def test_a_restored_stand_is_seen_to_be_well(tmp_path: Path) -> None:
    async with connected(tmp_path, CONFIG, pace=80.0) as connection:
        first = (await reset(connection)).verification
        assert first.band is not None
        assert (first.pod_networks, first.band_measured, len(first.levels)) == (0, True, 3)
        assert sorted(first.consumer_lag) == ["accounting of orders", "fraud-detection of orders"]
        assert (first.band.windows, first.band.errors) == (9, 0)

        second = (await reset(connection)).verification
        assert (second.band, second.band_measured) == (first.band, False)
        assert all(not first.band.refusal(level) for level in second.levels)

        # A baseline that was kept before there were bands has none: it gets one, and what else it says stays.
        kept = await kept_baseline(connection)
        assert kept is not None
        await keep_baseline(connection, msgspec.structs.replace(kept, bands={}))
        unlooked = (await reset(connection, hold_seconds=0.0)).verification
        assert (unlooked.band, unlooked.levels) == (None, ())

        # A stand that does what it always does is outside a band that isn't its own.
        narrow = Band(
            requests=900,
            errors=0,
            windows=9,
            measured="2026-01-01T00:00:00Z",
            latency_ms_p95_least=1.0,
            latency_ms_p95_most=2.0,
        )
        await keep_baseline(connection, msgspec.structs.replace(kept, bands={first.load: narrow}))
        with pytest.raises(
            ocg.StandError,
            match=r"frontend-proxy wasn't in its band for 60 s: the 95th percentile is \d+ ms, and 1 to 2",
        ):
            await reset(connection)
        assert (await kept_baseline(connection) or kept).bands == {first.load: narrow}

        # Nobody tells the lag of a group that isn't there, which isn't a lag of 0.
        text = msgspec.json.encode(CONFIG).replace(b'"group":"accounting"', b'"group":"bookkeeping"')
        other = msgspec.json.decode(text, type=type(CONFIG))
        with pytest.raises(ocg.StandError, match="bookkeeping of orders: no sample since the stand was restored"):
            await wait_consumed(connection, other, 0, SOON)

        # Whoever removes chaos objects may say that nothing is left, and the network of pods says otherwise.
        delay = {"action": "delay", "delay": {"latency": "50ms"}, "mode": "all", "duration": "300s"}
        carts = {"namespaces": ["otel-demo"], "labelSelectors": {"app.kubernetes.io/component": "cart"}}
        item = {"metadata": {"name": "ocg-left"}, "spec": delay | {"selector": carts}}
        made = await connection.kubernetes("POST", f"{CHAOS}/networkchaos", body=item)
        assert made.ok, made.problem
        with pytest.raises(ocg.StandError, match=r"pods have network rules .*: cart-\S+: 1 tcs"):
            await look_until_there_is_a_rule(connection)
        assert (await connection.kubernetes("DELETE", f"{CHAOS}/networkchaos/ocg-left")).ok
        assert await wait_no_rules(connection, PATIENCE) == 1  # it stays with its pod, and is empty


@pytest.mark.parametrize(
    ("spec", "status", "left"),
    [
        ({"tcs": [], "iptables": [], "ipsets": []}, {"observedGeneration": 2}, ""),
        ({}, {"observedGeneration": 2}, ""),
        ({"tcs": [{}], "ipsets": [{}, {}]}, {"observedGeneration": 2}, "2 ipsets, 1 tcs"),
        ({"tcs": []}, {"observedGeneration": 1}, "its last change wasn't seen by the daemon yet"),
        ({"tcs": []}, {"observedGeneration": 2, "failedMessage": "no netns"}, "not applied: no netns"),
    ],
)
def test_a_network_is_untouched_when_the_daemon_has_seen_that_it_has_no_rule(
    spec: dict[str, Any], status: dict[str, Any], left: str
) -> None:
    assert rules_left({"metadata": {"name": "p", "generation": 2}, "spec": spec, "status": status}) == left


def samples(*rows: tuple[int, float, float | None]) -> list[GroupSample]:
    return [GroupSample(time=at * SECOND, lag=lag, committed=committed) for at, lag, committed in rows]


def test_a_group_has_caught_up_when_nothing_old_is_left() -> None:
    assert backlog([]) == "no sample since the stand was restored"
    assert backlog(samples((0, 0, None))) == ""
    assert backlog(samples((0, 7, 100))) == "a lag of 7"  # how old it is nobody knows yet
    # 107 messages lay there at 0 s; at 15 s all of them are committed, and what came since needn't be
    assert backlog(samples((0, 7, 100), (15, 9, 107))) == ""
    assert backlog(samples((0, 7, 100), (15, 9, 105))) == "a lag of 9, 2 of it older than 15 s"
    assert backlog(samples((0, 7, 100), (14, 9, 107))) == "a lag of 9"
    assert backlog(samples((0, 7, None), (15, 9, None))) == "a lag of 9, and no offset says since when"
    # consumers that keep pace with a queue of 1000 haven't caught up
    assert backlog(samples((0, 1000, 0), (15, 1000, 30))) == "a lag of 1000, 970 of it older than 15 s"
