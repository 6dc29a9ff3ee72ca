"""The two model classes of all forecasts, a line and boosted trees, each for several targets at once.

In: rows of numbers with the name of what each is a row of, and targets. Out: fitted models. Twins are fitted by this one code, with the
same candidates to tune over and the same seeds; the one that knows the action has its columns besides, and nothing else differs.

- *ridge*: what both twins read is standardised; columns of actions aren't. Nearly all of them are 0 nearly always, and divided by their
  spread even a single action would count as an outlier: as they are, the penalty shrinks the effect of a kind of action that was seen n
  times by n / (n + penalty), roughly. Unknown is the training mean.
- *boosted*: trees of scikit-learn, to which unknown is a branch of its own; the seed decides which columns a split looks at. What is
  foretold is the mean over the seeds.

A target that is unknown is left out. Pure but for what scikit-learn draws, which is seeded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

__all__ = ("MODEL_CLASSES", "Loss", "ModelClass", "Regressor", "fit_regressor")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
ModelClass: TypeAlias = Literal["ridge", "boosted"]
Loss: TypeAlias = Literal["squared_error", "absolute_error"]

MODEL_CLASSES: tuple[ModelClass, ...] = ("ridge", "boosted")
_PENALTIES = (1.0, 3.0, 10.0, 30.0)
_FAR = 8.0  #: standard deviations beyond which an input is cut: an unseen service mustn't throw a line off
_TREES = {
    "max_iter": 50,
    "learning_rate": 0.15,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 8,
    "l2_regularization": 1.0,
    "max_bins": 63,
}
_FEW_ROWS = {
    "max_iter": 40,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 3,
}  #: in the place of those, where a kind of row is seen a handful of times
_SHARE_OF_COLUMNS = 0.4  #: that a split looks at
_FEWEST_ROWS, _FEWEST_OF_FEW = 50, 15  #: below which nothing is learnt of a target


class Encoding(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How rows become numbers: centre and spread of P columns, and the names that training saw."""

    names: tuple[str, ...]
    centre: Float  #: [P]
    spread: Float  #: [P]

    def for_lines(self, inputs: Float, actions: Float | None, identity: Sequence[str]) -> Float:
        """Return standardised inputs, one column per name, and the action as it is; an unseen name is none of them."""
        numbers = np.clip(np.nan_to_num((inputs - self.centre) / self.spread), -_FAR, _FAR)
        codes = self.codes(identity)
        parts = [numbers, np.eye(len(self.names) + 1)[codes][:, : len(self.names)]]
        return np.concatenate([*parts, *([] if actions is None else [np.nan_to_num(actions)])], axis=1)

    def for_trees(self, inputs: Float, actions: Float | None, identity: Sequence[str]) -> Float:
        """Return the inputs as they are, the name's number, and the action."""
        codes = self.codes(identity).astype(np.float64)
        parts = [inputs, np.where(codes < len(self.names), codes, np.nan)[:, np.newaxis]]
        return np.concatenate([*parts, *([] if actions is None else [actions])], axis=1)

    def codes(self, identity: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the number of each name, [R]; of one that training didn't see, one more than the last."""
        position = {name: number for number, name in enumerate(self.names)}
        return np.array([position.get(name, len(self.names)) for name in identity], np.int64)


class Regressor(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Foretells T targets of a row; NaN for a target that there was nothing to learn of."""

    model_class: ModelClass
    encoding: Encoding
    weights: Float  #: [columns, T] of the line
    intercepts: Float  #: [T]
    penalties: Float  #: [T]
    trees: tuple[tuple[Any, ...], ...]  #: [seeds, T]; none: a line

    def predict(self, inputs: Float, actions: Float | None, identity: Sequence[str]) -> Float:
        """Return what is foretold of R rows, [R, T]: the mean over the seeds."""
        found: Float = self.predict_by_seed(inputs, actions, identity).mean(axis=0)
        return found

    def predict_by_seed(self, inputs: Float, actions: Float | None, identity: Sequence[str]) -> Float:
        """Return what each seed's model foretells, [seeds, R, T]; a line has none: [1, R, T]."""
        if not len(inputs):
            return np.zeros((max(1, len(self.trees)), 0, len(self.intercepts)))
        if not self.trees:
            rows = self.encoding.for_lines(inputs, actions, identity)
            return (rows @ self.weights + self.intercepts)[np.newaxis]
        rows = self.encoding.for_trees(inputs, actions, identity)
        unknown = np.full(len(rows), np.nan)
        return np.stack(
            [
                np.stack([unknown if one is None else one.predict(rows) for one in of_seed], axis=-1)
                for of_seed in self.trees
            ]
        )


def fit_regressor(
    inputs: Float,
    actions: Float | None,
    identity: Sequence[str],
    wanted: Float,
    held: Bool,
    *,
    model_class: ModelClass,
    seeds: Sequence[int],
    losses: Sequence[Loss] | None = None,
    weights: Float | None = None,
    few: bool = False,
) -> Regressor:
    """Return a model of T targets.

    Args:
        inputs: [R, P] what both twins read.
        actions: [R, A] what the action-conditioned one reads besides; None for the passive one.
        identity: [R] what each row is a row of.
        wanted: [R, T] targets; NaN: unknown.
        held: [R] rows of validation families, by which the penalty of a line is chosen; they train the final model, too.
        model_class: which.
        seeds: of the trees; a line draws nothing.
        losses: [T] of the trees: whether a target's mean is foretold, or its median; None: means, as a line does.
        weights: [R, T] of the rows in the loss; None: all alike.
        few: rows of a kind are few: smaller trees, with fewer rows to a leaf.
    """
    encoding = _encoding(inputs, identity)
    fewest = _FEWEST_OF_FEW if few else _FEWEST_ROWS
    if model_class == "ridge":
        rows = encoding.for_lines(inputs, actions, identity)
        lines, intercepts, penalties = _fit_lines(rows, wanted, held, weights, fewest)
        trees: tuple[tuple[Any, ...], ...] = ()
    else:
        rows = encoding.for_trees(inputs, actions, identity)
        lines, intercepts, penalties = np.zeros((0, wanted.shape[1])), np.zeros(wanted.shape[1]), np.zeros(0)
        settings = [
            {**_TREES, **(_FEW_ROWS if few else {}), "loss": loss}
            for loss in losses or ["squared_error"] * wanted.shape[1]
        ]
        columns = [None] * wanted.shape[1] if weights is None else list(weights.T)
        targets = list(zip(wanted.T, columns, settings, strict=True))
        trees = tuple(tuple(_fit_trees(rows, *target, seed, fewest) for target in targets) for seed in seeds)
    return Regressor(
        model_class=model_class,
        encoding=encoding,
        weights=lines,
        intercepts=intercepts,
        penalties=penalties,
        trees=trees,
    )


def _encoding(inputs: Float, identity: Sequence[str]) -> Encoding:
    known = np.isfinite(inputs)
    count = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, inputs, 0.0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, inputs - centre, 0.0) ** 2).sum(axis=0) / count)
    return Encoding(names=tuple(sorted(set(identity))), centre=centre, spread=np.where(spread > 1e-9, spread, 1.0))


def _fit_trees(
    rows: Float, target: Float, weight: Float | None, settings: Mapping[str, Any], seed: int, fewest: int
) -> HistGradientBoostingRegressor | None:
    known = np.isfinite(target)
    if known.sum() < fewest:
        return None
    trees = HistGradientBoostingRegressor(
        **settings, max_features=_SHARE_OF_COLUMNS, early_stopping=False, random_state=seed
    )
    learnt = rows[known]
    learnt[:, ~np.isfinite(learnt).any(axis=0)] = (
        0.0  # a column of which nothing is known can't be binned; no split is made on it
    )
    return trees.fit(learnt, target[known], sample_weight=None if weight is None else weight[known])


def _fit_lines(
    rows: Float, wanted: Float, held: Bool, weights: Float | None, fewest: int
) -> tuple[Float, Float, Float]:
    """Return weights [columns, T], intercepts [T] and penalties [T]; targets known and weighed alike are fitted together."""
    known = np.isfinite(wanted)
    lines = np.zeros((rows.shape[1], wanted.shape[1]))
    intercepts, penalties = np.full(wanted.shape[1], np.nan), np.full(wanted.shape[1], np.nan)
    patterns: dict[bytes, list[int]] = {}
    for target in range(wanted.shape[1]):
        alike = known[:, target] if weights is None else weights[:, target]
        patterns.setdefault(known[:, target].tobytes() + alike.tobytes(), []).append(target)
    for targets in patterns.values():
        usable = known[:, targets[0]]
        if usable.sum() < fewest:
            continue
        weight = None if weights is None else weights[usable, targets[0]]
        chosen = _best_penalties(rows[usable], wanted[usable][:, targets], held[usable], weight)
        for target, penalty in zip(targets, chosen, strict=True):
            penalties[target] = penalty
        for penalty in sorted(set(chosen)):  # one decomposition for all targets with the same penalty
            same = [target for target, one in zip(targets, chosen, strict=True) if one == penalty]
            lines[:, same], intercepts[same] = _line(rows[usable], wanted[usable][:, same], penalty, weight)
    return lines, intercepts, penalties


def _best_penalties(rows: Float, wanted: Float, held: Bool, weight: Float | None) -> Float:
    """Return, for each target, the penalty with the smallest mean error on the rows that were held back."""
    if not held.any() or held.all():
        return np.full(wanted.shape[1], _PENALTIES[len(_PENALTIES) // 2])
    means = []
    for penalty in _PENALTIES:
        weights, intercepts = _line(rows[~held], wanted[~held], penalty, None if weight is None else weight[~held])
        means.append(np.abs(rows[held] @ weights + intercepts - wanted[held]).mean(axis=0))
    best: Float = np.array(_PENALTIES)[np.stack(means).argmin(axis=0)]
    return best


def _line(rows: Float, wanted: Float, penalty: float, weight: Float | None) -> tuple[Float, Float]:
    """Return weights [columns, T] and intercepts [T] of a ridge regression; rows' weights count beside their mean."""
    line = Ridge(alpha=penalty, solver="cholesky").fit(
        rows,
        wanted if wanted.shape[1] > 1 else wanted[:, 0],
        sample_weight=None if weight is None else weight / weight.mean(),
    )
    return np.reshape(line.coef_, (wanted.shape[1], -1)).T, np.atleast_1d(line.intercept_)
