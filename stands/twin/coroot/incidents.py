"""SLO incidents: requests and failures ➜ burn rates ➜ what opens, lasts and closes.

In: an application's requests, failed and slow ones, on the cache's grid. Out: burn rates (how many times faster than allowed an error
budget is used up) over a long and a short window per rule; and the incidents that follow from them, one at a time per application.

The delays are Coroot's own. A window of which less than half is known gives no rate, so nothing opens in a run's first half hour; a fault
opens an incident only when the long window has filled with it; an incident closes when the short windows have emptied. Without requests
there are no rates, and an incident that was open then stays open.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.randomness import derive_seed, draw_identifier
from otel_control_gym.stands.twin.coroot.cache import FAILED, REQUESTS, SLOW
from otel_control_gym.stands.twin.coroot.history import View
from otel_control_gym.stands.twin.time_series import Values

__all__ = ("OBJECTIVE", "RULES", "BurnRate", "Incident", "IncidentBook", "Rates", "Rule", "bad_shares", "burn_rates")

OBJECTIVE = 0.99  #: of both SLOs
_IMPACT_BEFORE = 300 * SECOND  #: what an incident's impact counts from before its opening
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class Rule(msgspec.Struct, frozen=True):
    """A pair of windows, and the burn rate that both must exceed."""

    long_seconds: int
    short_seconds: int
    threshold: float


RULES = (Rule(3600, 300, 14.4), Rule(6 * 3600, 900, 6.0))


class BurnRate(msgspec.Struct, frozen=True):
    """A rule's rates for one SLO of one application."""

    rule: Rule
    long_share: float  #: of requests that were bad
    short_share: float

    @property
    def firing(self) -> bool:
        """Whether both windows burn faster than the threshold."""
        return min(self.long_share, self.short_share) / (1 - OBJECTIVE) > self.rule.threshold


class Incident(msgspec.Struct, kw_only=True):
    """A time in which an application used up an error budget too fast; times in ns, impacts as shares of requests."""

    application: str
    key: str
    opened: int
    resolved: int | None = None
    availability: tuple[BurnRate, ...] = ()
    latency: tuple[BurnRate, ...] = ()
    availability_impact: float = 0.0
    latency_impact: float = 0.0


def bad_shares(view: View[str], points: int) -> Values:
    """Return the shares of failed and of slow requests in the last `points` points, [applications, 2].

    NaN where less than half of the points are known, or nothing was asked.
    """
    values = view.values[:, :, -points:]
    requests = values[:, REQUESTS]
    known = (~np.isnan(requests)).sum(axis=1) >= points / 2
    total = np.nansum(requests, axis=1)
    bad = np.nansum(values[:, (FAILED, SLOW)], axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: Values = np.clip(bad / total[:, None], 0.0, 1.0)
    shares[~known | (total <= 0)] = np.nan
    return shares


class Rates(msgspec.Struct, frozen=True, eq=False):
    """A rule's shares of bad requests, for all applications and both SLOs: arrays [applications, 2 (failed, slow)]."""

    rule: Rule
    long: Values
    short: Values

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Where both windows have data."""
        return ~(np.isnan(self.long) | np.isnan(self.short))

    @property
    def firing(self) -> npt.NDArray[np.bool_]:
        """Where both windows burn faster than the threshold."""
        return np.minimum(self.long, self.short) > self.rule.threshold * (1 - OBJECTIVE)


def burn_rates(view: View[str], step: int) -> tuple[Rates, ...]:
    """Return the rates of each rule at the end of the view, whose points are `step` [ns] apart."""
    return tuple(
        Rates(
            rule,
            bad_shares(view, max(1, rule.long_seconds * SECOND // step)),
            bad_shares(view, max(1, rule.short_seconds * SECOND // step)),
        )
        for rule in RULES
    )


class IncidentBook:
    """All incidents of a run, by the order of their opening."""

    def __init__(self, seed: int) -> None:
        self.incidents: list[Incident] = []
        self._open: dict[str, Incident] = {}
        self._seed = derive_seed(seed, "coroot incidents")

    def open(self, application: str) -> Incident | None:
        """Return the open incident of an application."""
        return self._open.get(application)

    def update(self, now: int, view: View[str], step: int, existing: Sequence[str]) -> None:
        """Open, update and close incidents.

        Args:
            view: the applications' points, up to the newest.
            step: between two of them [ns].
            existing: applications; an incident of one that is gone closes at once.
        """
        rates = burn_rates(view, step)
        firing = np.logical_or.reduce([rate.firing.any(axis=1) for rate in rates])
        known = np.logical_or.reduce([rate.known.any(axis=1) for rate in rates])
        for application in [name for name in self._open if name not in existing]:
            self._open.pop(application).resolved = now
        for row, application in enumerate(view.keys):
            if application not in existing or not known[row]:
                continue
            incident = self._open.get(application)
            if incident is None and firing[row]:
                key = draw_identifier(self._seed, len(self.incidents), alphabet=_LETTERS, length=8)
                incident = self._open[application] = Incident(application=application, key=key, opened=now)
                self.incidents.append(incident)
            if incident is not None:
                _write(incident, rates, row, view)
                if not firing[row]:
                    self._open.pop(application).resolved = now


def _write(incident: Incident, rates: Sequence[Rates], row: int, view: View[str]) -> None:
    """Write an incident's rates and impacts as of the end of the view."""
    incident.availability, incident.latency = (
        tuple(
            BurnRate(rate.rule, float(rate.long[row, slo]), float(rate.short[row, slo]))
            for rate in rates
            if rate.known[row, slo]
        )
        for slo in (0, 1)
    )
    values = view.values[row, :, view.times > incident.opened - _IMPACT_BEFORE]
    requests, failed, slow = (float(np.nansum(values[:, quantity])) for quantity in (REQUESTS, FAILED, SLOW))
    if requests > 0:
        incident.availability_impact = min(max(failed / requests, 0.0), 1.0)
        incident.latency_impact = min(max(slow / requests, 0.0), 1.0)
