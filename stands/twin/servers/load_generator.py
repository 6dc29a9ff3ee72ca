"""The load generator's REST API: Locust's, and what the gym's locustfile adds to it.

In: HTTP requests. Out: changes of users and mix in the simulation; Locust's statistics.

Locust's part: `POST /swarm` starts a test or resizes a running one (HTTP 200 with `success: false` when it doesn't), `GET /stop`,
`GET /stats/reset`, `GET /stats/requests`. Ours: `GET /ocg/workload` tells what is offered and what came of it,
`GET /ocg/workload/readings?since=T` tells it for every scrape interval since T [s], `POST /ocg/mix` weighs the tasks, `POST /ocg/rate`
(form field `rate_per_s`) sets the rate of open arrivals. With those there are no users: `/swarm` refuses, `/stop` ends the arrivals, and
a rate above 0 begins them again. In a closed loop `/ocg/rate` refuses.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from aiohttp import web

from otel_control_gym.stands.twin.load_statistics import LoadStatistics, RequestStatistics
from otel_control_gym.stands.twin.servers.listening import json_response
from otel_control_gym.stands.twin.simulation import Simulation

__all__ = ("LoadGeneratorServer", "LoadState")

_READINGS = 3_600  #: kept; a gym that asks once a step needs a few
LoadState = Literal["ready", "spawning", "running", "stopping", "stopped"]


class LoadGeneratorServer:
    """One Locust; `attach` gives it the users of a run, who start by themselves as with LOCUST_AUTOSTART."""

    def __init__(self) -> None:
        self._simulation: Simulation | None = None
        self._statistics: LoadStatistics | None = None
        self._spawn_rate = 0.0
        self._arrivals: float | None = None  # rate of open arrivals
        self._stopped = False
        self._host = ""
        self._readings: deque[dict[str, Any]] = deque(maxlen=_READINGS)

    def attach(self, simulation: Simulation) -> None:
        """Serve this simulation from now on."""
        self._simulation = simulation
        self._statistics = LoadStatistics(simulation)
        self._spawn_rate = simulation.workload.spawn_rate_per_s
        self._arrivals = simulation.workload.rate_per_s if simulation.workload.arrivals == "open" else None
        self._stopped = False
        self._readings.clear()
        entry = simulation.config.entry
        self._host = f"http://{entry}:{simulation.config.services[entry].port}"
        self.observe()  # the run's first scrape was before anybody could look

    def observe(self) -> None:
        """Note the counters; called at each scrape, so that rates and readings have a past."""
        if self._simulation is not None and self._statistics is not None:
            self._statistics.observe()
            self._readings.append({"time": self._simulation.now / 1e9, **self._account(self._simulation)})

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        application = web.Application()
        router = application.router
        router.add_post("/swarm", self._swarm)
        router.add_get("/stop", self._stop)
        router.add_get("/stats/reset", self._reset)
        router.add_get("/stats/requests", self._requests)
        router.add_get("/ocg/workload", self._workload)
        router.add_get("/ocg/workload/readings", self._since)
        router.add_post("/ocg/mix", self._mix)
        router.add_post("/ocg/rate", self._rate)
        return application

    def state(self) -> LoadState:
        """Return what Locust would say of its test."""
        if self._simulation is None:
            return "ready"
        counters = self._simulation.load_counters()
        if self._stopped:
            return "stopping" if counters.users_active else "stopped"
        if self._simulation.workload.arrivals == "closed" and counters.users_active != counters.users_target:
            return "spawning"
        return "running"

    async def _swarm(self, request: web.Request) -> web.Response:
        form = await request.post()
        simulation = self._running()
        try:
            users, spawn_rate = _whole(form, "user_count"), _number(form, "spawn_rate")
            if not spawn_rate > 0:
                raise ValueError("spawn_rate must be above 0")
            simulation.set_users(users, spawn_rate)
        except ValueError as error:
            return json_response({"success": False, "message": str(error), "host": self._host})
        if self._stopped and self._statistics is not None:
            self._statistics.reset()  # a new test; a running one is resized in place
        self._spawn_rate, self._stopped = spawn_rate, False
        return json_response({"success": True, "message": "Swarming started", "host": self._host})

    async def _stop(self, _: web.Request) -> web.Response:
        simulation = self._running()
        if simulation.workload.arrivals == "closed":
            simulation.set_users(0, max(self._spawn_rate, float(simulation.load_counters().users_active), 1.0))
        else:
            simulation.set_rate(0.0)
            self._arrivals = 0.0
        self._stopped = True
        return json_response({"success": True, "message": "Test stopped"})

    async def _reset(self, _: web.Request) -> web.Response:
        self._running()
        assert self._statistics is not None
        self._statistics.reset()
        return web.Response(text="ok")

    async def _requests(self, _: web.Request) -> web.Response:
        simulation = self._running()
        assert self._statistics is not None
        lines, total = self._statistics.lines()
        return json_response(
            {
                "stats": [_line(line) for line in (*lines, total)],
                "errors": [_error(line) for line in lines if line.failures],
                "total_rps": total.current_rps,
                "total_fail_per_sec": total.current_failures_per_s,
                "fail_ratio": total.failures / total.requests if total.requests else 0.0,
                "current_response_time_percentiles": {
                    "response_time_percentile_0.5": total.percentile(0.5),
                    "response_time_percentile_0.95": total.percentile(0.95),
                },
                "state": self.state(),
                "user_count": simulation.load_counters().users_active,
            }
        )

    async def _workload(self, _: web.Request) -> web.Response:
        return json_response(self._account(self._running()))

    async def _since(self, request: web.Request) -> web.Response:
        self._running()
        try:
            since = float(request.query.get("since", "0"))
        except ValueError:
            message = f"since = {request.query['since']!r}: must be a time in seconds since the epoch"
            return json_response({"message": message}, status=400)
        return json_response({"readings": [reading for reading in self._readings if reading["time"] > since]})

    def _account(self, simulation: Simulation) -> dict[str, Any]:
        counters = simulation.load_counters()
        total = sum(simulation.mix.values())
        return {
            "users_target": counters.users_target,
            "users_active": counters.users_active,
            "spawn_rate": self._spawn_rate,
            "scheduled": counters.scheduled,
            "served": counters.served + counters.failed,  # answered, with or without error
            "failed": counters.failed,
            "mix": {name: weight / total for name, weight in simulation.mix.items()},
            "state": self.state(),
        } | ({} if self._arrivals is None else {"rate_per_s": self._arrivals})

    async def _mix(self, request: web.Request) -> web.Response:
        simulation = self._running()
        try:
            weights = msgspec.json.decode(await request.read(), type=dict[str, float])
            simulation.set_mix(weights)
        except (msgspec.DecodeError, ValueError) as error:
            return json_response({"success": False, "message": str(error)}, status=400)
        return json_response({"success": True, "message": "Mix changed", "mix": simulation.mix})

    async def _rate(self, request: web.Request) -> web.Response:
        form, simulation = await request.post(), self._running()
        try:
            rate = _number(form, "rate_per_s")
            if not 0 <= rate < math.inf:
                raise ValueError(f"rate_per_s = {rate}: must be at least 0, and finite")
            simulation.set_rate(rate)
            self._arrivals = rate
        except ValueError as error:
            return json_response({"success": False, "message": str(error)}, status=400)
        if rate > 0:
            self._stopped = False
        return json_response({"success": True, "message": "Rate changed", "rate_per_s": rate})

    def _running(self) -> Simulation:
        if self._simulation is None:
            raise web.HTTPServiceUnavailable(text="the load generator hasn't started")
        return self._simulation


def _whole(form: Mapping[str, Any], name: str) -> int:
    try:
        value = int(_text(form, name))
    except ValueError:
        raise ValueError(f"{name} = {form.get(name)!r}: must be a whole number") from None
    if value < 0:
        raise ValueError(f"{name} = {value}: must be at least 0")
    return value


def _number(form: Mapping[str, Any], name: str) -> float:
    try:
        return float(_text(form, name))
    except ValueError:
        raise ValueError(f"{name} = {form.get(name)!r}: must be a number") from None


def _text(form: Mapping[str, Any], name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _line(line: RequestStatistics) -> dict[str, Any]:
    rate = line.requests / line.seconds if line.seconds else 0.0
    return {
        "method": line.method,
        "name": line.name,
        "safe_name": line.name,
        "num_requests": line.requests,
        "num_failures": line.failures,
        "min_response_time": line.smallest_ms,
        "max_response_time": line.largest_ms,
        "avg_response_time": line.total_ms / line.requests if line.requests else 0.0,
        "median_response_time": line.percentile(0.5),
        "current_rps": line.current_rps,
        "current_fail_per_sec": line.current_failures_per_s,
        "total_rps": rate,
        "total_fail_per_sec": line.failures / line.seconds if line.seconds else 0.0,
        "response_time_percentile_0.95": line.percentile(0.95),
        "response_time_percentile_0.99": line.percentile(0.99),
        "avg_content_length": line.content_length,
    }


def _error(line: RequestStatistics) -> dict[str, Any]:
    return {
        "method": line.method,
        "name": line.name,
        "error": f"HTTPError('500 Server Error: Internal Server Error for url: {line.name}')",
        "occurrences": line.failures,
    }
