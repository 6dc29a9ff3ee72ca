"""A campaign's runs follow from its file: balanced, extensible, each of them one that can be run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import otel_control_gym as ocg
from otel_control_gym.actuators import check_target, parse_action
from otel_control_gym.engine.assembly import checked
from otel_control_gym.engine.campaigns import CampaignPlan, CampaignSettings, PlannedRun, make_plan
from otel_control_gym.engine.campaigns.balance import balance_of
from otel_control_gym.engine.campaigns.candidates import Candidates, helps
from otel_control_gym.engine.campaigns.files import configurations, load_plan
from otel_control_gym.engine.campaigns.plans import Factors
from otel_control_gym.engine.campaigns.reach import reach_of
from otel_control_gym.engine.campaigns.settings import STRATA
from otel_control_gym.engine.campaigns.splits import SPLITS, make_splits
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.settings import Granularity

APPLICATIONS = {
    name: resolve(name).public.services for name in ("small-core", "medium-store", "async-store", "review-store")
}
STEADY = resolve("small-core").workload
ACTIONS = (
    "scale",
    "restart",
    "delete_pod",
    "enable_group",
    "disable_group",
    "rollout_config",
    "rollback_config",
    "set_resources",
    "set_autoscaler",
    "shift_traffic",
    "set_workload",
)
INTERVENTIONS = (
    "cpu_pressure",
    "memory_pressure",
    "network_delay",
    "packet_loss",
    "network_partition",
    "pod_kill",
    "restart_loop",
    "dependency_outage",
    "bad_config",
    "feature_flag",
)


def campaign(seed: int = 1, **strata: int) -> CampaignSettings:
    return CampaignSettings(
        name="test",
        seed=seed,
        configurations=tuple(APPLICATIONS),
        workloads=("steady",),
        strata=msgspec.convert(strata, dict[str, int]),
        actions=ACTIONS,
        interventions=INTERVENTIONS,
    )


def plan(settings: CampaignSettings) -> CampaignPlan:
    return make_plan(
        settings, application=APPLICATIONS.__getitem__, workload=lambda _: STEADY, granularity=Granularity()
    )


def of(found: CampaignPlan, stratum: str) -> list[PlannedRun]:
    return [run for run in found.runs if run.stratum == stratum and run.role == "main"]


def test_the_same_file_gives_the_same_runs_and_another_seed_others() -> None:
    strata = dict.fromkeys(STRATA, 3)
    assert plan(campaign(**strata)) == plan(campaign(**strata))
    assert plan(campaign(2, **strata)).digest != plan(campaign(**strata)).digest


@settings(max_examples=10, deadline=None)
@given(st.dictionaries(st.sampled_from(STRATA), st.integers(0, 6)), st.sampled_from(STRATA))
def test_a_larger_campaign_has_the_runs_of_the_smaller_one_among_its_own(strata: dict[str, int], more: str) -> None:
    smaller = plan(campaign(**strata))
    larger = plan(campaign(**{**strata, more: strata.get(more, 0) + 3}))
    known = {run.key: run for run in larger.runs}
    assert all(known[run.key] == run for run in smaller.runs)
    assert len(larger.runs) > len(smaller.runs)


def test_every_run_can_be_run() -> None:
    found = plan(campaign(**dict.fromkeys(STRATA, 12)))
    assert len({run.key for run in found.runs}) == len(found.runs) == 12 * (len(STRATA) + 3)
    for run, configuration in zip(found.runs, configurations(found, found.runs), strict=True):
        config = checked(configuration)
        assert config.seed == run.seed
        assert config.public.campaign == "test"
        assert config.public.services.name == run.factors.configuration


def test_every_kind_of_action_and_fault_is_planned_in_every_strength() -> None:
    found = plan(campaign(single_action=60, single_fault=60, multi_action=30))
    faults = Counter((run.factors.fault_type, run.factors.fault_intensity) for run in of(found, "single_fault"))
    assert {kind for kind, _ in faults} == set(INTERVENTIONS)
    assert all(faults[kind, word] for kind in INTERVENTIONS for word in ("mild", "visible", "severe"))
    done = {planned.action["type"] for run in found.runs for planned in run.scenario.policy.actions}
    assert done == set(ACTIONS)


def test_a_sibling_differs_from_its_run_in_the_script_alone() -> None:
    found = plan(campaign(single_action=8, single_fault=8, multi_fault=4))
    siblings = [run for run in found.runs if run.role == "sibling"]
    assert len(siblings) == 16
    mains = {run.family_id: run for run in found.runs if run.role == "main"}
    for sibling in siblings:
        main = mains[sibling.family_id]
        assert (sibling.seed, sibling.pair_id, sibling.stratum) == (main.seed, main.pair_id, main.stratum)
        assert sibling.scenario.interventions == ()
        assert sibling.scenario.policy.actions == ()
        bare = msgspec.structs.replace(main.scenario, interventions=(), policy=sibling.scenario.policy)
        assert bare == sibling.scenario
        assert main.scenario.interventions or main.scenario.policy.actions


def test_strength_zero_is_every_fault_without_its_effect_beside_the_same_run_untouched() -> None:
    found = plan(campaign(zero_strength=len(INTERVENTIONS)))
    mains = of(found, "zero_strength")
    assert {run.factors.fault_type for run in mains} == set(INTERVENTIONS)
    assert {planned.action["intensity"] for run in mains for planned in run.scenario.interventions} == {"zero"}
    siblings = {run.family_id: run for run in found.runs if run.role == "sibling"}
    assert all(siblings[run.family_id].seed == run.seed for run in mains)
    assert all(run.scenario.interventions == () for run in siblings.values())


def test_a_fifth_of_the_runs_is_long_and_what_is_foretold_fits_into_all() -> None:
    found = plan(campaign(baseline=20, single_fault=40, randomised=40, normal_control=20))
    mains = [run for run in found.runs if run.role == "main"]
    long = [run for run in mains if run.factors.length == "long"]
    assert abs(len(long) - 0.2 * len(mains)) <= 4
    assert all(2700 <= run.scenario.horizon_seconds <= 3600 for run in long)
    for run in mains:
        moments = [planned.at_seconds for planned in run.scenario.interventions] + list(
            run.scenario.policy.decide_at_seconds
        )
        assert all(moment + 300 <= run.scenario.horizon_seconds for moment in moments)


def test_remedies_that_help_and_those_that_cannot_are_told_apart() -> None:
    found = plan(campaign(fault_with_recovery=20, wrong_remedy=30))
    for stratum, wanted in (("fault_with_recovery", True), ("wrong_remedy", False)):
        for run in of(found, stratum):
            factors = run.factors
            assert factors.action_type is not None
            assert factors.fault_type is not None
            assert helps(factors.action_type, factors.fault_type, factors.persistence or "workload") is wanted
            assert run.scenario.policy.information == "privileged"
            (fault,), (action,) = run.scenario.interventions, run.scenario.policy.actions
            assert 60 <= action.at_seconds - fault.at_seconds <= 120


def test_the_order_of_runs_says_nothing_of_their_stratum() -> None:
    found = plan(campaign(**dict.fromkeys(STRATA, 20)))
    positions: dict[str, list[int]] = {}
    for position, run in enumerate(found.runs):
        positions.setdefault(run.stratum, []).append(position)
    middle = (len(found.runs) - 1) / 2
    spread = len(found.runs) / 12**0.5
    for seen in positions.values():
        assert abs(sum(seen) / len(seen) - middle) < 4 * spread / len(seen) ** 0.5


def test_public_policies_draw_with_probabilities_that_off_policy_estimates_can_use() -> None:
    found = plan(campaign(randomised=40, normal_control=20))
    drawn = [run for run in found.runs if run.scenario.policy.name == "random"]
    assert drawn
    for run in drawn:
        policy = run.scenario.policy
        assert 1 / (1 + len(policy.menu)) >= 0.05
        assert len({action["type"] for action in policy.menu}) == len(policy.menu) >= 5
        for action in policy.menu:
            check_target(parse_action(action), APPLICATIONS[run.factors.configuration])
    assert {len(run.scenario.policy.decide_at_seconds) for run in of(found, "randomised")} == {1}
    with_fault = [run for run in of(found, "randomised") if run.scenario.interventions]
    assert len(with_fault) == 20


# --- balance --------------------------------------------------------------------------------------------------------------


def test_the_packaged_campaigns_are_balanced() -> None:
    found = load_plan("mvp")
    balance = balance_of(found)
    assert [bound for bound in balance.bounds if not bound.holds] == []
    assert balance.families >= 120
    assert len({run.factors.configuration for run in found.runs}) == 4
    assert len({run.factors.workload for run in found.runs}) == 5


def test_a_campaign_in_which_the_action_gives_the_fault_away_is_not() -> None:
    found = plan(campaign(fault_with_recovery=30, wrong_remedy=30))
    runs = []
    for run in found.runs:
        tied = INTERVENTIONS.index(run.factors.fault_type or "") % 3
        factors = msgspec.structs.replace(run.factors, action_type=("scale", "restart", "set_resources")[tied])
        runs.append(msgspec.structs.replace(run, factors=factors))
    bounds = {bound.name: bound for bound in balance_of(msgspec.structs.replace(found, runs=tuple(runs))).bounds}
    assert not bounds["mutual_information_of_action_and_fault"].holds
    assert not bounds["baseline_runs"].holds
    fair = {bound.name: bound for bound in balance_of(found).bounds}
    assert fair["mutual_information_of_action_and_fault"].holds


def test_a_cross_table_counts_families_and_no_siblings() -> None:
    found = plan(campaign(single_fault=10, baseline=4))
    table = next(
        table for table in balance_of(found).tables if (table.rows_are, table.columns_are) == ("stratum", "length")
    )
    assert table.rows == ("baseline", "single_fault")
    assert [sum(row) for row in table.counts] == [4, 10]


# --- splits ---------------------------------------------------------------------------------------------------------------


def test_splits_part_no_family_and_hold_out_whole_levels() -> None:
    found = plan(campaign(**dict.fromkeys(STRATA, 12)))
    splits = {split.name: split for split in make_splits(found.runs)}
    assert tuple(splits) == SPLITS
    families = {run.family_id for run in found.runs}
    assert all(set(split.sides) == families for split in splits.values())
    sides = splits["heldout_configuration"]
    assert sides.held_out
    for run in found.runs:
        held = run.factors.configuration in sides.held_out
        assert (sides.sides[run.family_id] == "test") is held


def test_an_extended_campaign_moves_no_family_to_another_side() -> None:
    before = make_splits(plan(campaign(single_fault=20)).runs)[0]
    after = make_splits(plan(campaign(single_fault=40, baseline=10)).runs)[0]
    assert all(after.sides[family] == side for family, side in before.sides.items())
    assert before.digest != after.digest
    assert set(after.sides.values()) == {"train", "validation", "test"}


# --- files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"actions": ["scale", "scael"]}, r"actions\[1\] = 'scael'.*\n.*did you mean 'scale'"),
        ({"interventions": ["scale"]}, r"interventions\[0\] = 'scale': there is no such intervention"),
        ({"workloads": ["steady", "steady"]}, "workloads.*something is named twice"),
        ({"strata": {"baseline": -1}}, r"strata.baseline = -1: below 0"),
        ({"strata": {"baslein": 1}}, "strata"),
        ({"configurations": ["no-such-shop"]}, "no-such-shop"),
        ({"length": {"short_seconds": 400}}, r"length.short_seconds = 400.*\n.*at least"),
    ],
)
def test_a_campaign_that_cannot_be_is_refused_with_its_place(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    document = {
        "name": "odd",
        "configurations": ["small-core"],
        "workloads": ["steady"],
        "strata": {"baseline": 1},
        "actions": ["scale"],
        "interventions": ["pod_kill"],
    }
    file = tmp_path / "odd.yaml"
    file.write_text(yaml.safe_dump(document | change))
    with pytest.raises((ocg.ConfigurationError, ocg.UsageError), match=rf"(?s){words}"):
        load_plan(file)


def test_what_nobody_calls_is_no_candidate() -> None:
    candidates = Candidates(APPLICATIONS["review-store"], STEADY)
    targets = {fault["target"] for fault in candidates.faults("pod_kill")}
    assert "frontend" in targets
    assert not targets & {"flagd", "load-generator", "postgresql", "kafka", "valkey-cart"}
    assert Factors(configuration="x", workload="y", length="short").policy == "noop"


@pytest.mark.parametrize("application", sorted(APPLICATIONS))
def test_what_only_slows_calls_is_aimed_where_they_are_many_enough_to_be_felt(application: str) -> None:
    candidates, reach = Candidates(APPLICATIONS[application], STEADY), reach_of(APPLICATIONS[application])
    services = {fault["target"] for fault in candidates.faults("cpu_pressure")}
    edges = {fault["target"] for fault in candidates.faults("packet_loss")}
    assert {"frontend", "product-catalog", "cart"} <= services
    assert {"frontend->product-catalog", "frontend->cart", "cart->valkey-cart"} <= edges
    least = 0.010 / 0.067  # seconds that users feel in the mean, seconds that a call takes longer
    assert min(reach.services[name] for name in services) > least
    assert min(calls for (source, target), calls in reach.edges.items() if f"{source}->{target}" in edges) > least
    assert services < {fault["target"] for fault in candidates.faults("pod_kill")}
    assert edges < {fault["target"] for fault in candidates.faults("network_partition")}


def test_the_campaign_for_claims_has_enough_of_each_kind() -> None:
    found = load_plan("full")
    mains = [run for run in found.runs if run.role == "main"]
    assert len({run.family_id for run in mains}) >= 500
    faults = Counter(kind for run in mains for kind in {item.action["type"] for item in run.scenario.interventions})
    acts = Counter(kind for run in mains for kind in {item.action["type"] for item in run.scenario.policy.actions})
    for counts, kinds in ((faults, found.settings.interventions), (acts, found.settings.actions)):
        assert {kind: counts[kind] for kind in kinds if counts[kind] < 24} == {}
    assert balance_of(found).holds


def test_what_is_done_is_undone_in_two_of_three_runs_of_two_actions() -> None:
    pairs = [
        tuple(item.action["type"] for item in run.scenario.policy.actions)
        for run in of(plan(campaign(multi_action=12)), "multi_action")
    ]
    undone = Counter(
        pair for pair in pairs if pair in (("disable_group", "enable_group"), ("rollout_config", "rollback_config"))
    )
    assert sum(undone.values()) >= 8
    assert len(undone) == 2


@pytest.mark.parametrize(
    ("stratum", "kind", "kinds"), [("single_fault", "fault_type", 10), ("single_action", "action_type", 9)]
)
def test_no_kind_owns_a_level_of_another_factor(stratum: str, kind: str, kinds: int) -> None:
    rounds = 20
    settings = msgspec.structs.replace(campaign(**{stratum: kinds * rounds}), workloads=("a", "b", "c", "d", "e"))
    runs = of(plan(settings), stratum)
    for factor, levels in (("configuration", 4), ("workload", 5), ("length", 2)):
        met = Counter((getattr(run.factors, kind), getattr(run.factors, factor)) for run in runs)
        assert len(met) == kinds * levels, f"{factor}: {met}"
        usual = Counter(getattr(run.factors, factor) for run in runs)
        for (_, level), count in met.items():
            expected = rounds * usual[level] / len(runs)
            assert expected / 3 <= count <= 3 * expected, f"{factor}: {met}"
    lengths = Counter(run.factors.length for run in runs)
    assert lengths["long"] == len(runs) // 5
