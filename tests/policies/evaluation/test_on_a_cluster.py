"""On a cluster one episode comes after the other, in this process; what needs a second past is refused. A twin stands in its place."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.policies.evaluation import evaluate, load_evaluation, scores_of
from otel_control_gym.policies.evaluation.cases import evaluation_names
from otel_control_gym.stands.twin.stand import TwinStand
from tests.kubeconfigs import written_kubeconfig

TINY = """
name: tiny
horizon_seconds: 120
scenarios:
  - name: delay
    interventions:
      - {at_seconds: 30, action: {type: network_delay, target: frontend->cart, intensity: severe, duration_seconds: 60}}
menu:
  - {type: scale, target: frontend, replicas: 2}
"""


@pytest.fixture
def access(tmp_path: Path) -> ClusterAccess:
    """Return a way to a cluster that nobody is going to ask."""
    return ClusterAccess(kubeconfig=written_kubeconfig(tmp_path / "kubeconfig", "https://stand:6443"))


async def test_all_play_there_and_what_is_kept_is_not_played_again(
    tmp_path: Path, access: ClusterAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    resets: list[tuple[str, str]] = []

    class Stand(TwinStand):
        async def reset(self, config: RunConfig, *, otlp_endpoint: str) -> None:
            resets.append((config.public.stand, config.scenario.name))
            await super().reset(config, otlp_endpoint=otlp_endpoint)

    def stand(_config: RunConfig, found: ClusterAccess | None) -> Stand:
        assert found == access
        return Stand()

    monkeypatch.setattr("otel_control_gym.engine.assembly._stand", stand)
    settings = load_evaluation(tmp_path / "tiny.yaml")
    for policies in (["noop"], ["noop", "threshold"]):
        results = await evaluate(settings, policies, data_dir=tmp_path, seeds=1, access=access)
        assert [result.policy for result in results] == policies
    assert resets == [("cluster", "delay")] * 2  # noop was there already
    assert {result.steps for result in results} == {4}
    assert [row.policy for row in scores_of(results).policies] == ["noop", "threshold"]
    other = msgspec.structs.replace(access, namespace="another")
    monkeypatch.setattr("otel_control_gym.engine.assembly._stand", lambda _config, _access: Stand())
    await evaluate(settings, ["noop"], data_dir=tmp_path, seeds=1, access=other)
    assert len(resets) == 3  # another stand's result is another


async def test_what_needs_a_second_past_or_a_second_application_is_refused(
    tmp_path: Path, access: ClusterAccess
) -> None:
    settings = load_evaluation("default")
    with pytest.raises(ocg.UsageError, match="'oracle' lives futures of a twin"):
        await evaluate(settings, ["noop", "oracle"], data_dir=tmp_path, access=access)
    with pytest.raises(ocg.UsageError, match="scenarios of medium-store and small-core, and a cluster has one"):
        await evaluate(settings, ["noop"], data_dir=tmp_path, access=access)


@pytest.mark.parametrize("name", evaluation_names())
def test_every_packaged_evaluation_can_be_played(name: str) -> None:
    assert load_evaluation(name).scenarios
