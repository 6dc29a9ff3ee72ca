"""A twin alone, as a server in wall-clock time, whose load follows its workload's curve: `ocg.serve_twin`.

In: a configuration. Out: a `ServedTwin`, which is met like a cluster. It is here and not in the twin's room, because the curve is driven
as on a cluster: by the actuators, over the load generator's REST.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from otel_control_gym.engine.assembly import data_directory
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.protocols import WorkloadDriver
from otel_control_gym.engine.randomization import randomized
from otel_control_gym.engine.settings import RunConfig

if TYPE_CHECKING:
    from otel_control_gym.stands.twin.serving import ServedTwin

__all__ = ("serve_twin",)

_SHORTEST_WAIT_SECONDS = 0.02  #: of wall time: a twin that lags comes to a moment later than its pace says


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
