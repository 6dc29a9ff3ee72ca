"""By what an error is divided before errors of different features and entities are averaged: persistence's error on training families.

So 1 is "as bad as saying that nothing changes", for every service and feature alike. An error that is smaller than what anybody could
care for (`FLOORS`, a tenth of the thresholds in `configs/effects/`) isn't divided by: a feature that never moved in training would make
any error infinite. An entity that training didn't see (a configuration that was held out) is scaled by the median over the entities that
it did.

Pure. Downstream: `next_state`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ("FLOORS", "Scales", "fit_scales")

Float = npt.NDArray[np.float64]

FLOORS: Mapping[str, float] = {
    "request_rate": 0.05,
    "error_ratio": 0.001,
    "latency_mean_ms": 1.0,
    "cpu_usage_cores": 0.002,
    "memory_usage_bytes": 838_861.0,
    "network_rx_bytes_per_s": 200.0,
    "network_tx_bytes_per_s": 200.0,
}


class Scales(msgspec.Struct, frozen=True, kw_only=True):
    """Persistence's mean absolute error on training families at one horizon, by application, entity and feature."""

    of_entity: dict[tuple[str, str, str], float]
    of_feature: dict[str, float]  #: median over the entities

    def of(self, configurations: Sequence[str], entities: Sequence[str], feature: str) -> Float:
        """Return the scale of each row, [R]."""
        otherwise = self.of_feature.get(feature, FLOORS[feature])
        keys = zip(configurations, entities, strict=True)
        return np.array([self.of_entity.get((*key, feature), otherwise) for key in keys])


def fit_scales(
    configurations: Sequence[str], entities: Sequence[str], features: Sequence[str], errors: Float
) -> Scales:
    """Return the scales of persistence's absolute errors, [R, T], of training rows; NaN: unknown."""
    found: dict[tuple[str, str, str], float] = {}
    rows: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(configurations, entities, strict=True)):
        rows[key].append(row)
    for key in sorted(rows):
        own = errors[rows[key]]
        for position, feature in enumerate(features):
            known = own[np.isfinite(own[:, position]), position]
            if len(known):
                found[*key, feature] = max(float(known.mean()), FLOORS[feature])
    medians = {
        feature: float(np.median([scale for key, scale in found.items() if key[-1] == feature] or [FLOORS[feature]]))
        for feature in features
    }
    return Scales(of_entity=found, of_feature=medians)
