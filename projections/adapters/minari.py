"""Runs ➜ an offline-RL dataset that the Minari library loads.

In: trajectories of runs of one application and granularity, with what their metadata says. Out: `<id>/data/` with `main_data.hdf5` and
`metadata.json`, written by Minari's own storage, so that the format is the one that the installed library reads.

An episode is the control phase of a run: T steps, T + 1 observations. Numbers are the observations' own, bit for bit, with 0 for what is
unknown; the masks say where. What belongs to a step stands in `infos` at the index of the observation after it, as Gymnasium returns it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import NotExportable
from otel_control_gym.engine.events import ActionRequested
from otel_control_gym.projections.adapters.action_encoding import ActionEncoding, EncodedAction
from otel_control_gym.projections.adapters.formats import Correspondence, FileKind, Format, Omission
from otel_control_gym.projections.trajectories import Trajectory

if TYPE_CHECKING:
    from gymnasium import Space

__all__ = ("MINARI", "RecordedEpisode", "write_minari")

NAMESPACE = "ocg"

MINARI = Format(
    name="minari",
    summary="An offline reinforcement learning dataset per application: an episode per run.",
    read_by='Minari (`minari.load_dataset("ocg/<service_config>-v0")` with `MINARI_DATASETS_PATH` set to the export\'s directory, or '
    "`MinariDataset(path of data)`) and what reads through it",
    files=(
        FileKind(
            "ocg/<service_config>-v0/data/main_data.hdf5",
            "episodes: observations, actions, rewards, ends, infos; seed and options as attributes",
        ),
        FileKind(
            "ocg/<service_config>-v0/data/metadata.json",
            "spaces, names along the axes, the encoding of actions, and `run_configs`: the configuration of every episode in full, "
            "with its interventions",
            truth=True,
        ),
    ),
    fields=(
        Correspondence("`observations/nodes`", "`Observation.nodes`", "[T + 1, W, N, F] float64, 0 where unknown"),
        Correspondence("`observations/edges`", "`Observation.edges`", "[T + 1, W, E, G] float64, 0 where unknown"),
        Correspondence(
            "`actions`",
            "the decision of the step, `noop` too",
            "`type`, `target`, `numbers`, `given`, `choices`: see below",
        ),
        Correspondence("`rewards`", "what `step` returned", "sum of the reward buckets that ended in the step"),
        Correspondence("`terminations`", "goal, emergency, reset_required, stand_lost", "at the last step only"),
        Correspondence(
            "`truncations`",
            "horizon, closed early, aborted",
            "at the last step: the value of the last state is censored",
        ),
        Correspondence(
            "`infos/node_mask`, `infos/edge_mask`", "`Observation.node_mask`, `.edge_mask`", "True where known"
        ),
        Correspondence(
            "`infos/propensity`", "`propensity` of `actions`", "NaN where the policy gave none, and at index 0"
        ),
        Correspondence("`infos/alternatives`", "`alternatives` of `actions`", "JSON, empty where the policy gave none"),
        Correspondence(
            "`infos/family_id`", "`family_id` of the metadata", "to split by; the same in all of an episode"
        ),
        Correspondence("`infos/action`", "`actions`", "JSON form that `env.step` accepts; empty at index 0"),
        Correspondence(
            "`infos/action_is_whole`", "–", "False where a text or mapping of the action isn't in `actions`"
        ),
        Correspondence(
            "`infos/dt_s`, `infos/time_ns`, `infos/log_sequence`", "length of the step, moment, log position"
        ),
        Correspondence("`infos/reward_components`", "raw components", "unweighted, 0 at index 0"),
        Correspondence("attribute `seed`", "`seed`", "of the run: replays it, with its entry of `run_configs`"),
        Correspondence(
            "attributes `options`", "run_id (the key in `run_configs`), scenario_id, policy, `replays`, done_reason"
        ),
    ),
    rules=(
        "Actions are encoded from the catalogue (`action_encoding` in `metadata.json` names every index): `type` and `target` (0: none) "
        "are indices, `numbers` holds every numeric parameter in its unit with `given` telling which are there, `choices` holds 0 for "
        "absent, else 1 + the index of the value. Parameters are resolved ones: numbers for words.",
        "Seed and configuration replay the episode on the twin: `ocg.make(config)`, `reset(seed=…)`, then `step(action, dt)` by `infos` "
        "gives the same observations, bit for bit. `options.replays` is false where that can't be: on a cluster, or where a human acted.",
        "Runs of several applications become several datasets; runs of one application with other windows or buckets can't share one.",
        "A step that the run broke off within has no observation after it and is left out.",
        "Ground truth (interventions, seed) is in `run_configs` and the attributes, never in observations, actions, rewards or infos.",
    ),
    left_out=(
        Omission("NaN", "0 and a mask: most learners can't take it"),
        Omission(
            "events, logs, traces, findings of an observation", "no numeric space; they are in the run's own files"
        ),
        Omission(
            "texts and mappings in parameters (environment, mix, version, profile)",
            "no numeric space; `infos/action` has them",
        ),
        Omission(
            "outcomes of actions (status, when it took effect)", "known later than the step; in `actions.parquet`"
        ),
        Omission("warm-up and cool-down", "no decision is made in them"),
        Omission(
            "the environment's specification",
            "there is no registered Gymnasium id: `recover_environment` can't be used, `run_configs` can",
        ),
    ),
    extra="minari",
)


class RecordedEpisode(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A run as an episode."""

    run_id: str
    seed: int
    family_id: str
    scenario_id: str
    service_config: str
    policy: str
    stand: str
    run_config: dict[str, Any]
    trajectory: Trajectory
    actions: tuple[dict[str, Any], ...]  #: [T] JSON form of each decision

    @property
    def replays(self) -> bool:
        """Whether seed, configuration and actions give the same observations again."""
        return self.stand == "twin" and not self.trajectory.by_others


def write_minari(episodes: Sequence[RecordedEpisode], encoding: ActionEncoding, directory: Path) -> str:
    """Write the episodes of one application as one dataset below `directory`, in their order; return its id.

    Raises:
        NotExportable: the episodes' observations have other axes, or Minari isn't installed.
        OSError: the files can't be written.
    """
    try:
        import gymnasium as gym
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage
    except ImportError as error:
        raise NotExportable(
            f"minari: the library isn't installed ({error})\n  pip install 'otel-control-gym[minari]'"
        ) from error
    first = episodes[0].trajectory
    for episode in episodes[1:]:
        if _axes(episode.trajectory) != _axes(first):
            raise NotExportable(
                f"runs {episodes[0].run_id} and {episode.run_id}: their observations have other windows, nodes or edges, and can't be "
                "in one Minari dataset\n  export them apart"
            )
    dataset_id = f"{NAMESPACE}/{episodes[0].service_config}-v0"
    data = directory.absolute() / dataset_id / "data"  # the storage measures itself wrongly under a relative path
    data.parent.mkdir(parents=True)
    observation_space = gym.spaces.Dict(
        {
            name: gym.spaces.Box(-np.inf, np.inf, values.shape[1:], np.float64)
            for name, values in (("edges", first.edges), ("nodes", first.nodes))
        }
    )
    storage = MinariStorage.new(data, observation_space, _action_space(encoding), data_format="hdf5")
    storage.update_metadata(
        {
            "dataset_id": dataset_id,
            "minari_version": version("minari"),
            "description": f"Control phases of runs of {episodes[0].service_config}, exported by otel-control-gym",
            "axes": {
                "node_names": first.node_names,
                "node_features": first.node_features,
                "edge_names": ["->".join(name[:2]) for name in first.edge_names],
                "edge_features": first.edge_features,
            },
            "action_encoding": msgspec.to_builtins(encoding),
            "run_configs": {episode.run_id: episode.run_config for episode in episodes},
        }
    )
    storage.update_episodes([EpisodeBuffer(**_buffer(episode, encoding)) for episode in episodes])
    return dataset_id


def _axes(trajectory: Trajectory) -> tuple[object, ...]:
    return (
        trajectory.nodes.shape[1:],
        trajectory.edges.shape[1:],
        trajectory.node_names,
        trajectory.edge_names,
        trajectory.node_features,
        trajectory.edge_features,
    )


def _action_space(encoding: ActionEncoding) -> Space[Any]:
    from gymnasium import spaces

    return spaces.Dict(
        {
            "choices": spaces.MultiDiscrete([1 + len(values) for _, values in encoding.choices]),
            "given": spaces.MultiBinary(len(encoding.numbers)),
            "numbers": spaces.Box(-np.inf, np.inf, (len(encoding.numbers),), np.float64),
            "target": spaces.Discrete(len(encoding.targets)),
            "type": spaces.Discrete(len(encoding.types)),
        }
    )


def _buffer(episode: RecordedEpisode, encoding: ActionEncoding) -> dict[str, Any]:
    seen = episode.trajectory
    steps = len(seen.rewards)
    encoded = [_encoded(life.requested, encoding) for life in seen.lives]
    last = np.arange(steps) == steps - 1
    return {
        "seed": episode.seed,
        "options": {
            "run_id": episode.run_id,
            "scenario_id": episode.scenario_id,
            "policy": episode.policy,
            "replays": episode.replays,
            "done_reason": seen.done_reason,
        },
        "observations": {"edges": _known(seen.edges), "nodes": _known(seen.nodes)},
        "actions": {
            "choices": np.stack([action.choices for action in encoded]),
            "given": np.stack([action.given for action in encoded]),
            "numbers": np.stack([action.numbers for action in encoded]),
            "target": np.array([action.target for action in encoded], np.int64),
            "type": np.array([action.type for action in encoded], np.int64),
        },
        "rewards": seen.rewards,
        "terminations": last & seen.terminated,
        "truncations": last & seen.truncated,
        "infos": _infos(episode, encoded),
    }


def _known(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(np.isnan(values), 0.0, values)


def _encoded(asked: ActionRequested, encoding: ActionEncoding) -> EncodedAction:
    parameters = {name: value for name, value in asked.parameters.items() if name != "duration_class"}
    parameters["duration_seconds"] = None if asked.duration_ns is None else asked.duration_ns / SECOND
    return encoding.encode(asked.action_type, asked.target, parameters)


def _infos(episode: RecordedEpisode, encoded: Sequence[EncodedAction]) -> dict[str, Any]:
    """Return what is told with each observation: at 0 what `reset` tells, at t + 1 what step t does."""
    seen = episode.trajectory
    asked = [life.requested for life in seen.lives]
    chances = [np.nan if request.propensity is None else request.propensity for request in asked]
    weighed = ["" if request.alternatives is None else _text(request.alternatives) for request in asked]
    return {
        "action": ["", *map(_text, episode.actions)],
        "action_is_whole": np.array([True, *(action.lossless for action in encoded)]),
        "alternatives": ["", *weighed],
        "dt_s": np.concatenate([[0.0], np.diff(seen.times) / SECOND]),
        "edge_mask": ~np.isnan(seen.edges),
        "family_id": [episode.family_id] * len(seen.times),
        "log_sequence": seen.sequences,
        "node_mask": ~np.isnan(seen.nodes),
        "propensity": np.array([np.nan, *chances]),
        "reward_components": {name: np.concatenate([[0.0], seen.components[name]]) for name in sorted(seen.components)},
        "time_ns": seen.times,
    }


def _text(document: Any) -> str:
    return json.dumps(document, sort_keys=True)
