"""Runs ➜ one long table of rows per kind of entity, from which all models of next states are fitted and scored.

In: windows of runs. Out: a `Panel` of services and one of edges: for every kept decision and entity what both twins read, what only the
action-conditioned one reads (by horizon), and what followed. Decisions with an action asked for, or
drawn by chance, are all kept; of those soon after one, one in `SOON_SHARE`, and of the others, in which next to nothing happens, one in
`QUIET_SHARE`, chosen by their id alone.

Pure. Upstream: `windows`, `rows`. Downstream: `next_state`, `forecasting`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.asked import ACTION_COLUMNS, OWN_COLUMNS
from otel_control_gym.baselines.channels import EDGE_TARGETS, NODE_TARGETS
from otel_control_gym.baselines.rows import Rows, action_blocks, edge_actions, edge_rows, node_rows
from otel_control_gym.baselines.states import selected
from otel_control_gym.baselines.windows import RunWindows
from otel_control_gym.engine.randomness import derive_seed, draw_bits

__all__ = (
    "KINDS",
    "QUIET_SHARE",
    "REACHES",
    "SOON_SHARE",
    "TARGETS",
    "Kind",
    "Panel",
    "action_names",
    "kept_decisions",
    "panels_of",
    "reach_of",
)

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Kind: TypeAlias = Literal["node", "edge"]

KINDS: tuple[Kind, ...] = ("node", "edge")
TARGETS: Mapping[Kind, tuple[str, ...]] = {"node": NODE_TARGETS, "edge": EDGE_TARGETS}
QUIET_SHARE = 8
SOON_SHARE = 3

_REACHES: Mapping[str, re.Pattern[str]] = {
    "load": re.compile("^(target )?asked:load_ratio$"),
    "target": re.compile("^((target|source) )?asked:(?!anything|load_ratio)"),
    "neighbour": re.compile("^(target )?(called|caller) asked:"),
}  #: columns of which one isn't 0 where an action reaches
REACHES: tuple[str, ...] = tuple(_REACHES)
"""How an action reaches a row: it asks for load, it is asked of the service itself (of an edge: of an end), or of what that calls or is
called by. The first that fits counts."""


class Panel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """R rows of services or edges, run by run, decision by decision."""

    kind: Kind
    columns: tuple[str, ...]  #: [P]
    inputs: Float  #: [R, P] what both twins read
    actions: Mapping[int, Float]  #: horizon in steps -> [R, A] what the action-conditioned one reads besides
    current: Float  #: [R, T] dynamics of the last step, on the scale of `channels.seen`
    following: Mapping[int, Float]  #: horizon in steps -> [R, T] dynamics of that step, in the features' units
    run: Int  #: [R] position of the run
    decision: Int  #: [R] position of the decision in the run
    entity: tuple[str, ...]  #: [R]
    asked: Bool  #: [R] whether something is asked for at the decision

    def __len__(self) -> int:
        return len(self.entity)


def action_names(kind: Kind) -> tuple[str, ...]:
    """Return the names of the columns that only the action-conditioned model reads."""
    if kind == "node":
        return ACTION_COLUMNS
    return (*(f"target {name}" for name in ACTION_COLUMNS), *(f"source {name}" for name in OWN_COLUMNS))


def kept_decisions(run: RunWindows) -> list[int]:
    """Return the positions of the decisions that are learnt from and scored."""
    return [
        position
        for position, (decision, now, past) in enumerate(zip(run.decisions, run.state.now, run.state.past, strict=True))
        if now is not None
        or decision.randomised
        or _drawn(f"{run.family_id}/{position}", SOON_SHARE if past else QUIET_SHARE)
    ]


def reach_of(actions: Float, kind: Kind) -> Int:
    """Return how an action that is asked for now reaches each row of [R, A]: 0 not at all, else one more than its place in `REACHES`."""
    found = np.zeros(len(actions), np.int64)
    for number, pattern in reversed(list(enumerate(_REACHES.values(), start=1))):
        columns = [position for position, name in enumerate(action_names(kind)) if pattern.search(name)]
        found[(actions[:, columns] != 0).any(axis=1)] = number
    return found


def _drawn(key: str, share: int) -> bool:
    return draw_bits(derive_seed(0, f"quiet/{key}")) % share == 0


def panels_of(
    runs: Sequence[RunWindows], horizons: Sequence[int], *, keep: Callable[[RunWindows], list[int]] = kept_decisions
) -> dict[Kind, Panel]:
    """Return the panels of runs; `horizons` in control steps."""
    parts: dict[Kind, list[Panel]] = {kind: [] for kind in KINDS}
    for number, run in enumerate(runs):
        kept = keep(run)
        if kept:
            for kind, panel in _of_run(run, number, kept, horizons).items():
                parts[kind].append(panel)
    return {kind: _joined(kind, found, horizons) for kind, found in parts.items()}


def _of_run(run: RunWindows, number: int, kept: list[int], horizons: Sequence[int]) -> dict[Kind, Panel]:
    state = selected(run.state, kept)
    blocks = {steps: action_blocks(state, steps * state.step_seconds) for steps in horizons}
    rows: dict[Kind, tuple[Rows, Float, Mapping[int, Float]]] = {
        "node": (node_rows(state), run.nodes, blocks),
        "edge": (
            edge_rows(state),
            run.edges,
            {steps: edge_actions(block, state.system) for steps, block in blocks.items()},
        ),
    }
    return {
        kind: Panel(
            kind=kind,
            columns=found.columns,
            inputs=_flat(found.inputs),
            actions={steps: _flat(block) for steps, block in actions.items()},
            current=_flat(found.current),
            following={steps: _flat(following[kept, steps - 1]) for steps in horizons},
            run=np.full(len(kept) * len(found.entities), number),
            decision=np.repeat(np.array(kept, np.int64), len(found.entities)),
            entity=found.entities * len(kept),
            asked=np.repeat([now is not None for now in state.now], len(found.entities)),
        )
        for kind, (found, following, actions) in rows.items()
    }


def _flat(block: Float) -> Float:
    return block.reshape(-1, block.shape[-1])


def _joined(kind: Kind, parts: Sequence[Panel], horizons: Sequence[int]) -> Panel:
    return Panel(
        kind=kind,
        columns=parts[0].columns,
        inputs=np.concatenate([part.inputs for part in parts]),
        actions={steps: np.concatenate([part.actions[steps] for part in parts]) for steps in horizons},
        current=np.concatenate([part.current for part in parts]),
        following={steps: np.concatenate([part.following[steps] for part in parts]) for steps in horizons},
        run=np.concatenate([part.run for part in parts]),
        decision=np.concatenate([part.decision for part in parts]),
        entity=tuple(entity for part in parts for entity in part.entity),
        asked=np.concatenate([part.asked for part in parts]),
    )
