"""The band in which a stand's error rate and latency lie when nobody does anything to it.

In: levels of the entry service in windows of 20 s. Out: a `Band`, and for any later window whether it lies inside, or why not.

A band is measured once, over nine windows (180 s of the stand's time) after a first one, when the known state is taken, and for one load:
another number of users has another latency. What lies in it follows from what was measured and how much it scattered:

- **Errors.** Of n requests as many may fail as the beta-binomial distribution makes likely after the calibration's counts (its 99.9 %
  quantile, Jeffreys' prior), or 1 % of them, or one, whichever is most. The last two are our choice: nobody is refused for one request.
- **Latency.** The logarithm of the 95th percentile within the prediction interval of a normal distribution (99.9 %, Student's t), and at
  least a factor of 1.5 either way, because a histogram's buckets are that coarse. A window with fewer than 20 requests has no
  percentile, as in the tables. Faster than the band is outside, too: then this isn't the stand that was measured.

A stand that fails more than 5 % at rest isn't calibrated but refused: whatever is wrong with it would be called its known state.

Pure. Next: `calibration` measures and waits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.cluster.service_levels import Level

__all__ = ("BROKEN_RATIO", "CALIBRATION_WINDOWS", "LEAST_REQUESTS", "WINDOW_SECONDS", "Band", "calibrated", "load_of")

WINDOW_SECONDS = 20
CALIBRATION_WINDOWS = 9
LEAST_REQUESTS = 20  #: of a window whose 95th percentile is looked at
BROKEN_RATIO = 0.05  #: of errors, above which a stand at rest is broken
_TOLERATED_RATIO = 0.01
_LEAST_FACTOR = 1.5
_CONFIDENCE = 0.999


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """Where error rate and latency of a stand's entry service lie at one load."""

    requests: int  #: while it was measured
    errors: int
    windows: int
    measured: str  #: when, RFC 3339
    latency_ms_p95_least: float | None = None  #: null: no window had enough requests
    latency_ms_p95_most: float | None = None

    def errors_most(self, requests: int) -> int:
        """Return how many of some requests may fail."""
        from scipy.stats import betabinom

        likely = betabinom.ppf(_CONFIDENCE, requests, self.errors + 0.5, self.requests - self.errors + 0.5)
        return max(1, math.ceil(_TOLERATED_RATIO * requests), int(likely))

    def refusal(self, level: Level) -> str:
        """Return why a window isn't inside, with what would be; empty: it is."""
        if not level.requests:
            return "no request was answered"
        most = self.errors_most(level.requests)
        if level.errors > most:
            return f"{level.errors} of {level.requests} requests failed, and at most {most} in the band"
        least, highest, seen = self.latency_ms_p95_least, self.latency_ms_p95_most, level.latency_ms_p95
        if least is None or highest is None or level.requests < LEAST_REQUESTS:
            return ""
        if seen is None:
            return f"of {level.requests} requests nobody measured the latency"
        if not least <= seen <= highest:
            return f"the 95th percentile is {seen:.0f} ms, and {least:.0f} to {highest:.0f} ms in the band"
        return ""

    def __str__(self) -> str:
        least, most = self.latency_ms_p95_least, self.latency_ms_p95_most
        latency = "p95 not told" if least is None or most is None else f"p95 {least:.0f} to {most:.0f} ms"
        errors = f"errors as {self.errors} of {self.requests}"
        return f"{latency}, {errors}, measured {self.measured} in {self.windows} windows of {WINDOW_SECONDS} s"


def calibrated(levels: Sequence[Level], measured: str) -> Band:
    """Return the band of a stand that was seen at some levels; `measured`: when.

    Raises: ValueError: nothing was answered, or so much failed that this is no state to come back to; says what was seen.
    """
    requests, errors = sum(level.requests for level in levels), sum(level.errors for level in levels)
    if not requests:
        raise ValueError(f"in {len(levels) * WINDOW_SECONDS} s no request was answered")
    if errors > BROKEN_RATIO * requests:
        raise ValueError(f"{errors} of {requests} requests failed, more than {BROKEN_RATIO:.0%}")
    logarithms = [
        math.log(level.latency_ms_p95)
        for level in levels
        if level.requests >= LEAST_REQUESTS and level.latency_ms_p95 is not None and level.latency_ms_p95 > 0
    ]
    least, most = _interval(logarithms) if logarithms else (None, None)
    return Band(
        requests=requests,
        errors=errors,
        windows=len(levels),
        measured=measured,
        latency_ms_p95_least=least,
        latency_ms_p95_most=most,
    )


def _interval(logarithms: Sequence[float]) -> tuple[float, float]:
    """Return in which percentiles the next window lies."""
    from scipy.stats import t

    count = len(logarithms)
    centre, margin = sum(logarithms) / count, math.log(_LEAST_FACTOR)
    if count > 1:
        deviation = math.sqrt(sum((each - centre) ** 2 for each in logarithms) / (count - 1))
        factor = float(t.ppf((1 + _CONFIDENCE) / 2, count - 1))
        margin = max(margin, factor * deviation * math.sqrt(1 + 1 / count))
    return round(math.exp(centre - margin), 3), round(math.exp(centre + margin), 3)


def load_of(config: RunConfig) -> str:
    """Return the name of the load with which a run begins: runs that share it share a band."""
    workload, services = config.workload, config.public.services
    if workload.arrivals == "open":
        load = f"{workload.rate_per_s:g} tasks/s"
    else:
        least, most = workload.think_seconds
        load = f"{workload.users} users, {least:g} to {most:g} s between tasks"
    mix = {name: workload.mix.get(name, flow.weight) for name, flow in services.flows.items()}
    changed = {name: weight for name, weight in mix.items() if weight != services.flows[name].weight}
    told = "".join(f", {name} {weight:g}" for name, weight in sorted(changed.items()))
    return f"{services.name}, {load}{told}"
