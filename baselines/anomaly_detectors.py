"""Detectors of anomalies: public telemetry of a run ➜ how odd each entity is in each bucket.

A detector is fitted on runs of the train families, of which it may be told which buckets are calm, and then scores any run, without labels.
A score of a bucket uses that bucket and earlier ones only, so it could have been known when the bucket closed. Higher is odder; scores of
different detectors have no common unit. All but the floors read the same features (`entity_series.FEATURES`).

- `RobustDeviation`: distance from the median of the run's own warm-up, in units of the spread that such distances have in calm buckets of
  train, per application, entity and feature; the largest of an entity's features counts. The spread is 1.4826 MAD, or a third of the 99th
  percentile where that is more: counts of few requests have tails that a MAD doesn't see.
- `Forest`: an isolation forest (Liu, Ting and Zhou, ICDM 2008) over a service's robust deviations, signed, and the largest among its calls.
- `ForecastResidual`: how far a ridge regression on the entity's own last minute misses the bucket, in units of its misses on train.
- floors: `ThreeSigma` (mean and standard deviation of train), `Findings` (what Coroot had told by then), `Chance`, `Constant`.

How odd the whole application is (`system_score`) is the mean of its three oddest entities: one alone is as often an idle edge's whim.

No spread is taken for smaller than a third of what counts as an effect (`configs/effects/`): a series that stood still in train would
make every twitch of it infinitely odd.

Upstream: `entity_series`. Downstream: `anomalies` fits, scores and judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.entity_series import FEATURES, EntitySeries
from otel_control_gym.engine.campaigns.effects import EffectSettings
from otel_control_gym.engine.configuration_files import load
from otel_control_gym.engine.randomness import derive_seed

__all__ = (
    "SHARE_OF_EFFECT",
    "Chance",
    "Constant",
    "Detector",
    "Findings",
    "ForecastResidual",
    "Forest",
    "RobustDeviation",
    "Scale",
    "ThreeSigma",
    "deviations",
    "fit_scale",
    "practical_thresholds",
    "system_score",
)

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_MAD_TO_SIGMA = 1.4826  #: of a normal distribution
SHARE_OF_EFFECT = 1 / 3  #: of the practical threshold: three such units make an effect
_FAR = 1e9
_TAIL, _TAIL_UNITS = 99.0, 3.0  #: the percentile that lies at least so many units out
_ODDEST = 3  #: entities that an application's score is made of
_LAGS = 6  #: buckets that a forecast looks back
_TREES, _TREE_ROWS = 50, 256  #: the paper finds no gain beyond 256 rows, and scores settled well before its 100 trees
_FEWEST_ROWS = 50  #: that a regression of a feature is fitted to


class Detector(Protocol):
    """Scores runs."""

    def fit(self, runs: Sequence[EntitySeries], calm: Sequence[Bool]) -> None:
        """Learn what is usual from runs of the train families; `calm` [T] says of each run's buckets which are."""
        ...

    def score(self, run: EntitySeries) -> Float:
        """Return how odd each entity is in each bucket, [T, S + E]; NaN where nothing was seen of it."""
        ...


class Scale(msgspec.Struct, frozen=True, eq=False):
    """Spread of deviations from a run's own warm-up, by (application, entity); `anywhere` for those that train didn't hold."""

    spreads: Mapping[tuple[str, str], Float]  #: [F], NaN where train had no reading
    medians: Mapping[tuple[str, str], Float]  #: [F] of the readings themselves: for what a warm-up doesn't show
    anywhere: Float  #: [F]
    absolute: Float  #: [F] practical thresholds
    relative: Float  #: [F]

    def spread(self, run: EntitySeries) -> Float:
        """Return the spreads of a run's entities [S + E, F], as measured; NaN nowhere."""
        rows = [self.spreads.get((run.configuration, entity), self.anywhere) for entity in run.entities]
        found = np.stack(rows)
        return np.where(np.isnan(found), self.anywhere, found)

    def centre(self, run: EntitySeries) -> Float:
        """Return what is usual [S + E, F]: the median of the warm-up, else that of train, else NaN."""
        unknown = np.full(len(FEATURES), np.nan)
        of_train = np.stack([self.medians.get((run.configuration, entity), unknown) for entity in run.entities])
        own = _median(run.values[: run.warmup_buckets])
        return np.where(np.isnan(own), of_train, own)

    def floor(self, centre: Float) -> Float:
        """Return the least spread [S + E, F] around what is usual."""
        effect = np.fmax(self.absolute, self.relative * np.abs(np.nan_to_num(centre)))
        return SHARE_OF_EFFECT * effect


def fit_scale(runs: Sequence[EntitySeries], calm: Sequence[Bool]) -> Scale:
    """Return the spreads of calm buckets around the warm-ups of their runs."""
    apart: dict[tuple[str, str], list[Float]] = {}
    readings: dict[tuple[str, str], list[Float]] = {}
    for run, quiet in zip(runs, calm, strict=True):
        centre = _median(run.values[: run.warmup_buckets])
        for place, entity in enumerate(run.entities):
            seen = run.values[quiet, place]
            readings.setdefault((run.configuration, entity), []).append(seen)
            apart.setdefault((run.configuration, entity), []).append(np.abs(seen - centre[place]))
    spreads = {key: _spread(np.concatenate(found)) for key, found in apart.items()}
    absolute, relative = practical_thresholds()
    anywhere = _median(np.stack(list(spreads.values()))) if spreads else np.full(len(FEATURES), np.nan)
    return Scale(
        spreads=spreads,
        medians={key: _median(np.concatenate(found)) for key, found in readings.items()},
        anywhere=np.nan_to_num(anywhere),
        absolute=absolute,
        relative=relative,
    )


def deviations(run: EntitySeries, scale: Scale) -> Float:
    """Return the signed distances from what is usual in robust units, [T, S + E, F], at most 30; NaN where unknown."""
    centre = scale.centre(run)
    unit = np.fmax(scale.spread(run), scale.floor(centre))
    return np.clip((run.values - centre) / unit, -_FAR, _FAR)


def practical_thresholds() -> tuple[Float, Float]:
    """Return from which size on a difference of each feature matters: absolute [F], and as a share [F]."""
    settings, _ = load("effects", "default", EffectSettings)
    found = [settings.features[name] for name in FEATURES]
    return np.array([each.absolute for each in found]), np.array([each.relative for each in found])


class RobustDeviation:
    """The largest robust deviation among an entity's features."""

    def fit(self, runs: Sequence[EntitySeries], calm: Sequence[Bool]) -> None:
        """Learn the spreads."""
        self._scale = fit_scale(runs, calm)

    def score(self, run: EntitySeries) -> Float:
        """Return the largest deviation [T, S + E], in robust standard deviations."""
        return _largest(np.abs(deviations(run, self._scale)))


class Forest:
    """An isolation forest over what is odd about one service in one bucket: its own deviations, and the largest of its calls'."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, runs: Sequence[EntitySeries], calm: Sequence[Bool]) -> None:
        """Grow the forest on the calm buckets."""
        from sklearn.ensemble import IsolationForest

        self._scale = fit_scale(runs, calm)
        rows = [self._vectors(run)[quiet].reshape(-1, 2 * len(FEATURES)) for run, quiet in zip(runs, calm, strict=True)]
        state = derive_seed(self._seed, "isolation-forest") % 2**32
        forest = IsolationForest(n_estimators=_TREES, max_samples=_TREE_ROWS, random_state=state)
        self._forest = forest.fit(np.concatenate(rows))

    def score(self, run: EntitySeries) -> Float:
        """Return the anomaly score of the paper [T, S + E], in (0, 1); unknown of edges, which count with their source."""
        vectors = self._vectors(run)
        scores = np.full(run.values.shape[:2], np.nan)
        found = -self._forest.score_samples(vectors.reshape(-1, vectors.shape[2]))
        scores[:, : len(run.services)] = found.reshape(vectors.shape[:2])
        return scores

    def _vectors(self, run: EntitySeries) -> Float:
        """Return what a tree splits [T, S, 2 F]: logarithms, since it draws its splits evenly over a feature's range."""
        found = np.nan_to_num(deviations(run, self._scale))
        count = len(run.services)
        calls = np.zeros((run.buckets, count, len(FEATURES)))
        for place, (source, _) in enumerate(run.edges, start=count):
            if source in run.services:
                caller = run.services.index(source)
                calls[:, caller] = np.maximum(calls[:, caller], np.abs(found[:, place]))
        both = np.concatenate([found[:, :count], calls], axis=2)
        vectors: Float = np.sign(both) * np.log1p(np.abs(both))
        return vectors


class ForecastResidual:
    """What a passive forecast, one bucket ahead, misses; one ridge regression per feature over all entities' own lags."""

    def fit(self, runs: Sequence[EntitySeries], calm: Sequence[Bool]) -> None:
        """Fit the regressions on calm buckets after calm buckets, and measure what they miss there."""
        from sklearn.linear_model import Ridge

        self._scale = fit_scale(runs, calm)
        self._models: list[Ridge | None] = []
        series = [deviations(run, self._scale) for run in runs]
        for feature in range(len(FEATURES)):
            pairs = []
            for found, quiet in zip(series, calm, strict=True):
                lags = _lags(found[:, :, feature])
                chosen = ~np.isnan(lags).any(axis=2) & _after_calm(quiet)[:, np.newaxis]
                pairs.append(lags[chosen])
            rows = np.concatenate(pairs)
            self._models.append(Ridge().fit(rows[:, :-1], rows[:, -1]) if len(rows) >= _FEWEST_ROWS else None)
        missed: dict[tuple[str, str], list[Float]] = {}
        for run, found, quiet in zip(runs, series, calm, strict=True):
            rest = np.abs(self._residuals(found))[_LAGS:][_after_calm(quiet)]
            for place, entity in enumerate(run.entities):
                missed.setdefault((run.configuration, entity), []).append(rest[:, place])
        self._missed = {key: _spread(np.concatenate(rest)) for key, rest in missed.items()}

    def score(self, run: EntitySeries) -> Float:
        """Return the largest miss among the features [T, S + E], in units of the misses on train, at least one robust deviation."""
        unknown = np.full(len(FEATURES), np.nan)
        units = np.stack([self._missed.get((run.configuration, entity), unknown) for entity in run.entities])
        return _largest(np.abs(self._residuals(deviations(run, self._scale))) / np.fmax(units, 1.0))

    def _residuals(self, found: Float) -> Float:
        """Return what the regressions miss [T, S + E, F]; where lags are unknown, what was seen itself."""
        rest = found.copy()
        for feature, model in enumerate(self._models):
            lags = _lags(found[:, :, feature])
            whole = ~np.isnan(lags).any(axis=2)
            if model is not None and whole.any():
                rest[_LAGS:, :, feature][whole] = lags[whole][:, -1] - model.predict(lags[whole][:, :-1])
        return rest


class ThreeSigma:
    """The plain control chart: distance from train's mean in its standard deviations, with nothing of the run's own."""

    def fit(self, runs: Sequence[EntitySeries], calm: Sequence[Bool]) -> None:
        """Learn mean and standard deviation of calm buckets per application, entity and feature."""
        readings: dict[tuple[str, str], list[Float]] = {}
        for run, quiet in zip(runs, calm, strict=True):
            for place, entity in enumerate(run.entities):
                readings.setdefault((run.configuration, entity), []).append(run.values[quiet, place])
        self._known = {key: _mean_and_deviation(np.concatenate(found)) for key, found in readings.items()}
        self._absolute, self._relative = practical_thresholds()

    def score(self, run: EntitySeries) -> Float:
        """Return the largest distance [T, S + E], in standard deviations; of an entity that train didn't hold, unknown."""
        unknown = np.full((2, len(FEATURES)), np.nan)
        known = np.stack([self._known.get((run.configuration, entity), unknown) for entity in run.entities])
        mean, deviation = known[:, 0], known[:, 1]
        least = SHARE_OF_EFFECT * np.fmax(self._absolute, self._relative * np.abs(mean))
        return _largest(np.abs(run.values - mean) / np.fmax(deviation, least))


class Findings:
    """The tool's own word: how severe what Coroot had told of a service by the bucket's end is; nothing to fit."""

    def fit(self, runs: Sequence[EntitySeries], calm: Sequence[Bool]) -> None:
        """Do nothing."""

    def score(self, run: EntitySeries) -> Float:
        """Return the severity [T, S + E]: 0 none, 1 warning, 2 critical; unknown of edges."""
        scores = np.full(run.values.shape[:2], np.nan)
        scores[:, : len(run.services)] = run.suspicions
        return scores


class Chance:
    """A number between 0 and 1 by chance: what any score must beat."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, runs: Sequence[EntitySeries], calm: Sequence[Bool]) -> None:
        """Do nothing."""

    def score(self, run: EntitySeries) -> Float:
        """Return numbers [T, S + E] that depend on the seed and the run's id alone."""
        from sklearn.utils import check_random_state

        state = check_random_state(derive_seed(self._seed, f"random/{run.run_id}") % 2**32)
        drawn: Float = state.uniform(size=run.values.shape[:2])
        return drawn


class Constant:
    """The same number everywhere."""

    def fit(self, runs: Sequence[EntitySeries], calm: Sequence[Bool]) -> None:
        """Do nothing."""

    def score(self, run: EntitySeries) -> Float:
        """Return zeros [T, S + E]."""
        return np.zeros(run.values.shape[:2])


def system_score(scores: Float) -> Float:
    """Return how odd the application is in each bucket [T], of the scores of some of its entities [T, K]: the mean of the three highest.

    An entity of which nothing was seen counts as 0, or as the lowest score where scores are negative.
    """
    least = min(0.0, float(np.nanmin(scores))) if scores.size and not np.isnan(scores).all() else 0.0
    ranked = -np.sort(-np.nan_to_num(scores, nan=least), axis=1)
    oddest: Float = ranked[:, :_ODDEST].mean(axis=1) if scores.shape[1] else np.zeros(len(scores))
    return oddest


# --- parts ----------------------------------------------------------------------------------------------------------------


def _largest(values: Float) -> Float:
    """Return the largest along the last axis; NaN where none is known."""
    known = ~np.isnan(values)
    return np.where(known.any(axis=2), np.where(known, values, -np.inf).max(axis=2), np.nan)


def _median(values: Float) -> Float:
    """Return medians along the first axis; NaN where nothing is known."""
    known = ~np.isnan(values)
    filled = np.where(known.any(axis=0), values, 0.0)
    return np.where(known.any(axis=0), np.nanmedian(filled, axis=0) if len(values) else np.nan, np.nan)


def _mean_and_deviation(values: Float) -> Float:
    """Return mean and standard deviation along the first axis, [2, F]; NaN where fewer than two are known."""
    enough = (~np.isnan(values)).sum(axis=0) > 1
    filled = np.where(enough, values, 0.0)
    return np.where(enough, np.stack([np.nanmean(filled, axis=0), np.nanstd(filled, axis=0)]), np.nan)


def _spread(distances: Float) -> Float:
    """Return the unit of distances along the first axis; NaN where nothing is known."""
    known = ~np.isnan(distances).all(axis=0)
    filled = np.where(known, distances, 0.0)
    if not len(distances):
        return np.full(distances.shape[1:], np.nan)
    tail = np.nanpercentile(filled, _TAIL, axis=0) / _TAIL_UNITS
    return np.where(known, np.fmax(_MAD_TO_SIGMA * np.nanmedian(filled, axis=0), tail), np.nan)


def _after_calm(quiet: Bool) -> Bool:
    """Return which buckets, from the first that has all lags on, are calm after calm ones [T - lags]."""
    if len(quiet) <= _LAGS:
        return np.zeros(0, bool)
    windows = np.lib.stride_tricks.sliding_window_view(quiet, _LAGS + 1)
    return np.asarray(windows.all(axis=1), bool)


def _lags(series: Float) -> Float:
    """Return [T - lags, S + E, lags + 1] of a series [T, S + E]: each bucket, the last, behind those before it."""
    if len(series) <= _LAGS:
        return np.zeros((0, series.shape[1], _LAGS + 1))
    windows: Float = np.lib.stride_tricks.sliding_window_view(series, _LAGS + 1, axis=0)
    return windows
