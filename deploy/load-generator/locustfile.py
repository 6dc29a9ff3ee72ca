"""The gym's locustfile: the demo's tasks, of which only those that a configuration can serve; their load can be set and read by REST.

In: `flows.json` beside this file (a service configuration's flows), requests to Locust's own port. Out: load on LOCUST_HOST.

What it adds to Locust's pages, in words that the gym's actuators and collectors speak:

    GET  /ocg/workload                what is offered and what came of it
    GET  /ocg/workload/readings?since=T   the same for every few seconds since T [seconds since the epoch]
    POST /ocg/mix                     JSON: flow -> weight
    POST /ocg/rate                    form: rate_per_s, of open arrivals
    POST /ocg/profile                 JSON: arrivals, think_seconds, rate_per_s, curve (see `offered_load`)

With open arrivals there are no users: `/swarm` refuses, `/stop` ends the arrivals, a rate above 0 begins them again. There are no browsers.
It runs in the demo's own image (Locust 2.43), mounted by the demo's chart; nothing of the gym is installed there.
"""

import json
import logging
import os
import pathlib
import random
import time
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import gevent
import instrumentation
import shop_requests
from flask import Response, jsonify, request
from locust import HttpUser, events, task
from locust.env import Environment
from offered_load import Flow, OfferedLoad, Refusal

__all__ = ("ShopUser",)

READING_SECONDS = float(os.environ.get("OCG_READING_SECONDS", "5"))
PATIENCE_SECONDS = 30.0  #: of a visitor of open arrivals: whoever gets no answer goes, or they would fill the memory
LOOK_SECONDS = 0.2  #: between two looks at a rate of 0, and at a curve
FLOOD_FLAG = "loadGeneratorFloodHomepage"
STATES = {"cleanup": "stopping", "missing": "stopped"}  #: of Locust, that the gym doesn't know


def read_flows(file: pathlib.Path) -> dict[str, Flow]:
    """Return the flows of a configuration."""
    told = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: Flow(flow["weight"], flow["requests"], tuple(flow.get("additions", (0, 0))))
        for name, flow in told.items()
    }


load = OfferedLoad(
    read_flows(pathlib.Path(os.environ.get("OCG_FLOWS", pathlib.Path(__file__).with_name("flows.json")))),
    random.Random(os.environ.get("OCG_SEED")),
)


def flood_count() -> int:
    """Return how often the flag says that the home page is to be asked for; 0 if nobody can be asked.

    By urllib, which isn't instrumented: a span of this call would tell of the flag.
    """
    host, port = os.environ.get("FLAGD_HOST", "localhost"), os.environ.get("FLAGD_OFREP_PORT", "8016")
    call = urllib.request.Request(
        f"http://{host}:{port}/ofrep/v1/evaluate/flags/{FLOOD_FLAG}",
        data=b'{"context": {}}',
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(call, timeout=1.0) as answer:
            return int(json.load(answer).get("value", 0))
    except (OSError, ValueError, TypeError):
        return 0


class ShopUser(HttpUser):
    """A user who draws a flow, makes its requests, pauses, and begins again."""

    patience: float | None = None  #: seconds until a request is given up; None: never, as in the demo's own file

    def wait_time(self) -> float:
        """Return how long to pause after a task."""
        return load.pause_seconds()

    def on_start(self) -> None:
        """Look at the home page first, as the demo's users do."""
        with instrumentation.task_span("user_session_start"):
            logging.info("Starting user session: %s", uuid.uuid4())
            self.visit("index", Flow(1.0, ["GET /"], (0, 0)))

    @task
    def act(self) -> None:
        """Do what comes next."""
        name = load.next_flow()
        self.visit(name, load.flows[name])

    def visit(self, name: str, flow: Flow) -> None:
        """Make the requests of a flow."""
        user = str(uuid.uuid4())
        about = shop_requests.drawn(load.draws)
        if name == "flood_home":
            count = flood_count()
            if count > 0:
                with instrumentation.task_span("user_flood_home"):
                    logging.info(shop_requests.LOG_LINES[name].format(count=count))
                    for _ in range(count):
                        self.ask(flow.requests[0], user, about)
            return
        if flow.additions == (0, 0):
            with instrumentation.task_span(f"user_{name}"):
                self.tell(name, user, about)
                for operation in flow.requests:
                    self.ask(operation, user, about)
            return
        with instrumentation.task_span("user_checkout_single" if name == "checkout" else f"user_{name}"):
            for _ in range(load.additions(flow)):
                about = shop_requests.drawn(load.draws)
                with instrumentation.task_span("user_add_to_cart"):
                    self.tell("add_to_cart", user, about)
                    for operation in flow.requests[:-1]:
                        self.ask(operation, user, about)
            self.ask(flow.requests[-1], user, about)
            self.tell(name, user, about)

    def tell(self, name: str, user: str, about: dict[str, Any]) -> None:
        """Log a task, one line."""
        logging.info(shop_requests.LOG_LINES.get(name, name).format(user=user, **about))

    def ask(self, operation: str, user: str, about: dict[str, Any]) -> None:
        """Make a request and account for it: scheduled when it begins, served when it is answered."""
        wanted = shop_requests.asked(operation, user=user, **about)
        if wanted is None:
            return
        load.scheduled += 1
        answer = self.client.request(
            wanted.method, wanted.path, params=wanted.params, json=wanted.json, name=operation.partition(" ")[2],
            timeout=self.patience,
        )  # fmt: skip
        redirects = len(answer.history)  # each was a request to the entry, too
        load.scheduled += redirects
        load.served += 1 + redirects
        load.failed += not 0 < answer.status_code < 400  # 0: nothing came


class Visitor(ShopUser):
    """Who comes for one task and goes: open arrivals. Locust itself starts none."""

    abstract = True
    patience = PATIENCE_SECONDS


class Control:
    """Ties the load to a running Locust: its pages, the arrivals, the curve, the readings."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        options = environment.parsed_options
        load.spawn_rate = float(getattr(options, "spawn_rate", None) or 1.0)
        self._curve_begun = time.monotonic()
        self._stopped = False  # of open arrivals

    def begin(self) -> None:
        """Add the pages and start what goes on beside the users."""
        pages = self.environment.web_ui
        assert pages is not None, "the gym's load generator needs Locust's web interface: no --headless"
        application = pages.app
        application.add_url_rule("/ocg/workload", view_func=self.workload)
        application.add_url_rule("/ocg/workload/readings", view_func=self.readings)
        application.add_url_rule("/ocg/mix", view_func=self.mix, methods=["POST"])
        application.add_url_rule("/ocg/rate", view_func=self.rate, methods=["POST"])
        application.add_url_rule("/ocg/profile", view_func=self.profile, methods=["POST"])
        for path, wrap in (("/swarm", self._swarm), ("/stop", self._stop)):
            (rule,) = (rule for rule in application.url_map.iter_rules() if rule.rule == path)
            application.view_functions[rule.endpoint] = wrap(application.view_functions[rule.endpoint])
        for forever in (self._arrive, self._follow, self._observe):
            gevent.spawn(forever)

    @property
    def _runner(self) -> Any:
        assert self.environment.runner is not None
        return self.environment.runner

    def account(self) -> dict[str, object]:
        """Return what is offered now and what came of it."""
        if load.open:
            state = "running" if load.rate_per_s and not self._stopped else "stopping" if load.visitors else "stopped"
            return load.account(users_target=0, users_active=load.visitors, state=state)
        return load.account(
            users_target=self._runner.target_user_count,
            users_active=self._runner.user_count,
            state=STATES.get(self._runner.state, self._runner.state),
        )

    def workload(self) -> Response:
        """Answer GET /ocg/workload."""
        return jsonify(self.account())

    def readings(self) -> Any:
        """Answer GET /ocg/workload/readings."""
        since = request.args.get("since", "0")
        try:
            return jsonify({"readings": load.readings(float(since))})
        except ValueError:
            return jsonify({"message": f"since = {since!r}: must be a time in seconds since the epoch"}), 400

    def mix(self) -> Any:
        """Answer POST /ocg/mix."""
        return self._set(lambda: load.set_mix(request.get_json(force=True, silent=True)), "Mix changed")

    def rate(self) -> Any:
        """Answer POST /ocg/rate."""

        def change() -> None:
            load.set_rate(request.form.get("rate_per_s", ""))
            self._stopped = self._stopped and not load.rate_per_s

        return self._set(change, "Rate changed")

    def profile(self) -> Any:
        """Answer POST /ocg/profile."""

        def change() -> None:
            was_open = load.open
            load.set_profile(request.get_json(force=True, silent=True))
            self._curve_begun = time.monotonic()
            if load.open and not was_open:
                self._stopped = False
                self._runner.stop()  # arrivals instead of users

        return self._set(change, "Profile changed")

    def _set(self, change: Callable[[], None], message: str) -> Any:
        try:
            change()
        except Refusal as refusal:
            return jsonify({"success": False, "message": str(refusal)}), 400
        return jsonify({"success": True, "message": message, "mix": load.mix, "rate_per_s": load.rate_per_s})

    def _swarm(self, swarm: Callable[[], Any]) -> Callable[[], Any]:
        def answered() -> Any:
            def refused(message: str) -> Any:
                return jsonify({"success": False, "message": message, "host": self.environment.host})

            if load.open:
                return refused("the load is open arrivals: set a rate, not users")
            try:
                users, spawn_rate = int(request.form.get("user_count", "")), float(request.form.get("spawn_rate", ""))
            except ValueError:
                return refused("user_count must be a whole number, spawn_rate a number")
            if users < 0 or not 0 < spawn_rate < float("inf"):
                return refused(f"user_count = {users}, spawn_rate = {spawn_rate}: must be at least 0, and above 0")
            load.spawn_rate, load.curve = spawn_rate, []
            return swarm()

        return answered

    def _stop(self, stop: Callable[[], Any]) -> Callable[[], Any]:
        def answered() -> Any:
            load.curve = []
            if not load.open:
                return stop()
            self._stopped = True
            load.rate_per_s = 0.0
            return jsonify({"success": True, "message": "Test stopped"})

        return answered

    def _arrive(self) -> None:
        """Let visitors come, as a Poisson process; a new rate counts from the next look on, at the latest."""
        while True:
            gap = load.gap_seconds()
            if gap > LOOK_SECONDS:
                # What is left of an exponential gap is as long as a new one: so it may be drawn again, at a rate that has changed.
                gevent.sleep(LOOK_SECONDS)
                continue
            gevent.sleep(gap)
            gevent.spawn(self._visit)

    def _visit(self) -> None:
        load.visitors += 1
        Visitor.host = self.environment.host
        visitor = Visitor(self.environment)
        try:
            visitor.act()
        finally:
            visitor.client.close()
            load.visitors -= 1

    def _follow(self) -> None:
        """Follow the curve of a profile."""
        while True:
            gevent.sleep(LOOK_SECONDS)
            level = load.due_level(time.monotonic() - self._curve_begun)
            if level is None:
                continue
            if load.open:
                load.rate_per_s = level
            else:
                self._runner.start(round(level), load.spawn_rate)

    def _observe(self) -> None:
        """Keep a reading every few seconds."""
        while True:
            load.note(time.time(), self.account())
            gevent.sleep(READING_SECONDS)


@events.init.add_listener
def _begin(environment: Environment, **_: object) -> None:
    Control(environment).begin()
