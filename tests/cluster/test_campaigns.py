"""A campaign on clusters is played by one process on each: here on two served twins, over TLS, by the wall clock.

What becomes of sick stands is in `tests/engine/campaigns/test_on_clusters.py`, which needs no clock; runs here are as short as can be.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import msgspec
import pytest
import yaml
from typer.testing import CliRunner

import otel_control_gym as ocg
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.campaigns.files import load_plan
from otel_control_gym.engine.campaigns.plans import CampaignPlan
from otel_control_gym.engine.campaigns.running import CampaignResult, run_campaign
from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.command_line.app import app
from tests.cluster.test_episodes import GRANULARITY
from tests.stands.cluster.served import CONFIG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CAMPAIGN = {
    "name": "two-stands",
    "configurations": ["small-core"],
    "strata": {"single_action": 2},
    "actions": ["scale"],
    "interventions": ["network_delay"],
    "length": {"short_seconds": 460, "long_seconds": [460, 460], "long_share": 0.0},
    "cluster": {"reset": "soft", "reset_seconds": 10, "before_seconds": 20},
    "bounds": None,
}


def tiny(folder: Path) -> CampaignPlan:
    """Return a campaign whose runs last as long as a plan mustn't make them: 15 s, the action after 5."""
    (folder / "granularity.yaml").write_text(yaml.safe_dump(GRANULARITY))
    (folder / "light.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(CONFIG.workload)))
    named = {"granularity": str(folder / "granularity.yaml"), "workloads": [str(folder / "light.yaml")]}
    (folder / "campaign.yaml").write_text(yaml.safe_dump(CAMPAIGN | named))
    plan = load_plan(folder / "campaign.yaml")
    runs = []
    for run in plan.runs:
        (planned,) = run.scenario.policy.actions
        policy = msgspec.structs.replace(run.scenario.policy, actions=(msgspec.structs.replace(planned, at_seconds=5),))
        runs.append(
            msgspec.structs.replace(
                run, scenario=msgspec.structs.replace(run.scenario, policy=policy, horizon_seconds=15)
            )
        )
    return msgspec.structs.replace(plan, runs=tuple(runs))


async def _played(folder: Path) -> tuple[Path, CampaignResult]:
    plan, data_dir = tiny(folder), folder / "data"
    async with AsyncExitStack() as stack:
        stands = []
        for name in ("one", "two"):
            kubeconfig = folder / f"{name}.kubeconfig"
            await stack.enter_async_context(ocg.serve_twin(CONFIG, kubeconfig=kubeconfig, data_dir=folder / name))
            stands.append(ClusterAccess(kubeconfig=kubeconfig, hold_seconds=0))  # a minute in the band is one of ours
        broker = await stack.enter_async_context(open_broker(data_dir))
        result = await run_campaign(plan, broker, data_dir=data_dir, nats=None, workers=0, stands=stands)
    return data_dir, result


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CampaignResult]:
    return anyio.run(_played, tmp_path_factory.mktemp("campaign"))


def test_each_stand_plays_its_share_and_every_run_says_where(played: tuple[Path, CampaignResult]) -> None:
    data_dir, result = played
    assert (result.planned, result.completed, result.failed, result.left_out) == (2, 2, 0, {})
    runs = [ocg.open_run(run.path, truth=True) for run in ocg.find_runs(data_dir)]
    assert [(run.stand, run.metadata["stratum"]) for run in runs] == [("cluster", "single_action")] * 2
    assert len({run.metadata["versions"]["stand:api_server"] for run in runs}) == 2
    assert {run.metadata["versions"]["stand:reset_level"] for run in runs} == {"soft"}
    for run in runs:
        assert ocg.validate(run.path) == []


@pytest.mark.parametrize(
    "words",
    [
        ("campaign", "certify", "two-stands"),
        ("campaign", "counterfactual", "two-stands", "--stratum", "single_action"),
        ("campaign", "contrast", "two-stands"),
        ("branch", "latest", "--at", "1"),
    ],
)
def test_whatever_plays_futures_is_refused(words: tuple[str, ...], played: tuple[Path, CampaignResult]) -> None:
    told = CliRunner().invoke(app, [*words, "--data-dir", str(played[0])])
    assert told.exit_code == 2
    assert "played on" in told.stderr
    assert ("no branches" if words[0] == "campaign" else "only runs on the twin can be branched") in told.stderr


def test_what_reads_campaigns_reads_it(played: tuple[Path, CampaignResult]) -> None:
    data_dir, _ = played
    told = CliRunner().invoke(app, ["campaign", "report", "two-stands", "--data-dir", str(data_dir)])
    assert told.exit_code == 0, told.stderr
    report = (data_dir / "campaign=two-stands" / "report.md").read_text()
    assert "**Complete and valid.**" in report
    assert "single action" in report
    assert "None yet: `ocg campaign certify two-stands --branches 0` measures them, before and after." in report
