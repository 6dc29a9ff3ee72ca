"""A gym that dies leaves no broken stand: what takes its changes back lies there before they are made, and a janitor finds it.

The twin outlives its gym here, which dies for good: a process that is killed, or one that nobody lets renew its Lease.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import msgspec
import pytest
from aiohttp import web

from otel_control_gym.actuators import open_actuators
from otel_control_gym.actuators.caretaker import Caretaker, TakenBack
from otel_control_gym.actuators.janitor import Janitor, Sleep, open_janitor
from otel_control_gym.actuators.kubernetes_client import open_kubernetes
from otel_control_gym.actuators.leases import KeptStand, LeaseStore, lease_name
from otel_control_gym.actuators.lifecycle import Lifecycle
from otel_control_gym.actuators.recovering import recovering
from otel_control_gym.actuators.safekeeping import MOST_BYTES, open_safekeeping
from otel_control_gym.engine.clock import seconds
from otel_control_gym.engine.command_line.stand import clean_of
from otel_control_gym.engine.errors import StandError, UsageError
from otel_control_gym.engine.events import ActionPrechecked, ActionReverted, ActionSettled, Event, InverseCall
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.pod_account import endpoints_in_pod
from otel_control_gym.stands.twin.objects import CONFIG_MAP, DEPLOYMENT, LEASE, STRESS_CHAOS
from tests.actuators.on_the_twin.conftest import Call, honest
from tests.actuators.on_the_twin.test_stand_clean import kubeconfig

if TYPE_CHECKING:
    from tests.actuators.on_the_twin.conftest import OpenTwin, Twin

OCG = Path(sys.executable).with_name("ocg")
KEPT_IN = "ocg-system"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{KEPT_IN}/leases"
KEPT = f"/api/v1/namespaces/{KEPT_IN}/configmaps/{lease_name('RUN')}"
SCALE = {"type": "scale", "target": "cart", "replicas": 3, "duration_seconds": 600}

#: a gym that makes two changes, and is killed in the middle of its life
GYM = """
import anyio, json, os, signal, sys
import msgspec
import otel_control_gym as ocg
from otel_control_gym.actuators import open_actuators, parse_action
from otel_control_gym.engine.protocols import Endpoints, Request

async def main():
    endpoints, actions, now = json.loads(sys.argv[1])
    async def append(event, *, truth=False):
        return 1
    settings = ocg.resolve("small-core", workload="steady", seed=7).public
    async with open_actuators(msgspec.convert(endpoints, Endpoints), settings, append, seed=7, run_id="RUN") as actuators:
        for action in actions:
            record = await actuators.perform(Request(action=parse_action(action), actor="human", truth=False), now)
            assert record.applied is not None, record
        os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main)
"""


def replicas(twin: Twin, name: str) -> int:
    deployments = twin.stand.run.control_plane.context.store.objects(DEPLOYMENT)
    return next(int(item["spec"]["replicas"]) for item in deployments if item["metadata"]["name"] == name)


def kept(twin: Twin) -> dict[str, str]:
    """Return the keys of the run's ConfigMap, empty if there is none."""
    items = twin.stand.run.control_plane.context.store.objects(CONFIG_MAP)
    found = [item["data"] for item in items if item["metadata"]["name"] == lease_name("RUN")]
    return dict(found[0]) if found else {}


def leases(twin: Twin) -> list[str]:
    return [
        item["spec"].get("holderIdentity", "") for item in twin.stand.run.control_plane.context.store.objects(LEASE)
    ]


def outliving(endpoints: Endpoints) -> Endpoints:
    return msgspec.structs.replace(endpoints, safekeeping=KEPT_IN)


@asynccontextmanager
async def gym(twin: Twin) -> AsyncIterator[Lifecycle]:
    """Give the twin actuators that keep their inverses there."""
    async with open_actuators(
        outliving(twin.endpoints), twin.config.public, twin.append, seed=7, run_id="RUN"
    ) as twin.actuators:
        yield twin.actuators


class Watch:
    """A janitor whose time passes when a test says so; it reaches the stand directly unless told to go through the gym's proxy."""

    def __init__(self, twin: Twin, identity: str = "janitor-1", *, through: Endpoints | None = None) -> None:
        self._twin = twin
        self._endpoints = through or twin.stand.endpoints
        self._time = 0.0
        self._caretaker = Caretaker(identity, lambda: self._time)

    async def look(self, after: float = 0.0) -> list[TakenBack]:
        """Make a round some seconds later."""
        self._time += after

        async def sleep(wanted: float) -> None:
            await self._twin.stand.advance(self._twin.now + seconds(wanted))

        @asynccontextmanager
        async def open_for(stand: KeptStand) -> AsyncIterator[Janitor]:
            place = msgspec.structs.replace(self._endpoints, namespace=stand.namespace)
            async with open_janitor(place, sleep) as janitor:
                yield janitor

        async with open_kubernetes(self._endpoints) as kubernetes:
            return await self._caretaker.make_round(LeaseStore(kubernetes, KEPT_IN), open_for)


async def patch(twin: Twin, path: str, body: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    async with (
        aiohttp.ClientSession() as session,
        session.patch(twin.stand.endpoints.kubernetes + path, json=body, headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def kill_a_gym(twin: Twin, *actions: dict[str, Any]) -> None:
    argument = json.dumps([msgspec.to_builtins(outliving(twin.stand.endpoints)), actions, twin.now])
    process = await anyio.run_process([sys.executable, "-c", GYM, argument], check=False, env=dict(os.environ))
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()


async def test_what_a_killed_gym_has_changed_is_taken_back_when_its_lease_has_run_out(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await kill_a_gym(
            twin,
            SCALE,
            {"type": "cpu_pressure", "target": "frontend", "duration_seconds": 600},
            {"type": "feature_flag", "flag": "paymentFailure", "variant": "50%", "duration_seconds": 600},
            {"type": "set_workload", "users": 50, "duration_seconds": 600},
        )
        store = twin.stand.run.control_plane.context.store
        assert (replicas(twin, "cart"), len(store.objects(STRESS_CHAOS)), len(kept(twin))) == (3, 1, 5)
        watch = Watch(twin)
        assert await watch.look() == []
        assert await watch.look(after=59) == []
        assert replicas(twin, "cart") == 3
        done = await watch.look(after=2)
        assert [noted.cleaned.problems for noted in done] == [()] * 4
        paths = [call for noted in done for call in noted.cleaned.calls]
        assert [path.partition("/")[0] for path in paths] == ["POST swarm", "POST feature", "DELETE apis", "PATCH apis"]
        assert (replicas(twin, "cart"), store.objects(STRESS_CHAOS)) == (1, [])
        assert twin.stand.run.simulation.load_counters().users_target == 10
        assert twin.stand.run.world.flags.file["flags"]["paymentFailure"]["defaultVariant"] == "off"
        assert leases(twin) == []
        assert await watch.look(after=100) == [], "what is done is done"


async def test_a_gym_that_lives_is_left_alone(open_twin: OpenTwin) -> None:
    async with open_twin() as twin, gym(twin):
        await twin.perform(SCALE)
        watch = Watch(twin)
        await watch.look()
        await twin.perform({"type": "scale", "target": "quote", "replicas": 2, "duration_seconds": 600})  # it renews
        assert await watch.look(after=61) == []
        assert await watch.look(after=59) == []
        assert replicas(twin, "cart") == 3
        assert leases(twin) == ["RUN"]
        assert len(await watch.look(after=2)) == 2, "nothing came for as long as the Lease lasts"


async def test_who_comes_back_after_a_janitor_took_over_changes_nothing_more(open_twin: OpenTwin) -> None:
    async with open_twin() as twin, gym(twin):
        await twin.perform(SCALE)
        watch = Watch(twin)
        await watch.look()
        await watch.look(after=61)
        record = await twin.perform({"type": "scale", "target": "quote", "replicas": 2, "duration_seconds": 600})
        assert record.status == "rejected"
        assert "a janitor has cleaned the stand of this run" in record.reason
        assert replicas(twin, "quote") == 1


async def test_a_lease_that_another_holds_means_that_this_gym_is_taken_for_dead(open_twin: OpenTwin) -> None:
    async with open_twin() as twin, gym(twin):
        await twin.perform(SCALE)
        await patch(twin, f"{LEASES}/{lease_name('RUN')}", {"spec": {"holderIdentity": "janitor-9"}})
        record = await twin.perform({"type": "scale", "target": "quote", "replicas": 2, "duration_seconds": 600})
        assert (record.status, replicas(twin, "quote")) == ("rejected", 1)
        assert "was taken over by 'janitor-9'" in record.reason


async def test_a_renewal_whose_answer_was_lost_is_recognised_as_our_own(open_twin: OpenTwin) -> None:
    lost = 0

    async def lose(call: Call) -> web.StreamResponse:
        nonlocal lost
        answer = await call.forward()
        if call.writes and call.request.method == "PATCH" and call.request.path.startswith(LEASES) and not lost:
            lost += 1
            return web.Response(status=500)
        return answer

    async with open_twin() as twin, gym(twin):
        await twin.perform(SCALE)
        twin.behave(lose)
        other = {"type": "scale", "target": "quote", "replicas": 2, "duration_seconds": 600}
        assert (await twin.perform(other)).status == "failed"
        assert (lost, replicas(twin, "quote")) == (1, 1)
        assert (await twin.perform(other)).applied is not None


async def test_a_lease_is_renewed_while_nothing_is_done(open_twin: OpenTwin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_control_gym.actuators.safekeeping.RENEW_SECONDS", 0.0)
    renewed = anyio.Event()

    async def notice(call: Call) -> web.StreamResponse:
        if call.writes and call.request.path.startswith(LEASES):
            renewed.set()
        return await call.forward()

    async with open_twin() as twin, gym(twin):
        await twin.perform(SCALE)
        twin.behave(notice)
        with anyio.fail_after(60):
            await renewed.wait()


async def test_an_error_leaves_the_safekeeping_as_it_came(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:

        async def fail() -> None:
            async with gym(twin):
                await twin.perform(SCALE)
                raise LookupError("of the episode")

        with pytest.raises(LookupError, match="of the episode"):
            await fail()
        assert leases(twin) == [""]


async def test_inverses_are_not_kept_where_a_policy_reads(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        readable = msgspec.structs.replace(twin.endpoints, safekeeping=twin.endpoints.namespace)
        with pytest.raises(StandError, match="which policies may read"):
            async with open_actuators(readable, twin.config.public, twin.append, seed=7, run_id="RUN"):
                pass


async def test_the_faults_of_a_gym_that_lives_stay_when_another_has_died(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await kill_a_gym(twin, {"type": "cpu_pressure", "target": "frontend", "duration_seconds": 600})
        async with open_actuators(
            outliving(twin.endpoints), twin.config.public, twin.append, seed=8, run_id="OTHER"
        ) as twin.actuators:
            watch = Watch(twin)
            await watch.look()
            alive = await twin.perform({"type": "cpu_pressure", "target": "cart", "duration_seconds": 600})
            assert len(await watch.look(after=61)) == 1
            (left,) = twin.stand.run.control_plane.context.store.objects(STRESS_CHAOS)
            labels = left["metadata"]["labels"]
            assert (labels["otel-control-gym/run"], labels["otel-control-gym/action"]) == ("OTHER", alive.action_id)


async def test_a_revert_that_nobody_could_see_leaves_its_inverse_to_the_janitor(open_twin: OpenTwin) -> None:
    async def lie(call: Call) -> web.StreamResponse:
        changes = call.writes and call.request.path.endswith("/deployments/cart/scale")
        return await call.forward(**({"dryRun": "All"} if changes else {}))

    async with open_twin() as twin:
        async with gym(twin):
            record = await twin.perform({**SCALE, "duration_seconds": 30})
            twin.behave(lie)
            await twin.live(120)
            assert (record.settled is not None, record.revert_failed) == (True, True)
            assert record.action_id in kept(twin)
        assert len(await Watch(twin).look()) == 1
        assert replicas(twin, "cart") == 1


async def test_a_key_that_could_not_be_removed_goes_with_the_next_write(open_twin: OpenTwin) -> None:
    async def deny(call: Call) -> web.StreamResponse:
        if call.writes and call.request.path == KEPT:
            return web.json_response({"kind": "Status", "message": "not now"}, status=403)
        return await call.forward()

    async with open_twin() as twin, gym(twin):
        first = await twin.perform({**SCALE, "duration_seconds": 30})
        twin.behave(deny)
        await twin.live(60)
        assert first.reverted is not None
        assert first.action_id in kept(twin)
        twin.behave(honest)
        second = await twin.perform(SCALE)
        assert set(kept(twin)) == {"stand", second.action_id}


async def test_of_two_janitors_one_acts(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await kill_a_gym(twin, SCALE)
        (action_id,) = set(kept(twin)) - {"stand"}
        hopeless = kept(twin)[action_id].replace("/cart/", "/nobody/")  # so that the Lease is still there afterwards
        await patch(twin, KEPT, {"data": {action_id: hopeless}})
        slow, fast = Watch(twin, "slow", through=twin.endpoints), Watch(twin, "fast")
        await slow.look()
        await fast.look()
        done: dict[str, list[TakenBack]] = {}

        async def overtaken(call: Call) -> web.StreamResponse:
            if call.writes and call.request.path.startswith(LEASES) and "fast" not in done:
                done["fast"] = await fast.look(after=61)
            return await call.forward()

        twin.behave(overtaken)
        done["slow"] = await slow.look(after=61)
        assert (len(done["fast"]), done["slow"]) == (1, [])
        assert leases(twin) == ["fast"]


async def test_the_inverse_lies_there_before_the_change_is_made_and_goes_with_it(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        twin.forget()
        async with gym(twin):
            record = await twin.perform({**SCALE, "duration_seconds": 30})
            change = "PATCH /apis/apps/v1/namespaces/otel-demo/deployments/cart/scale"
            written = twin.written
            made = [f"POST {LEASES}", "POST /api/v1/namespaces", f"POST {LEASES}", f"POST {KEPT.rpartition('/')[0]}"]
            assert written[:4] == made, "the namespace is made, because it is missing"
            assert written.index(f"PATCH {KEPT}") < written.index(change)
            assert set(kept(twin)) == {"stand", record.action_id}
            await twin.live(60)
            assert record.settled is not None
            assert set(kept(twin)) == {"stand"}
            lasting = await twin.perform_and_settle({"type": "scale", "target": "cart", "replicas": 2})
            assert lasting.status == "applied"
            assert set(kept(twin)) == {"stand"}, "it is to stay"
        assert (kept(twin), leases(twin)) == ({}, [])


async def test_a_stand_that_dies_with_its_gym_knows_nothing_of_all_this(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await twin.perform(SCALE)
        assert (kept(twin), leases(twin)) == ({}, [])


async def test_a_gym_that_leaves_something_gives_its_lease_away_at_once(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        async with gym(twin):
            await twin.perform(SCALE)
        assert leases(twin) == [""]
        assert len(await Watch(twin).look()) == 1
        assert replicas(twin, "cart") == 1


@pytest.mark.parametrize("status", [403, 404])
async def test_what_cannot_be_kept_is_not_done(status: int, open_twin: OpenTwin) -> None:
    async def deny(call: Call) -> web.StreamResponse:
        if f"/namespaces/{KEPT_IN}" in call.request.path or (call.writes and call.request.path.endswith("/namespaces")):
            code = 403 if call.request.path.endswith("/namespaces") else status
            return web.json_response({"kind": "Status", "message": "no such luck", "code": code}, status=code)
        return await honest(call)

    async with open_twin() as twin, gym(twin):
        twin.behave(deny)
        twin.forget()
        record = await twin.perform(SCALE)
        assert record.status == "rejected"
        assert f"can't be kept in namespace '{KEPT_IN}'" in record.reason
        assert "HTTP 403: no such luck" in record.reason
        assert ("POST /api/v1/namespaces" in twin.written) is (status == 404), (
            "one that is missing is made, if it may be"
        )
        assert twin.life(record.action_id) == ["requested", "prechecked", "settled"]
        assert replicas(twin, "cart") == 1
        twin.behave(honest)
        assert (await twin.perform(SCALE)).applied is not None


async def test_more_than_a_config_map_holds_is_refused(open_twin: OpenTwin) -> None:
    async with (
        open_twin() as twin,
        open_kubernetes(twin.stand.endpoints) as kubernetes,
        open_safekeeping(kubernetes, outliving(twin.stand.endpoints), "RUN") as keeper,
    ):
        assert keeper is not None
        call = InverseCall(api="kubernetes", method="PATCH", path="x", body="y" * (MOST_BYTES // 2))
        assert await keeper.keep("one", (call,)) == ""
        assert "can be kept" in await keeper.keep("two", (call,))
        await keeper.forget("one")
        assert await keeper.keep("two", (call,)) == ""
        assert set(kept(twin)) == {"stand", "two"}
        await keeper.forget("two")


async def test_what_cannot_be_taken_back_stays_kept_and_is_tried_again(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await kill_a_gym(twin, {"type": "scale", "target": "quote", "replicas": 2, "duration_seconds": 600}, SCALE)
        (broken,) = [key for key, text in kept(twin).items() if "/cart/" in text]
        whole = kept(twin)[broken]
        await patch(twin, KEPT, {"data": {broken: whole.replace("/cart/", "/nobody/")}})
        watch = Watch(twin)
        await watch.look()
        done = await watch.look(after=61)
        assert {noted.action_id: noted.cleaned.clean for noted in done}[broken] is False
        assert (replicas(twin, "quote"), replicas(twin, "cart")) == (1, 3)
        assert {broken, f"problems.{broken}"} < set(kept(twin))
        await patch(twin, KEPT, {"data": {broken: whole}})
        assert await watch.look(after=1) == []
        (again,) = await watch.look(after=61)
        assert (again.action_id, again.cleaned.clean, replicas(twin, "cart")) == (broken, True, 1)
        assert {key.partition(".")[0] for key in kept(twin)} == {"stand", "taken-back"}


def sleeping(twin: Twin) -> Sleep:
    async def sleep(wanted: float) -> None:
        await twin.stand.advance(twin.now + seconds(wanted))

    return sleep


def recovered(twin: Twin, log: list[tuple[Event, bool]]) -> AbstractAsyncContextManager[list[tuple[Event, bool]]]:
    return recovering(outliving(twin.stand.endpoints), "RUN", log, twin.now, sleeping(twin))


async def test_recovery_appends_what_the_janitor_did_does_not_repeat_it_and_removes_its_notes(
    open_twin: OpenTwin,
) -> None:
    async with open_twin() as twin:
        async with gym(twin):
            record = await twin.perform(SCALE)
        crashed = list(twin.log)
        await Watch(twin).look()
        await twin.kubectl("PATCH", "deployments/cart/scale", {"spec": {"replicas": 2}})  # somebody else has it now
        async with recovered(twin, crashed) as missing:
            assert kept(twin), "until the events are durable the notes stay"
        appended = [event for event, _ in missing]
        reverted = next(event for event in appended if isinstance(event, ActionReverted))
        assert (reverted.action_id, reverted.verified) == (record.action_id, True)
        assert reverted.evidence["janitor"]["janitor"] == "janitor-1"
        assert isinstance(appended[-1], ActionSettled)
        assert (replicas(twin, "cart"), kept(twin), leases(twin)) == (2, {}, [])
        assert any(isinstance(event, ActionPrechecked) for event, _ in crashed)


async def test_where_no_janitor_came_recovery_takes_back_itself_and_nobody_does_it_again(open_twin: OpenTwin) -> None:
    async with open_twin() as twin, gym(twin):
        await twin.perform(SCALE)
        await twin.perform({"type": "cpu_pressure", "target": "quote", "duration_seconds": 600}, truth=True)
        crashed = list(twin.log)  # the process dies here; its Lease hasn't run out
        async with recovered(twin, crashed) as missing:
            assert replicas(twin, "cart") == 1
        assert [truth for event, truth in missing if isinstance(event, ActionReverted)] == [False, True]
        assert all(event.verified for event, _ in missing if isinstance(event, ActionReverted))
        assert (kept(twin), leases(twin)) == ({}, [])
        assert twin.stand.run.control_plane.context.store.objects(STRESS_CHAOS) == []
        assert await Watch(twin).look(after=1000) == []


async def test_recovery_that_dies_before_its_events_are_durable_finds_the_notes_again(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        async with gym(twin):
            await twin.perform(SCALE)
        crashed = list(twin.log)
        await Watch(twin).look()
        with pytest.raises(KeyboardInterrupt):
            async with recovered(twin, crashed) as first:
                raise KeyboardInterrupt
        async with recovered(twin, crashed) as again:
            assert [type(event) for event, _ in first] == [type(event) for event, _ in again]
        assert kept(twin) == {}


async def test_recovery_waits_for_nobody_and_disturbs_no_janitor_at_work(open_twin: OpenTwin) -> None:
    async with open_twin() as twin, gym(twin):
        await twin.perform(SCALE)
        async with open_kubernetes(twin.stand.endpoints) as kubernetes:
            store = LeaseStore(kubernetes, KEPT_IN)
            await store.hold(await store.lease(lease_name("RUN")), "janitor-7", 900, twin.now)
        with pytest.raises(StandError, match="janitor-7 is taking back"):
            async with recovered(twin, list(twin.log)):
                raise AssertionError("it has begun")
        assert leases(twin) == ["janitor-7"]


async def test_what_recovery_could_not_take_back_is_left_to_the_janitor(open_twin: OpenTwin) -> None:
    async with open_twin() as twin, gym(twin):
        await twin.perform(SCALE)
        crashed = list(twin.log)

        async def refusing(call: Call) -> web.StreamResponse:
            if call.writes and call.request.path.endswith("/scale"):
                return web.json_response({"kind": "Status", "message": "no", "code": 403}, status=403)
            return await call.forward()

        twin.behave(refusing)
        place = outliving(twin.endpoints)
        async with recovering(place, "RUN", crashed, twin.now, sleeping(twin)) as missing:
            pass
        (reverted,) = [event for event, _ in missing if isinstance(event, ActionReverted)]
        assert (reverted.verified, leases(twin)) == (False, [""])
        twin.behave(honest)
        (done,) = await Watch(twin).look()
        assert (done.cleaned.clean, replicas(twin, "cart")) == (True, 1)


async def test_a_stand_that_is_cleaned_of_a_run_by_hand_heeds_the_notes_and_removes_them(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        async with gym(twin):
            await twin.perform(SCALE)
        await Watch(twin).look()
        await twin.kubectl("PATCH", "deployments/cart/scale", {"spec": {"replicas": 2}})  # somebody else has it now
        cleaned = await clean_of(twin.stand.endpoints, KEPT_IN, ("RUN", list(twin.log)))
        assert (cleaned.clean, cleaned.calls) == (True, ())
        assert (replicas(twin, "cart"), kept(twin)) == (2, {})


def command(twin: Twin, folder: Path, *options: str) -> list[str]:
    file = kubeconfig(twin.stand.endpoints.kubernetes, folder)
    return [str(OCG), "stand", "janitor", "--kubeconfig", str(file), "--namespace", KEPT_IN, *options]


async def test_the_command_waits_for_a_lease_to_run_out_and_cleans(open_twin: OpenTwin, tmp_path: Path) -> None:
    async with open_twin() as twin:
        await kill_a_gym(twin, SCALE)
        await patch(twin, f"{LEASES}/{lease_name('RUN')}", {"spec": {"leaseDurationSeconds": 1}})
        process = await anyio.run_process(command(twin, tmp_path, "--once", "--json"), check=False)
        document = json.loads(process.stdout)
        assert (process.returncode, document["clean"], len(document["taken_back"])) == (0, True, 1)
        assert replicas(twin, "cart") == 1
        process = await anyio.run_process(command(twin, tmp_path, "--once", "--json"), check=False)
        assert json.loads(process.stdout) == {"clean": True, "taken_back": []}


def test_a_pod_finds_its_cluster_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_control_gym.stands.cluster.pod_account.SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    with pytest.raises(UsageError, match="this is no pod"), endpoints_in_pod():
        pass
    (tmp_path / "token").write_text("t\n")
    (tmp_path / "namespace").write_text("ocg-system")
    with endpoints_in_pod() as endpoints:
        assert (endpoints.kubernetes, endpoints.kubernetes_token) == ("https://[fd00::1]:6443", "t")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(UsageError, match="KUBERNETES_SERVICE_HOST"), endpoints_in_pod():
        pass


async def test_the_command_watches_until_it_is_told_to_end(open_twin: OpenTwin, tmp_path: Path) -> None:
    async with open_twin() as twin:
        async with gym(twin):
            await twin.perform(SCALE)
        async with await anyio.open_process(command(twin, tmp_path)) as process:
            assert process.stdout is not None
            told = (await process.stdout.receive()).decode()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        assert "run RUN" in told
        assert replicas(twin, "cart") == 1
