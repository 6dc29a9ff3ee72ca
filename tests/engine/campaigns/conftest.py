"""A campaign that was played, for whoever looks at what campaigns leave on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
import yaml

from otel_control_gym.engine.assembly import make
from otel_control_gym.engine.campaigns.files import configurations, load_plan
from otel_control_gym.engine.campaigns.plans import CampaignPlan
from otel_control_gym.engine.campaigns.running import campaign_directory, write_plan
from otel_control_gym.policies import play, policy_of

SHORT = {
    "name": "short",
    "description": "A fault and its sibling, and a run in which nothing happens.",
    "configurations": ["small-core"],
    "workloads": ["steady"],
    "strata": {"baseline": 1, "single_fault": 1},
    "actions": ["scale"],
    "interventions": ["network_delay"],
    "intensities": ["severe"],
    "length": {"short_seconds": 450, "long_seconds": [450, 450], "long_share": 0.0},
    "bounds": None,
}


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a campaign of three runs; not to be changed."""
    base = tmp_path_factory.mktemp("played")
    file = base / "short.yaml"
    file.write_text(yaml.safe_dump(SHORT))
    plan = load_plan(file)
    data_dir = base / "data"
    write_plan(plan, campaign_directory(data_dir, plan.settings.name))
    anyio.run(_play, plan, data_dir)
    return campaign_directory(data_dir, plan.settings.name)


async def _play(plan: CampaignPlan, data_dir: Path) -> None:
    """Play a plan's runs one after the other, as a worker does."""
    configs = list(configurations(plan, plan.runs))
    async with make(configs[0], data_dir=data_dir, actor="scripted") as env:
        for config in configs:
            await env.reset(config=config)
            await play(env, policy_of(env.config), await env.observe())
            await env.close_episode()


@pytest.fixture
def copied(played: Path, tmp_path: Path) -> Path:
    """The same campaign, to be changed."""
    target = tmp_path / "data" / played.name
    shutil.copytree(played, target)
    return target


@pytest.fixture
def runs_of() -> Callable[[Path], list[Path]]:
    """Returns the run directories of a campaign's directory."""
    return lambda directory: sorted(directory.glob("service_config=*/run_*"))
