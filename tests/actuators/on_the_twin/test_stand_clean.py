"""`ocg stand clean` removes from a living stand what a gym that is gone has left, and says what it couldn't."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from otel_control_gym.actuators.aftermath import leftovers_of
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.stands.cluster.contexts import endpoints_of
from otel_control_gym.stands.twin.objects import STRESS_CHAOS

if TYPE_CHECKING:
    from tests.actuators.on_the_twin.conftest import OpenTwin

OCG = Path(sys.executable).with_name("ocg")


def kubeconfig(url: str, folder: Path, **changes: Any) -> Path:
    document = {
        "current-context": "twin",
        "contexts": [{"name": "twin", "context": {"cluster": "c", "user": "u", "namespace": "otel-demo"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        **changes,
    }
    file = folder / "kubeconfig"
    file.write_text(json.dumps(document))
    return file


async def test_the_chaos_objects_of_a_gym_that_is_gone_are_removed(open_twin: OpenTwin, tmp_path: Path) -> None:
    async with open_twin() as twin:
        await twin.perform({"type": "cpu_pressure", "target": "cart", "duration_seconds": 300}, truth=True)
        await twin.live(5)
        store = twin.stand.run.control_plane.context.store
        assert len(store.objects(STRESS_CHAOS)) == 1

        async with anyio.create_task_group() as tasks:

            async def live_on() -> None:
                while True:
                    await twin.stand.advance(twin.now + 500_000_000)
                    await anyio.sleep(0.05)

            tasks.start_soon(live_on)
            file = kubeconfig(twin.stand.endpoints.kubernetes, tmp_path)
            command = [str(OCG), "stand", "clean", "--kubeconfig", str(file), "--json"]
            process = await anyio.run_process(command, check=False)
            tasks.cancel_scope.cancel()
        document = json.loads(process.stdout)
        assert (process.returncode, document["clean"], len(document["removed"])) == (0, True, 1)
        assert store.objects(STRESS_CHAOS) == []


async def test_what_a_log_does_not_show_as_taken_back_is_left_over(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await twin.perform_and_settle({"type": "scale", "target": "cart", "replicas": 2, "duration_seconds": 10})
        await twin.perform_and_settle({"type": "scale", "target": "quote", "replicas": 2})
        assert leftovers_of(twin.log) == [], "one was taken back, the other is to stay"
        await twin.perform({"type": "scale", "target": "cart", "replicas": 3, "duration_seconds": 300})
        (call,) = leftovers_of(twin.log)
        assert (call.method, call.body) == ("PATCH", {"spec": {"replicas": 1}})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"current-context": "other"}, "contexts has no 'other'"),
        ({"users": [{"name": "u", "user": {}}]}, "has no token"),
        ({"clusters": []}, "clusters has no 'c'"),
    ],
)
def test_a_kubeconfig_that_leads_nowhere_says_why(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says), endpoints_of(kubeconfig("http://127.0.0.1:1", tmp_path, **changes)):
        pass
