"""Signs of runs ➜ whether they tell two kinds of run apart, or foretell a label.

In: numbers by name per run, the family of each run, and what is to be told. Out: an AUC with its upper bound; or p-values by permutation.

Telling apart. Within each fold (families are never parted) the 40 columns that differ most in training are given to a logistic regression;
scores of the runs that were left out make the AUC. Its standard error is Obuchowski's (Biometrics 53, 567-578, 1997), DeLong's for
clustered data: the two runs of a pair share their seed, so their scores are no independent draws. Where all pairs look alike that error
is nil, but a share q of pairs that nobody has met yet could still be told for certain: an AUC of (1 + q) / 2. So the bound is never below
that for the largest q that n families leave open (the rule of three, exactly: 1 - 0.05 ** (1 / n)).

Foretelling. Two statistics per channel: the balanced accuracy of a ridge classifier on families that it hasn't seen, and the largest F
of any column, for a leak that sits in one place. Labels are dealt out anew among the runs of one application, because what can fail
differs between applications and anybody may know the application. p-values are corrected over all channels and both statistics by the
smallest p of each permutation (Westfall and Young, 1993).

Pure. Downstream: `engine.campaigns.leaks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from otel_control_gym.engine.campaigns.keyed_draws import Draws

__all__ = ("Auc", "Foretold", "Matrix", "auc_of", "foretold", "matrix_of", "permutations", "scores_of")

Matrix = NDArray[np.float64]

_FOLDS = 5
_COLUMNS = 40  #: that a classifier is given
_LEAST_SHARE = 0.02  #: of the runs in which a column must say something
_RIDGE = 1.0  #: beside a kernel whose mean diagonal is 1
_ONE_SIDED = 0.95
_ROUNDING = 1e-9


class Auc(msgspec.Struct, frozen=True, kw_only=True):
    """Probability that a run of the first kind has a higher score than one of the second, and how high it may be."""

    auc: float
    lower: float  #: one-sided 95 % bounds
    upper: float


class Foretold(msgspec.Struct, frozen=True, kw_only=True):
    """How well a channel foretells a label."""

    accuracy: float  #: balanced, out of fold
    chance: float  #: mean of the same over permuted labels
    p: float  #: corrected over channels and statistics


def matrix_of(signs: Sequence[Mapping[str, float]]) -> Matrix:
    """Return signs as a matrix [runs, columns]: what a run doesn't have is 0; columns that hardly any run differs in are left out."""
    from sklearn.feature_extraction import DictVectorizer

    if not any(signs):
        return np.zeros((len(signs), 0))
    table = DictVectorizer(sparse=True).fit_transform([dict(run) for run in signs]).tocsc()
    least = max(2, round(_LEAST_SHARE * len(signs)))
    present = table.getnnz(axis=0) >= least
    kept = np.nan_to_num(table[:, present].toarray())
    above: Matrix = kept - kept.min(axis=0)  # wall times differ by little of what they are
    return above[:, above.max(axis=0) > 0]


def scores_of(table: Matrix, kinds: NDArray[np.bool_], families: Sequence[str]) -> Matrix:
    """Return the score of each run, by a classifier that has seen no run of its family; the higher, the more like the first kind."""
    from sklearn.linear_model import LogisticRegression

    scores = np.zeros(len(kinds))
    for train, test in _folds(families):
        known, asked = _standardised(table[train], table[test])
        if known.shape[1]:
            differing = np.abs((kinds[train] - kinds[train].mean()) @ known)
            columns = np.argsort(-differing, kind="stable")[:_COLUMNS]
            model = LogisticRegression(max_iter=1000).fit(known[:, columns], kinds[train])
            scores[test] = model.decision_function(asked[:, columns])
    return scores


def auc_of(scores: Matrix, kinds: NDArray[np.bool_], families: Sequence[str]) -> Auc:
    """Return the AUC of scores that belong to families, with its upper bound."""
    from scipy.stats import norm

    first, second = scores[kinds], scores[~kinds]
    below, above = _placements(first, second), _placements(second, first)
    auc = float(below.mean())
    index = {family: number for number, family in enumerate(sorted(set(families)))}
    places = np.array([index[family] for family in families])
    count = len(index)
    of_first = np.bincount(places[kinds], below - auc, count)
    of_second = np.bincount(places[~kinds], (1 - above) - auc, count)
    influence = of_first / len(first) + of_second / len(second)
    deviation = float(np.sqrt(count / max(1, count - 1) * np.sum(influence**2)))
    unmet = 1 - (1 - _ONE_SIDED) ** (1 / count)
    margin = float(norm.ppf(_ONE_SIDED)) * deviation
    return Auc(auc=auc, lower=max(0.0, auc - margin), upper=min(1.0, max(auc + margin, (1 + unmet) / 2)))


def permutations(groups: Sequence[str], count: int, seed: int) -> NDArray[np.int64]:
    """Return orders of runs [count + 1, runs]: the given one first, then such as move runs within their group only."""
    places: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        places.setdefault(group, []).append(number)
    orders = np.tile(np.arange(len(groups)), (count + 1, 1))
    for number in range(1, count + 1):
        draws = Draws(seed, f"permutation/{number}")
        for group, members in sorted(places.items()):
            orders[number, members] = draws.shuffled(group, members)
    return orders


def foretold(
    tables: Mapping[str, Matrix], labels: Sequence[str], families: Sequence[str], orders: NDArray[np.int64]
) -> dict[str, Foretold]:
    """Return per channel how well it foretells the labels, against labels in other orders; the first order must be the given one."""
    names = sorted(set(labels))
    known = np.array([names.index(label) for label in labels])
    dealt = known[orders]
    found: dict[str, tuple[Matrix, Matrix]] = {}
    for channel, table in tables.items():
        plain, _ = _standardised(table, table)
        found[channel] = (_accuracies(plain, dealt, len(names), families), _largest_f(plain, dealt, len(names)))
    p = _corrected(np.stack([column for pair in found.values() for column in pair], axis=1))
    return {
        channel: Foretold(
            accuracy=float(accuracies[0]),
            chance=float(accuracies[1:].mean()),
            p=float(p[2 * number : 2 * number + 2].min()),
        )
        for number, (channel, (accuracies, _)) in enumerate(found.items())
    }


# --- parts ----------------------------------------------------------------------------------------------------------------


def _folds(families: Sequence[str]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    from sklearn.model_selection import GroupKFold

    count = min(_FOLDS, len(set(families)))
    yield from GroupKFold(count).split(np.zeros(len(families)), groups=np.array(families))


def _placements(these: Matrix, those: Matrix) -> Matrix:
    """Return of each of `these` which share of `those` lies below it; a tie counts half."""
    ordered = np.sort(those)
    places = np.searchsorted(ordered, these, "left") + np.searchsorted(ordered, these, "right")
    shares: Matrix = places / (2.0 * len(those))
    return shares


def _standardised(table: Matrix, other: Matrix) -> tuple[Matrix, Matrix]:
    """Return two tables in units of the first one's spread, without the columns that have none in it."""
    mean, spread = table.mean(axis=0), table.std(axis=0)
    varying = spread > _ROUNDING * np.maximum(1.0, np.abs(mean))
    middle, unit = mean[varying], spread[varying]
    return (table[:, varying] - middle) / unit, (other[:, varying] - middle) / unit


def _accuracies(plain: Matrix, dealt: NDArray[np.int64], classes: int, families: Sequence[str]) -> Matrix:
    """Return the balanced accuracy out of fold for each order of labels: one linear smoother serves all of them."""
    count = len(families)
    kernel = plain @ plain.T
    kernel = kernel / max(1e-12, float(np.trace(kernel)) / count)
    smoother = np.zeros((count, count))
    for train, test in _folds(families):
        inner = kernel[np.ix_(train, train)] + _RIDGE * np.eye(len(train))
        weights = np.linalg.solve(inner, kernel[np.ix_(train, test)]).T
        smoother[np.ix_(test, train)] = weights + (1 - weights.sum(axis=1, keepdims=True)) / len(train)
    found = np.zeros(len(dealt))
    for number, labels in enumerate(dealt):
        shares = np.bincount(labels, minlength=classes) / count
        told = np.argmax((smoother @ np.eye(classes)[labels]) / shares, axis=1)
        found[number] = np.mean([(told[labels == label] == label).mean() for label in range(classes)])
    return found


def _largest_f(plain: Matrix, dealt: NDArray[np.int64], classes: int) -> Matrix:
    """Return for each order of labels how much of any one column they explain, at most; it grows with the column's F."""
    found = np.zeros(len(dealt))
    if not plain.shape[1]:
        return found
    for number, labels in enumerate(dealt):
        indicators = np.eye(classes)[labels]
        means = (indicators.T @ plain) / indicators.sum(axis=0)[:, None]
        found[number] = float((indicators.mean(axis=0) @ means**2).max())
    return found


def _corrected(statistics: Matrix) -> Matrix:
    """Return p-values of the first row's statistics [tests], each as often as any is as small by chance."""
    from scipy.stats import rankdata

    orders = len(statistics)
    p = (orders + 1 - rankdata(statistics, method="min", axis=0)) / orders
    smallest = p.min(axis=1)
    return np.array([(smallest <= found).mean() for found in p[0]])
