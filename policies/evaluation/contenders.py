"""Who takes part: a name as it is given on the command line, and what that one needs ➜ a policy for an episode.

`noop`, `random`, `threshold`, `hpa`, `restart-on-error`, `rollback-on-bad-rollout` and entry points `package.module:function` are made from
what is public of the run (`policies.controllers`). `calibrated-hpa` needs settings that were searched (`calibration`), `oracle` a second
environment, `mpc` a model that was trained.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from otel_control_gym.engine.env import Env
from otel_control_gym.engine.errors import UsageError, nearest
from otel_control_gym.engine.randomness import derive_seed
from otel_control_gym.policies.controllers import CONTROLLERS, controller, is_entry_point, scaled_by
from otel_control_gym.policies.evaluation.cases import Case
from otel_control_gym.policies.evaluation.settings import Search
from otel_control_gym.policies.naming import is_foreign
from otel_control_gym.policies.oracle import Oracle
from otel_control_gym.policies.planner import ModelPredictivePolicy
from otel_control_gym.policies.remote import policy_subject, remote_policy
from otel_control_gym.policies.rules import ClusterAutoscaler
from otel_control_gym.policies.scripted import Policy, WaitingPolicy

__all__ = (
    "CALIBRATED",
    "MODEL_PREDICTIVE",
    "NAMES",
    "ORACLE",
    "AskedThrough",
    "AutoscalerChoice",
    "Contender",
    "check_names",
    "opened_policy",
    "policy_for",
)

CALIBRATED, ORACLE, MODEL_PREDICTIVE = "calibrated-hpa", "oracle", "mpc"
NAMES = (*CONTROLLERS, CALIBRATED, MODEL_PREDICTIVE, ORACLE)


class AutoscalerChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the cluster's autoscaler that can be searched."""

    cpu_utilization_percent: int
    min_replicas: int


class AskedThrough(msgspec.Struct, frozen=True, kw_only=True):
    """The NATS server over which policies in other processes are asked."""

    data_dir: Path  #: its embedded broker, unless
    nats: str | None = None  #: this is the URL of another


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """A policy by name, and what it needs besides; complete, so that another process can make it."""

    name: str
    autoscaler: AutoscalerChoice | None = None
    model: Path | None = None
    search: Search = Search()
    asked_through: AskedThrough | None = None  #: of one in another process


def check_names(names: Sequence[str]) -> None:
    """Refuse names that nobody answers to, and names that are given twice.

    Raises: UsageError: says which, and what would be right.
    """
    if not names:
        raise UsageError(f"no policy is given\n  name at least one: {', '.join(NAMES)}")
    for name in names:
        if name not in NAMES and not is_foreign(name):
            raise UsageError(
                f"no policy is called {name!r}\n  {nearest(name, NAMES)}; or package.module:function, or nats:SUBJECT"
            )
        if policy_subject(name) is None and is_entry_point(name):
            controller(name)
    if len(set(names)) != len(names):
        raise UsageError(f"a policy is given twice: {', '.join(names)}\n  name each once")


@asynccontextmanager
async def opened_policy(
    contender: Contender, case: Case, env: Env, futures: Env | None
) -> AsyncIterator[Policy | WaitingPolicy]:
    """Yield a fresh policy for an episode, wherever it lives.

    Raises: PolicyError: one in another process isn't there. What `policy_for` raises.
    """
    subject = policy_subject(contender.name)
    if subject is None:
        yield policy_for(contender, case, env, futures)
        return
    place = contender.asked_through
    assert place is not None, "whoever evaluates says where policies are asked"
    async with remote_policy(
        subject, case.config.public, data_dir=place.data_dir, nats=place.nats, menu=case.menu
    ) as policy:
        yield policy


def policy_for(contender: Contender, case: Case, env: Env, futures: Env | None) -> Policy | WaitingPolicy:
    """Return a fresh policy for an episode of `case`, which plays in `env`; the oracle lives futures in another environment.

    Raises: UsageError: a name that nobody answers to. What reading a model raises.
    """
    public = case.config.public
    if contender.autoscaler is not None:
        choice = contender.autoscaler
        return ClusterAutoscaler(
            scaled_by(case.menu),
            cpu_utilization_percent=choice.cpu_utilization_percent,
            min_replicas=choice.min_replicas,
        )
    if contender.name == ORACLE:
        assert futures is not None
        search = contender.search
        return Oracle(env, futures, case.menu, first=search.first, every=search.every, look_ahead=search.look_ahead)
    if contender.name == MODEL_PREDICTIVE:
        from otel_control_gym.policies.learnt_returns import load_return_model

        assert contender.model is not None
        return ModelPredictivePolicy(case.menu, load_return_model(contender.model, public))
    return controller(contender.name)(public, case.menu, derive_seed(case.config.seed, f"policy/{case.scenario}"))
