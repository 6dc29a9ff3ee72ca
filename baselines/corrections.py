"""A forecast of what goes on by itself, and what comes differently where something is asked for: two models in a row.

In: rows with the name of what each is a row of, and whether something is asked for at their decision. Out: a `Corrected`.

- *forecast*: learnt from rows at which nothing is asked for; both twins have the very same. It starts from a level between the last step
  and a mean of steps before it (`smoothing` makes one of them), whichever was nearest to what came for rows of that name. The regressor
  learns what differs from that. Of what a line foretells, the share is added that leaves the smallest error in families that it hadn't
  seen (those of the validation side), for each target, "none" among the candidates: most services hardly ever err, and their memory
  stands still; the squares of a few faults bend a line everywhere, and where nothing happens that is noise. Trees have the loss that is
  scored, and need no share.
- *correction*: what that forecast misses in rows at which something is. The twins have one each, of the same class, rows and seeds; the one
  that knows the action reads its columns besides, and is the only one that does.
- *gate*: a correction that is small beside what the forecast usually misses of that service isn't made. From how many times that on, is
  chosen for each target and each way in which an action reaches a row (`panels.REACHES`) by what smallest error it leaves in families that
  a correction hadn't seen (cross-fitting over families); "never" is among the candidates. What an action is asked of it nearly always
  changes; what is called by that, hardly ever.

Why not one model of both: actions are few (a campaign of two hundred runs has as many of them as it has thousands of quiet rows), and most
leave most cells alone. One model spends its splits on the state; where it does take to the action, what it learnt by chance spoils the
cells that no action reaches. And the forecast can have the loss that scores are made of (absolute error), under which rare jumps, which is
what effects are, would never be learnt.

Where means are wanted and not medians (what an action earns, for whoever plans), no gate is set: all corrections are shrunk by one factor,
the slope of what was missed over what was corrected in families that a correction hadn't seen, so that their order stays.

A correction is of rows that the action reaches: what it is asked of, what calls that or is called by it, or everything where it asks for
load. Pure but for what scikit-learn draws, which is seeded. Upstream: `regressors`. Downstream: `next_state`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.folds import crossed_folds
from otel_control_gym.baselines.regressors import Loss, ModelClass, Regressor, fit_regressor

__all__ = ("GATES", "Corrected", "Forecast", "fit_correction", "fit_forecast", "slope")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]

GATES: tuple[float, ...] = (0.0, 1.0, 3.0, 8.0, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, np.inf)
"""From how many times the forecast's usual error on a correction is made."""

_SHARES = (0.25, 0.5, 0.75, 1.0)  #: of a mean in the level
_SHARES_LEARNT = (0.0, 0.25, 0.5, 0.75, 1.0)  #: of what a line foretells, where medians are wanted
_ODD = 0.9  #: quantile beyond which errors are cut when the usual one is reckoned: a fault that begins isn't usual


class Forecast(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What goes on by itself, T targets of a row, and by how much it is usually missed."""

    regressor: Regressor
    means: Int  #: [K, T] column of the inputs that says by how much a mean over earlier steps differs from the last one
    weights: Float  #: [names + 1, K, T] share of that difference in the level; the last is of a name that training didn't see
    shares: Float  #: [T] share of what the regressor foretells that is added to the level; of trees all
    usual: Float  #: [names + 1, T] mean absolute error by name; the last is of a name that training didn't see

    def predict_by_seed(self, inputs: Float, identity: Sequence[str]) -> Float:
        """Return what each seed's model foretells, as `Corrected.predict_by_seed`; of what there was too little to learn, the level."""
        weights = self.weights[self.regressor.encoding.codes(identity)]
        learnt = np.nan_to_num(self.regressor.predict_by_seed(inputs, None, identity))
        return self.shares * learnt + _level(inputs, self.means, weights)

    def usual_of(self, identity: Sequence[str]) -> Float:
        """Return the usual error of R rows, [R, T]."""
        return self.usual[self.regressor.encoding.codes(identity)]


class Corrected(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Foretells T targets of a row."""

    forecast: Forecast
    correction: Regressor
    read: npt.NDArray[np.int64]  #: columns of the inputs that the correction reads
    gates: Float  #: [reaches, T]
    trust: Float  #: [T] factor of the correction, 0 to 1

    def predict(self, inputs: Float, actions: Float | None, identity: Sequence[str], reach: Int) -> Float:
        """Return what is foretold of R rows, [R, T]: the mean over the seeds."""
        found: Float = self.predict_by_seed(inputs, actions, identity, reach).mean(axis=0)
        return found

    def predict_by_seed(self, inputs: Float, actions: Float | None, identity: Sequence[str], reach: Int) -> Float:
        """Return what each seed's models foretell, [seeds, R, T]; lines have none: [1, R, T].

        Args:
            inputs: [R, P] what both twins read.
            actions: [R, A] what the action-conditioned one reads besides; None for the passive one.
            identity: [R] what each row is a row of.
            reach: [R] how an action reaches each row; 0: not at all, and nothing is corrected.
        """
        found = self.forecast.predict_by_seed(inputs, identity)
        reached = reach > 0
        if reached.any():
            names = [name for name, chosen in zip(identity, reached, strict=True) if chosen]
            corrections = self.correction.predict_by_seed(
                inputs[reached][:, self.read], None if actions is None else actions[reached], names
            )
            made = gated(corrections, self.gates[reach[reached] - 1], self.forecast.usual_of(names))
            found[:, reached] += self.trust * np.nan_to_num(made)
        return found


def fit_forecast(
    inputs: Float,
    identity: Sequence[str],
    wanted: Float,
    held: Bool,
    *,
    means: Int,
    least: Float,
    losses: Sequence[Loss],
    model_class: ModelClass,
    seeds: Sequence[int],
) -> Forecast:
    """Return the forecast of rows at which nothing is asked for.

    Args:
        inputs: [R, P] what both twins read.
        identity: [R] what each row is a row of.
        wanted: [R, T] targets; NaN: unknown.
        held: [R] rows of validation families, by which what is tuned is chosen; without any, all that a line foretells is added.
        means: [K, T] columns of the inputs that say by how much a mean over earlier steps differs from the last step.
        least: [T] differences below which nobody cares.
        losses: [T] of the trees, and of the share.
        model_class: which.
        seeds: of the trees.
    """
    names, codes = np.unique(np.array(identity), return_inverse=True)
    each = [codes == number for number in range(len(names))]
    candidates = [np.zeros(len(means)), *(share * row for share in _SHARES for row in np.eye(len(means)))]
    weights = np.stack(
        [_best_weights(inputs[rows], wanted[rows], means, candidates) for rows in (*each, np.ones(len(wanted), bool))]
    )
    level = _level(inputs, means, weights[codes])
    rest, labels = wanted - level, np.array(identity)

    def fitted(rows: Bool, drawn: Sequence[int]) -> Regressor:
        return fit_regressor(
            inputs[rows],
            None,
            labels[rows].tolist(),
            rest[rows],
            held[rows],
            model_class=model_class,
            seeds=drawn,
            losses=losses,
        )

    by_level = np.fmax(np.stack([_usual(np.abs(rest[rows])) for rows in each]), least)
    shares = np.ones(wanted.shape[1])
    if model_class == "ridge" and held.any() and not held.all():
        unseen = fitted(~held, seeds[:1]).predict(inputs[held], None, labels[held].tolist())
        beside = by_level[codes[held]]
        shares = _best_shares(unseen / beside, rest[held] / beside, losses)
    regressor = fitted(np.ones(len(wanted), bool), seeds)
    missed = np.abs(rest - shares * np.nan_to_num(regressor.predict(inputs, None, identity)))
    by_name = np.stack([_usual(missed[rows]) for rows in each])
    usual = np.concatenate([by_name, _middle(by_name)[np.newaxis]])
    return Forecast(regressor=regressor, means=means, weights=weights, shares=shares, usual=np.fmax(usual, least))


def fit_correction(
    forecast: Forecast,
    inputs: Float,
    actions: Float | None,
    identity: Sequence[str],
    wanted: Float,
    families: Sequence[str],
    reach: Int,
    *,
    read: npt.NDArray[np.int64],
    seeds: Sequence[int],
    ways: int = 1,
    means: bool = False,
) -> Corrected:
    """Return a forecast with what it misses in rows that an action reaches.

    Args:
        forecast: learnt from other rows than these.
        inputs: [R, P] what both twins read.
        actions: [R, A] what the action-conditioned one reads besides; None for the passive one.
        identity: [R] what each row is a row of.
        wanted: [R, T] targets; NaN: unknown.
        families: [R] to which each row belongs.
        reach: [R] how an action reaches each row, 1 or more.
        read: columns of the inputs that the correction reads: few, since rows are.
        seeds: of the trees.
        ways: in how many an action may reach a row.
        means: corrections are shrunk and not gated.
    """
    missed = wanted - forecast.predict_by_seed(inputs, identity).mean(axis=0)
    usual = forecast.usual_of(identity)
    chosen, names = inputs[:, read], np.array(identity)
    parts = crossed_folds(sorted(set(families)))
    held = [
        np.array([family in part.scored for family in families], bool) for part in parts
    ]  # the first tunes lines, too

    def fitted(rows: Bool, drawn: Sequence[int]) -> Regressor:
        return fit_regressor(
            chosen[rows],
            None if actions is None else actions[rows],
            names[rows].tolist(),
            missed[rows],
            held[0][rows],
            model_class=forecast.regressor.model_class,
            seeds=drawn,
            weights=1.0 / usual[rows] ** 2,
            few=True,
        )

    unseen = np.full(missed.shape, np.nan)
    for part in held:
        if part.any() and not part.all():
            one = fitted(~part, seeds[:1])
            unseen[part] = one.predict(chosen[part], None if actions is None else actions[part], names[part].tolist())
    return Corrected(
        forecast=forecast,
        correction=fitted(np.ones(len(names), bool), seeds),
        read=read,
        gates=np.stack(
            [
                np.zeros(missed.shape[1])
                if means
                else _best_gates(*(each[reach == number] for each in (unseen, missed, usual)))
                for number in range(1, ways + 1)
            ]
        ),
        trust=np.array([slope(*pair) for pair in zip(unseen.T, missed.T, strict=True)])
        if means
        else np.ones(missed.shape[1]),
    )


def slope(foretold: Float, came: Float) -> float:
    """Return the slope through 0 of what came over what was foretold, within 0 and 1; 0 where nothing could be foretold."""
    known = np.isfinite(foretold) & np.isfinite(came)
    size = float(np.sum(foretold[known] ** 2))
    return float(np.clip(np.sum(foretold[known] * came[known]) / size, 0.0, 1.0)) if size > 0 else 0.0


def gated(corrections: Float, gates: Float, usual: Float) -> Float:
    """Return corrections, [..., R, T]; 0 where one is smaller than the gate, [R, T] or [T], times the usual error [R, T]."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(corrections) > np.where(np.isinf(gates), np.inf, gates * usual), corrections, 0.0)


def _best_gates(corrections: Float, missed: Float, usual: Float) -> Float:
    """Return, for each target, the gate that leaves the smallest error beside the usual one; of equal ones the highest."""
    known = np.isfinite(missed)
    left = []
    for gate in GATES:
        errors = np.abs(missed - np.nan_to_num(gated(corrections, np.full(missed.shape[1], gate), usual))) / usual
        left.append(np.where(known, errors, 0.0).sum(axis=0))
    best: Float = np.array(GATES[::-1])[np.stack(left[::-1]).argmin(axis=0)]
    return best


def _level(inputs: Float, means: Int, weights: Float) -> Float:
    """Return the level that a forecast starts from, less the last step's: [R, P], [K, T] and [R, K, T] ➜ [R, T]."""
    found: Float = (np.nan_to_num(inputs[:, means]) * weights).sum(axis=1)
    return found


def _best_weights(inputs: Float, wanted: Float, means: Int, candidates: Sequence[Float]) -> Float:
    """Return, for each target, the weights of the means, [K, T], whose level was nearest to what came."""
    known = np.isfinite(wanted)
    errors = []
    for one in candidates:
        level = _level(inputs, means, np.broadcast_to(one[:, np.newaxis], (len(inputs), *means.shape)))
        errors.append(np.where(known, np.abs(wanted - level), 0.0).sum(axis=0))
    best: Float = np.stack(candidates)[np.stack(errors).argmin(axis=0)].T
    return best


def _best_shares(learnt: Float, rest: Float, losses: Sequence[Loss]) -> Float:
    """Return, for each target, what share of the learnt, [R, T], is nearest to the rest by its loss; of equal ones the least."""
    return np.array(
        [
            _nearest_share(*pair) if loss == "absolute_error" else slope(*pair)
            for *pair, loss in zip(learnt.T, rest.T, losses, strict=True)
        ]
    )


def _nearest_share(learnt: Float, rest: Float) -> float:
    known = np.isfinite(learnt) & np.isfinite(rest)
    left = [np.abs(rest[known] - share * learnt[known]).sum() for share in _SHARES_LEARNT]
    return _SHARES_LEARNT[int(np.argmin(left))]


def _usual(missed: Float) -> Float:
    """Return the mean of a name's errors, [R, T] ➜ [T], the odd ones cut."""
    return np.array([_mean_of_most(column[np.isfinite(column)]) for column in missed.T])


def _mean_of_most(errors: Float) -> float:
    return float(np.minimum(errors, np.quantile(errors, _ODD)).mean()) if len(errors) else np.nan


def _middle(by_name: Float) -> Float:
    return np.array(
        [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else np.nan for column in by_name.T]
    )
