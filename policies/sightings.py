"""An observation ➜ the few figures that rules look at, per service.

In: an observation. Out: arrays [N] in the order of its nodes; NaN where nothing is known. Pure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.observation import Observation

__all__ = ("latest", "least", "mean", "own_error_ratio", "rolled_out")

Float = npt.NDArray[np.float64]


def latest(observation: Observation, feature: str) -> Float:
    """Return a feature's newest known value of each service, [N]."""
    found = np.full(len(observation.node_names), np.nan)
    for row in _column(observation, feature):
        found = np.where(np.isnan(row), found, row)
    return found


def mean(observation: Observation, feature: str, buckets: int) -> Float:
    """Return the mean of a feature over the last `buckets` buckets that are known, [N]."""
    recent = _column(observation, feature)[-buckets:]
    counts = np.sum(~np.isnan(recent), axis=0)
    unknown = np.full(counts.shape, np.nan)
    return np.asarray(np.divide(np.nansum(recent, axis=0), counts, out=unknown, where=counts > 0))


def least(observation: Observation, feature: str, buckets: int) -> Float:
    """Return the least value of a feature over the last `buckets` buckets, [N]; NaN where one of them is unknown."""
    return np.asarray(np.min(_column(observation, feature)[-buckets:], axis=0))


def own_error_ratio(observation: Observation, buckets: int) -> Float:
    """Return the error ratio of each service, by its own account or its callers', less the worst of the calls that it makes, [N].

    Errors travel up a call graph: who fails because another fails isn't who is to be treated. Callers are asked too, because who is down
    counts no errors.
    """
    failed = np.nan_to_num(mean(observation, "error_ratio", buckets))
    position = observation.edge_features.index("error_ratio")
    calls = np.nan_to_num(observation.edges[-buckets:, :, position]).mean(axis=0)
    passed_on = np.zeros_like(failed)
    names = observation.node_names
    for (source, target, _), ratio in zip(observation.edge_names, calls, strict=True):
        if target in names:
            failed[names.index(target)] = max(failed[names.index(target)], ratio)
        if source in names:
            passed_on[names.index(source)] = max(passed_on[names.index(source)], ratio)
    return np.maximum(failed - passed_on, 0.0)


def rolled_out(observation: Observation) -> dict[str, int]:
    """Return when [ns] each service's template was last changed within the window, by anybody but this policy, newest last."""
    changes = {
        happening.object.removeprefix("Deployment/"): happening.time
        for happening in observation.events
        if happening.source == "rollouts"
        and happening.type == "new_revision"
        and happening.object.startswith("Deployment/")
        and happening.caused_by_action_id is None
    }
    return dict(sorted(changes.items(), key=lambda item: (item[1], item[0])))


def _column(observation: Observation, feature: str) -> Float:
    return np.asarray(observation.nodes[:, :, observation.node_features.index(feature)])
