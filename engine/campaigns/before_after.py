"""One run's own telemetry before and after a decision ➜ which cells changed, for a run that has neither sibling nor branches.

In: readings of the time before the decision and of the time after it. Out: `Effects`, as branches give them, of one run instead of K pairs.

What is tested: whether a window after the decision could be one more of those before it. If so, and if windows are independent and normal,
(window - mean) / (spread x sqrt(1 + 1/n)) is Student's t with n - 1 degrees of freedom: the prediction interval of one further observation
(Hahn and Meeker, "Statistical Intervals", 1991, chapter 4). A cell is *changed* if Benjamini-Hochberg's q over all cells is below alpha and
the difference is beyond the feature's threshold, for longer than a window or far beyond: where nothing varied before, any difference is
beyond chance.

What this can't tell is whether the decision did it. A wave of users, a burst, a cache that fills change cells as well, and one run holds
nothing to compare with: it is for stands that can't be branched, under loads that stay as they are. Pure.

Upstream: `readings`. Downstream: `certificates`.
"""

from __future__ import annotations

import msgspec
import numpy as np
from scipy import stats

from otel_control_gym.engine.campaigns.effects import (
    Effects,
    EffectSettings,
    Readings,
    in_windows,
    lasting,
    mean_of,
    measured,
    summed_columns,
)

__all__ = ("LEAST_WINDOWS", "compare_times")

LEAST_WINDOWS = 4  #: before the decision; with fewer hardly anything is beyond chance


def compare_times(before: Readings, after: Readings, settings: EffectSettings, *, window_seconds: int) -> Effects:
    """Return what changed from before a decision to after it, in the same columns of one run.

    `before` has at least `LEAST_WINDOWS` windows; what is left over at its beginning isn't used.
    """
    per_window = window_seconds // before.bucket_seconds
    count = len(before.values) // per_window
    assert count >= LEAST_WINDOWS, "too little was lived before the decision"
    used = before.values[-count * per_window :]
    usual = np.broadcast_to(mean_of(used, axis=0), after.values.shape)
    effects = measured([after], [msgspec.structs.replace(after, values=usual)], settings, window_seconds)
    windows = in_windows(used[np.newaxis], count, per_window, summed_columns(before.columns, settings))[0]
    known = np.isfinite(windows).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(mean_of((windows - mean_of(windows, axis=0)) ** 2, axis=0) * known / (known - 1))
        beyond_chance = 2 * stats.t.sf(np.abs(effects.mean) / (spread * np.sqrt(1 + 1 / known)), known - 1)
    beyond_chance = np.where(spread == 0, np.where(effects.mean == 0, 1.0, 0.0), beyond_chance)
    tested = np.isfinite(beyond_chance) & (known >= LEAST_WINDOWS)
    q = np.ones(effects.mean.shape)
    if tested.any():
        q[tested] = stats.false_discovery_control(beyond_chance[tested], method="bh")
    return msgspec.structs.replace(effects, changed=lasting(effects) & (q < settings.alpha), before=windows)
