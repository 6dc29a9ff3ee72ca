"""The load generator of a stand: brought to the workload with which a run begins, and seen to offer it.

`/swarm` answers 200 also when it does nothing (`success: false`), and a restarted load generator has its own users again: so the answer is
read, and the users are asked for afterwards. Our own locustfile is told besides what kind of load it is, and how long users think; a curve
that it still follows ends with that. A stock Locust knows no rate and no mix: a workload that needs them is refused there.
"""

from __future__ import annotations

import math

import anyio

from otel_control_gym.engine.clock import wall_timer
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.cluster.availability import Patience
from otel_control_gym.stands.cluster.connection import Answer, Connection
from otel_control_gym.stands.cluster.services import LOAD_GENERATOR

__all__ = ("set_load", "wait_load")

_NOT_FOUND = 404


async def set_load(connection: Connection, config: RunConfig) -> None:
    """Ask for the workload's first users or rate, and its first mix.

    Raises: StandError: the load generator doesn't take it.
    """
    workload, base = config.workload, connection.endpoints.load_generator
    profile: dict[str, object] = {"arrivals": workload.arrivals, "think_seconds": workload.think_seconds, "curve": []}
    told = await connection.post(f"{base}/ocg/profile", body=profile)
    if told.status != _NOT_FOUND:  # who hasn't that page is what it is: a twin is what it was served as
        _check(told, base)
    account = await _account(connection)
    if workload.arrivals == "open":
        if account is None or account.find("rate_per_s") is None:
            raise StandError(
                f"{base}: workload {workload.name!r} is open arrivals, which this load generator doesn't have"
            )
        _check(await connection.post(f"{base}/ocg/rate", form={"rate_per_s": repr(workload.rate_per_s)}), base)
    else:
        form = {"user_count": str(workload.users), "spawn_rate": f"{workload.spawn_rate_per_s:g}"}
        _check(await connection.post(f"{base}/swarm", form=form), base)
    mix = {name: workload.mix.get(name, flow.weight) for name, flow in config.public.services.flows.items()}
    if account is not None and account.find("mix"):
        _check(await connection.post(f"{base}/ocg/mix", body=mix), base)
    elif workload.mix:
        raise StandError(f"{base}: workload {workload.name!r} sets a mix, which this load generator doesn't have")


async def wait_load(connection: Connection, config: RunConfig, patience: Patience) -> None:
    """Return when the load is what the workload begins with.

    Raises: StandError: it isn't, in time.
    """
    deadline, workload = wall_timer() + patience.seconds, config.workload
    while True:
        account = await _account(connection)
        if account is None:
            stock = await connection.service(connection.endpoints.load_generator, LOAD_GENERATOR, "stats/requests")
            state, active, target = stock.text("state"), stock.find("user_count"), workload.users
        else:
            state, active, target = account.text("state"), account.find("users_active"), account.find("users_target")
        if workload.arrivals == "open":
            rate = account.find("rate_per_s") if account is not None else None
            reached = isinstance(rate, int | float) and math.isclose(rate, workload.rate_per_s)
        else:
            reached = active == target == workload.users
        if reached and state == "running":
            return
        if wall_timer() > deadline:
            raise StandError(
                f"after {patience.seconds:g} s the load generator is {state or 'silent'} with {active} of {target} users, "
                f"not running with {workload.users}\n  its log says why"
            )
        await anyio.sleep(patience.look_seconds)


async def _account(connection: Connection) -> Answer | None:
    """Return the load generator's account; None: it is a stock Locust, which has none."""
    answer = await connection.service(connection.endpoints.load_generator, LOAD_GENERATOR, "ocg/workload")
    if answer.status == _NOT_FOUND:
        return None
    if not answer.ok:
        raise StandError(
            f"{connection.endpoints.load_generator}: the load generator can't be read: {answer.problem}\n"
            "  is it up? --load-generator URL names another"
        )
    return answer


def _check(answer: Answer, base: str) -> None:
    if not answer.ok or answer.find("success") is not True:
        raise StandError(f"{base}: the load generator refuses: {answer.problem or answer.text('message')}")
