"""Kept scores of baselines ➜ sections of the report: the headline, effects of actions, edges beside nodes, action or fault, root causes.

In: `Evaluation`s, as `ocg baseline evaluate` keeps them; None where one isn't there, and then the section says which command makes it.
Out: `Section`s. Every sentence is made from the figures, and says "too few" or "can't be told" where they say so.

Pure but for drawing. Upstream: `catalogue.kept_evaluation`. Downstream: `report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from otel_control_gym.baselines.evaluations import Cell, Evaluation, Table
from otel_control_gym.baselines.headline import Ratio
from otel_control_gym.baselines.intervals import Interval
from otel_control_gym.baselines.report_parts import Picture, Section, interval, ratio, said
from otel_control_gym.baselines.report_plots import Row, forest, series
from otel_control_gym.baselines.treatment_effects import AverageEffect

__all__ = ("cause_section", "edges_section", "effects_section", "headline_section", "root_cause_section")

NO_WORSE = 1.05  #: upper bound of the ratio on unchanged cells up to which knowing the action does no harm
_HEADLINE = "action_conditioned_over_passive"
_PRIMARY = "all/boosted/direct"  #: key of the ratios of all strata
_PARTS = {"feature_group": "group of features", "configuration": "application"}
_COMMON = ("traffic", "errors", "latency")  #: feature groups that services and edges share
_SHOWN_MODELS = ("boosted direct, action known", "boosted direct, passive", "persistence")
_HORIZON = 3  #: control steps, of the picture of edges


def headline_section(found: Evaluation | None, commands: Sequence[str]) -> Section:
    """Return what knowing the action is worth; `commands` make what it needs."""
    question = "Does acting matter? Error of the model that knows the action over its twin that doesn't"
    if found is None:
        return Section(key=_HEADLINE, question=question, wanting=tuple(commands))
    whole = {group: ratio(one) for group, one in found.figures[_HEADLINE].items()}
    parts, everywhere = (_parts(found, stratum) for stratum in ("randomised", "all"))
    overall = {group: ratio(one) for group, one in found.figures["ratios"][_PRIMARY].items()}
    wanting = tuple(commands) if not any(one.cells for one in whole.values()) else ()
    pictures = () if wanting else (_picture("headline", whole, parts), _picture("breadth", overall, everywhere))
    first, *others = found.tables
    return Section(
        key=_HEADLINE,
        question=question,
        answers=(
            _on_changed(whole["changed"]),
            _on_unchanged(whole["unchanged"]),
            *(_winning(name, parts[column]) for column, name in _PARTS.items()),
            f"All strata whose decisions were branched, randomised or not: {said(overall['changed'])} where something changed, "
            f"{said(overall['unchanged'])} where nothing did.",
            *(_winning(f"{name}, all strata", everywhere[column]) for column, name in _PARTS.items()),
        ),
        tables=(first,),
        details=tuple(others),
        pictures=pictures,
        figures={group: found.figures[_HEADLINE][group] for group in whole},
        wanting=wanting,
    )


_STRATA: Mapping[str, str] = {"headline": "Randomised stratum", "breadth": "All strata whose decisions were branched"}


def _picture(name: str, whole: Mapping[str, Ratio], parts: Mapping[str, Mapping[str, Mapping[str, Ratio]]]) -> Picture:
    rows = [
        Row(name=f"{level}: {group}", part=group, found=_as_interval(one))
        for level, groups in (
            ("all", whole),
            *((key, found) for levels in parts.values() for key, found in levels.items()),
        )
        for group, one in groups.items()
    ]
    marks = {"no difference": 1.0, "no worse": NO_WORSE}
    return Picture(
        name=name,
        caption=f"{_STRATA[name]}, boosted trees, direct. Left of 1 knowing the action helps; faint: fewer than "
        "twelve families, no claim. 95 % intervals, bootstrap over families.",
        png=forest(rows, axis="error with the action known / error without", marks=marks),
    )


def _parts(found: Evaluation, stratum: str) -> dict[str, dict[str, dict[str, Ratio]]]:
    """Return the ratios of a stratum by part, level and group of cells."""
    return {
        column: {
            level: {group: ratio(one) for group, one in groups.items()}
            for level, groups in found.figures["ratios_by"][column][stratum].items()
        }
        for column in _PARTS
    }


def _as_interval(found: Ratio) -> Interval:
    return Interval(
        value=found.ratio, low=found.low, high=found.high, families=found.families, detectable=found.detectable
    )


def _on_changed(found: Ratio) -> str:
    if found.too_few or found.high is None or found.low is None:
        return f"Where the action changed something: {said(found)}, so nothing is claimed."
    verdict = (
        "knowing the action helps" if found.high < 1 else "knowing it hurts" if found.low > 1 else "it can't be told"
    )
    return f"Where the action changed something the ratio is {said(found)} over {found.families} families: {verdict}."


def _on_unchanged(found: Ratio) -> str:
    if found.too_few or found.high is None:
        return f"Where it changed nothing: {said(found)}, so nothing is claimed."
    verdict = (
        "no worse" if found.high <= NO_WORSE else f"not shown to be no worse (the upper bound is above {NO_WORSE})"
    )
    return f"Where it changed nothing the ratio is {said(found)} over {found.families} families: {verdict}."


def _winning(name: str, levels: Mapping[str, Mapping[str, Ratio]]) -> str:
    won = [
        level
        for level, groups in levels.items()
        if not groups["changed"].too_few and groups["changed"].high is not None and groups["changed"].high < 1
    ]
    few = [level for level, groups in levels.items() if groups["changed"].too_few]
    said_few = f"; too few families to say: {', '.join(few)}" if few else ""
    return (
        f"By {name}, the upper bound is below 1 in {len(won)} of {len(levels)} ({', '.join(won) or 'none'}){said_few}."
    )


def effects_section(
    averages: Sequence[AverageEffect],
    found: Evaluation | None,
    certified: Sequence[Mapping[str, Any]],
    commands: Sequence[str],
) -> Section:
    """Return which actions do something measurable, how much and how late.

    Args:
        averages: as branches show them; none where there are no branches.
        found: of the baseline `effect`: how right models are about them.
        certified: `certificates.json`, actions and interventions.
        commands: make what isn't there.
    """
    question = "Which actions have a measurable effect, how large, how late?"
    answers: list[str] = []
    tables: list[Table] = []
    pictures: list[Picture] = []
    figures: dict[str, Any] = {}
    if averages:
        figures["average_effects"] = msgspec.to_builtins(averages)
        answers += _measurable(averages)
        tables.append(_averages_table(averages))
        rows = [
            Row(
                name=f"{one.action_type}, {one.horizon_steps} steps",
                part=f"{one.horizon_steps} steps",
                found=one.effect,
            )
            for one in averages
        ]
        caption = (
            "Mean difference of the summed reward to doing nothing, under the same chance, as branches show it. "
            "95 % intervals over families; faint: fewer than twelve."
        )
        png = forest(rows, axis="effect on the summed reward", marks={"no effect": 0.0})
        pictures.append(Picture(name="effects", caption=caption, png=png))
    if certified:
        delays = _certified(certified)
        figures["certificates"] = delays
        tables.append(_certificate_table(delays))
        silent = [
            one["kind"] for one in delays if one["class"] == "action" and not one["visible"] and not one["masked"]
        ]
        answers.append(
            "By effect certificates, these actions changed nothing anywhere: "
            + (", ".join(silent) or "none of them")
            + "."
        )
    return Section(
        key="effects_of_actions",
        question=question,
        answers=tuple(answers),
        tables=tuple(tables),
        details=() if found is None else found.tables,
        pictures=tuple(pictures),
        figures=figures,
        wanting=tuple(commands) if not averages or found is None or not certified else (),
    )


def _measurable(averages: Sequence[AverageEffect]) -> list[str]:
    """Return which types' effects differ from nothing over the longest horizon that was lived."""
    longest = max(one.horizon_steps for one in averages)
    better, worse, unclear, few = [], [], [], []
    for one in averages:
        if one.horizon_steps != longest:
            continue
        name = f"{one.action_type} ({one.effect.shown})"
        if one.effect.too_few:
            few.append(one.action_type)
        elif one.effect.low is not None and one.effect.low > 0:
            better.append(name)
        elif one.effect.high is not None and one.effect.high < 0:
            worse.append(name)
        else:
            unclear.append(name)
    return [
        f"Over {longest} control steps, {verdict}: {', '.join(names)}."
        for verdict, names in (
            ("on average these raise the reward", better),
            ("these lower it", worse),
            ("an average effect isn't shown of", unclear),
            ("there are too few families to say of", few),
        )
        if names
    ]


def _averages_table(averages: Sequence[AverageEffect]) -> Table:
    return Table(
        title="Average effect on the summed reward, against doing nothing",
        columns=(
            "action",
            "steps",
            "decisions",
            "families",
            "effect (95 %)",
            "share that did harm",
            "smallest detectable",
        ),
        rows=tuple(
            (
                one.action_type,
                one.horizon_steps,
                one.decisions,
                one.effect.families,
                one.effect.shown,
                one.harmed,
                one.effect.detectable,
            )
            for one in averages
        ),
    )


def _certified(certified: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    import numpy as np

    kinds = sorted({(one["action_class"], one["kind"]) for one in certified})
    rows = []
    for action_class, kind in kinds:
        found = [one["certificate"] for one in certified if (one["action_class"], one["kind"]) == (action_class, kind)]
        classes = [one["class"] for one in found]
        delays = [one["delay_s"] for one in found if one.get("delay_s") is not None]
        rows.append(
            {
                "class": action_class,
                "kind": kind,
                "certificates": len(found),
                **{name: classes.count(name) for name in ("visible", "masked", "none")},
                "off_target": sum(bool(one.get("off_target")) for one in found),
                "delay_s": None if not delays else [float(one) for one in np.quantile(delays, [0.1, 0.5, 0.9])],
            }
        )
    return rows


def _certificate_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    cells: list[tuple[Cell, ...]] = []
    for one in rows:
        low, middle, high = one["delay_s"] or (None, None, None)
        late = None if middle is None else f"{middle:.0f} ({low:.0f} to {high:.0f})"
        counts = (one[name] for name in ("certificates", "visible", "masked", "none", "off_target"))
        cells.append((one["class"], one["kind"], *counts, late))
    return Table(
        title="Effect certificates, and how late the first change came",
        columns=("class", "kind", "certificates", "visible", "masked", "none", "off target", "s, median (10 to 90 %)"),
        rows=tuple(cells),
        note="visible: users felt it; masked: something else changed; off target: what moved first isn't what was acted on",
    )


def edges_section(found: Evaluation | None, commands: Sequence[str]) -> Section:
    """Return how hard edges are to foretell beside services, of the features that both have."""
    question = "How hard are effects on edges to predict, beside those on services?"
    if found is None:
        return Section(key="edges_beside_nodes", question=question, wanting=tuple(commands))
    errors = found.figures["errors"]
    groups: dict[str, dict[str, Interval]] = {}
    rows: list[tuple[Cell, ...]] = []
    answers = []
    for group in _COMMON:
        horizons = sorted(
            int(key.rpartition("/")[2]) for key in errors if key.startswith(f"after an action/edge/{group}/")
        )
        for horizon in horizons:
            by_kind = {kind: errors[f"after an action/{kind}/{group}/{horizon}"] for kind in ("node", "edge")}
            for model in _SHOWN_MODELS:
                both = {kind: interval(one[model]) for kind, one in by_kind.items() if model in one}
                rows.append((group, horizon, model, *(both[kind].shown for kind in both)))
                if horizon == _HORIZON:
                    for kind, one in both.items():
                        groups.setdefault(f"{group}, {kind}", {})[model] = one
            if horizon == _HORIZON:
                answers.append(_harder(group, by_kind))
    picture = Picture(
        name="edges",
        caption=f"Scaled absolute error {_HORIZON} control steps after an action: 1 is what persistence has on training "
        "families, for services and edges alike. 95 % intervals over families.",
        png=series(groups, axis="scaled error", levels={"persistence, on average": 1.0}),
    )
    return Section(
        key="edges_beside_nodes",
        question=question,
        answers=tuple(answers),
        tables=(
            Table(
                title="Scaled error after an action, of features that services and edges both have",
                columns=("features", "steps", "model", "services", "edges"),
                rows=tuple(rows),
                note="each kind is scaled by its own persistence, so the table compares how much better than that a model is",
            ),
        ),
        pictures=(picture,) if groups else (),
        figures={f"{group}/{model}": one for group, by_model in groups.items() for model, one in by_model.items()},
    )


def _harder(group: str, by_kind: Mapping[str, Mapping[str, Any]]) -> str:
    model = _SHOWN_MODELS[0]
    node, edge = (interval(by_kind[kind][model]) for kind in ("node", "edge"))
    if node.too_few or edge.too_few or None in (node.low, node.high, edge.low, edge.high):
        return f"{group}: too few families to compare services and edges."
    assert node.low is not None
    assert node.high is not None
    assert edge.low is not None
    assert edge.high is not None
    verdict = (
        "edges are harder"
        if edge.low > node.high
        else "services are harder"
        if node.low > edge.high
        else "about as hard"
    )
    return f"{group}, {_HORIZON} steps ahead: error {edge.shown} on edges, {node.shown} on services: {verdict}."


def cause_section(found: Evaluation | None, commands: Sequence[str]) -> Section:
    """Return whether a simple model tells an action's consequence from an exogenous fault."""
    question = "Can a simple model tell what an action did from what a fault did?"
    if found is None:
        return Section(key="action_or_fault", question=question, wanting=tuple(commands))
    accuracies = {name: interval(one) for name, one in found.figures["balanced_accuracy"].items()}
    answers = [f"{name}: balanced accuracy {one.shown}{_against_chance(one)}." for name, one in accuracies.items()]
    rows = [Row(name=name, part=name.rpartition(", ")[2], found=one) for name, one in accuracies.items()]
    pictures: tuple[Picture, ...] = ()
    if any(row.found.value is not None for row in rows):
        caption = "Balanced accuracy on families that weren't trained on; one half is chance."
        pictures = (
            Picture(name="causes", caption=caption, png=forest(rows, axis="balanced accuracy", marks={"chance": 0.5})),
        )
    return Section(
        key="action_or_fault",
        question=question,
        answers=tuple(answers),
        tables=found.tables,
        pictures=pictures,
        figures=found.figures,
    )


def _against_chance(found: Interval) -> str:
    if found.too_few or found.low is None or found.high is None:
        return ""
    return (
        ", above chance" if found.low > 0.5 else ", below chance" if found.high < 0.5 else ", not shown to beat chance"
    )


def root_cause_section(causes: Evaluation | None, anomalies: Evaluation | None, commands: Sequence[str]) -> Section:
    """Return how well faults are noticed and placed, with the floors beside."""
    tables = [table for found in (anomalies, causes) if found is not None for table in found.tables]
    return Section(
        key="diagnosis",
        question="How well are faults noticed, and their place named?",
        tables=tuple(table for table in tables if not table.title.startswith("By ")),
        details=tuple(table for table in tables if table.title.startswith("By ")),
        figures={found.baseline: found.figures for found in (anomalies, causes) if found is not None},
        wanting=tuple(commands) if causes is None or anomalies is None else (),
    )
