"""What load is offered, and what came of it: flows and their weights, closed loop or open arrivals, a curve, the account.

In: the flows of a service configuration; what is asked for by REST; requests that begin and end. Out: which flow comes next, how long to
pause, the account that the gym reads. No Locust in here: `locustfile` acts on it.

Its words are those of the twin's load generator, so that the gym can't tell the two apart; only `set_profile` isn't there, because a run
of the twin has its profile from the start.
"""

import math
import random
from collections import deque

__all__ = ("Flow", "OfferedLoad", "Refusal")

READINGS = 3600  #: kept; a gym that asks once a step needs a few


class Refusal(ValueError):
    """Raised when what is asked for can't be done; its text goes to whoever asked."""


class Flow:
    """A user task: its weight, and the requests that it makes one after the other."""

    def __init__(self, weight: float, requests: list[str], additions: tuple[int, int]) -> None:
        self.weight, self.requests = weight, requests
        self.additions = (
            additions  #: bounds of how often all requests but the last are made first; (0, 0): as they stand
        )


class OfferedLoad:
    """The load of one Locust; `draws` is its own source of randomness."""

    def __init__(self, flows: dict[str, Flow], draws: random.Random) -> None:
        self.flows = flows
        self.draws = draws
        self.mix = {name: flow.weight for name, flow in flows.items()}
        self.think_seconds = (1.0, 10.0)
        self.rate_per_s: float | None = None  #: of open arrivals; None: a closed loop of users
        self.spawn_rate = 1.0
        self.curve: list[tuple[float, float]] = []  #: (seconds from now on, level) that are still to come
        self.scheduled = self.served = self.failed = 0
        self.visitors = 0  #: of open arrivals, under way
        self._readings: deque[dict[str, object]] = deque(maxlen=READINGS)

    @property
    def open(self) -> bool:
        """Return whether tasks arrive whatever the application does."""
        return self.rate_per_s is not None

    def next_flow(self) -> str:
        """Draw the flow of the next task."""
        return self.draws.choices(list(self.mix), weights=list(self.mix.values()))[0]

    def pause_seconds(self) -> float:
        """Draw the pause after a task."""
        return self.draws.uniform(*self.think_seconds)

    def gap_seconds(self) -> float:
        """Draw the time until the next arrival; with a rate of 0 there is none, and this is how long to wait before looking again."""
        return self.draws.expovariate(self.rate_per_s) if self.rate_per_s else math.inf

    def additions(self, flow: Flow) -> int:
        """Draw how often the leading requests of a flow are made."""
        return self.draws.randint(*flow.additions)

    def set_mix(self, weights: object) -> None:
        """Give flows other weights; flows that aren't named get the configuration's.

        Raises: Refusal: a flow is unknown, a weight is no number or negative, or all are 0.
        """
        if not isinstance(weights, dict) or not all(_is_number(weight) for weight in weights.values()):
            raise Refusal("a mix is a JSON object: flow -> weight")
        unknown = [name for name in weights if name not in self.flows]
        if unknown:
            raise Refusal(f"unknown flows {unknown}; known are {list(self.flows)}")
        mix = {name: float(weights.get(name, flow.weight)) for name, flow in self.flows.items()}
        if not mix or min(mix.values()) < 0 or not 0 < sum(mix.values()) < math.inf:
            raise Refusal(f"mix {mix}: weights must be at least 0, and one above 0")
        self.mix = mix

    def set_rate(self, text: object) -> None:
        """Set the rate of open arrivals [1/s]; a curve ends.

        Raises: Refusal: the load is a closed loop, or the rate is no number of at least 0.
        """
        if not self.open:
            raise Refusal("the load is a closed loop of users: set users, not a rate")
        self.rate_per_s = _rate(text)
        self.curve = []

    def set_profile(self, profile: object) -> None:
        """Set what kind of load it is: `arrivals` (closed, open), `think_seconds` (two bounds), `rate_per_s`, `curve`.

        A curve is a list of (seconds from now on, level), ascending; the level is users of a closed loop, else tasks per second. Whatever
        sets a level by itself ends it. What isn't named stays; `arrivals: closed` ends open arrivals.

        Raises: Refusal: something isn't as it has to be; then nothing is changed.
        """
        if not isinstance(profile, dict):
            raise Refusal("a profile is a JSON object")
        if unknown := [name for name in profile if name not in ("arrivals", "think_seconds", "rate_per_s", "curve")]:
            raise Refusal(f"a profile has no {', '.join(unknown)}")
        arrivals = profile.get("arrivals", "open" if self.open else "closed")
        if arrivals not in ("closed", "open"):
            raise Refusal(f"arrivals = {arrivals!r}: must be closed or open")
        if arrivals == "closed" and "rate_per_s" in profile:
            raise Refusal("rate_per_s: a closed loop has none, its users are set by /swarm")
        think = profile.get("think_seconds", self.think_seconds)
        if not isinstance(think, list | tuple) or len(think) != 2 or not all(_is_number(bound) for bound in think):
            raise Refusal(f"think_seconds = {think!r}: must be two numbers")
        if not 0 <= think[0] <= think[1] < math.inf:
            raise Refusal(f"think_seconds = {think!r}: must ascend from at least 0")
        curve = _curve(profile.get("curve", self.curve if arrivals == ("open" if self.open else "closed") else []))
        rate = _rate(profile.get("rate_per_s", self.rate_per_s or 0.0))
        self.think_seconds = (float(think[0]), float(think[1]))
        self.rate_per_s = rate if arrivals == "open" else None
        self.curve = curve

    def due_level(self, seconds: float) -> float | None:
        """Take off the curve what has been due for `seconds` since it was set; return the last level of it, None if there is none."""
        level = None
        while self.curve and self.curve[0][0] <= seconds:
            _, level = self.curve.pop(0)
        return level

    def account(self, *, users_target: int, users_active: int, state: str) -> dict[str, object]:
        """Return the account that the gym reads; `served` are all that were answered, with or without an error."""
        total = sum(self.mix.values())
        return {
            "users_target": users_target,
            "users_active": users_active,
            "spawn_rate": self.spawn_rate,
            "scheduled": self.scheduled,
            "served": self.served,
            "failed": self.failed,
            "mix": {name: weight / total for name, weight in self.mix.items()},
            "state": state,
        } | ({"rate_per_s": self.rate_per_s} if self.open else {})

    def note(self, time: float, account: dict[str, object]) -> None:
        """Keep a reading of the account."""
        self._readings.append({"time": time, **account})

    def readings(self, since: float) -> list[dict[str, object]]:
        """Return the readings after a moment [seconds since the epoch]."""
        return [reading for reading in self._readings if float(str(reading["time"])) > since]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rate(value: object) -> float:
    try:
        rate = float(str(value))
    except ValueError:
        raise Refusal(f"rate_per_s = {value!r}: must be a number") from None
    if not 0 <= rate < math.inf:
        raise Refusal(f"rate_per_s = {rate}: must be at least 0, and finite")
    return rate


def _curve(points: object) -> list[tuple[float, float]]:
    """Return the points of a curve.

    Raises: Refusal: it isn't one.
    """
    problem = Refusal("curve: must be a list of [seconds, level], ascending in time, levels of at least 0")
    if not isinstance(points, list):
        raise problem
    found = []
    for point in points:
        if not isinstance(point, list | tuple) or len(point) != 2 or not all(_is_number(number) for number in point):
            raise problem
        found.append((float(point[0]), float(point[1])))
    times = [time for time, _ in found]
    if times != sorted(times) or not all(0 <= level < math.inf for _, level in found):
        raise problem
    return found
