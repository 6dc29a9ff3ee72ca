"""`ocg env`: environments for processes that don't live in this one."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from otel_control_gym.engine.command_line.cluster_options import (
    ClusterContext,
    Coroot,
    Flagd,
    FlagdEvaluation,
    InPod,
    Jaeger,
    Kubeconfig,
    LoadGenerator,
    Prometheus,
    Receive,
    ReceiveCertificate,
    ReceiveKey,
    ReceiveToken,
    Reset,
    Unmarked,
    Via,
    access_of,
    exposure,
)
from otel_control_gym.engine.command_line.options import Options, command
from otel_control_gym.engine.errors import UsageError

__all__ = ("app", "serve")

app = typer.Typer(help="Environments for other processes.", no_args_is_help=True)


@app.callback()
def _env() -> None: ...  # so that `serve` stays a verb while it is the only one


def serve(
    options: Options,
    scenario: Annotated[
        str,
        typer.Argument(
            help="Name of a scenario or service configuration, or a scenario file: what every session plays."
        ),
    ] = "quickstart",
    name: Annotated[str, typer.Option(help="Of the server: sessions are opened on ocg.env.NAME.")] = "default",
    sessions: Annotated[int, typer.Option(min=1, max=64, help="How many environments at a time.")] = 1,
    lease: Annotated[
        float, typer.Option(metavar="SECONDS", min=1.0, help="A session that asks nothing for so long is over.")
    ] = 120.0,
    workload: Annotated[str | None, typer.Option(help="Replace the workload: a name or a file.")] = None,
    granularity: Annotated[str | None, typer.Option(help="Replace the granularity: a name or a file.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Length of control in seconds.")] = None,
    pace: Annotated[float, typer.Option(help="N x real time; 0: as fast as it goes.")] = 0.0,
    kubeconfig: Kubeconfig = None,
    in_pod: InPod = False,
    context: ClusterContext = "",
    unmarked: Unmarked = False,
    reset: Reset = "soft",
    via: Via = None,
    prometheus: Prometheus = "",
    coroot: Coroot = "",
    load_generator: LoadGenerator = "",
    flagd: Flagd = "",
    flagd_evaluation: FlagdEvaluation = "",
    jaeger: Jaeger = "",
    receive: Receive = "",
    receive_certificate: ReceiveCertificate = None,
    receive_key: ReceiveKey = None,
    receive_token: ReceiveToken = None,
) -> int:
    """Serve environments over NATS (reset, observe, step, close) until Ctrl-C (exit code 0)."""
    from functools import partial

    from otel_control_gym.engine.assembly import checked, make
    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.configuration import resolve
    from otel_control_gym.engine.environment_server import server_subject

    access = access_of(
        kubeconfig,
        in_pod=in_pod,
        context=context,
        unmarked=unmarked,
        reset=reset,
        via=via,
        prometheus=prometheus,
        coroot=coroot,
        load_generator=load_generator,
        flagd=flagd,
        flagd_evaluation=flagd_evaluation,
        jaeger=jaeger,
        receive=receive,
        receive_certificate=receive_certificate,
        receive_key=receive_key,
        receive_token=receive_token,
    )
    if told := exposure(access):
        options.output.side.print(told, style="yellow", markup=False, soft_wrap=True)
    if access is not None and sessions > 1:
        raise UsageError(f"--sessions {sessions}: a cluster is driven by one environment at a time")
    config = checked(resolve(scenario, workload=workload, granularity=granularity, horizon_seconds=horizon))
    server_subject(name)
    make_env = partial(
        make,
        config,
        data_dir=options.directory,
        nats=options.nats,
        pace=pace,
        actor="external",
        policy_version="remote",
        kubeconfig=access,
    )
    ready: list[str] = []
    try:
        run_interruptibly(_serve, options, make_env, name, sessions, lease, ready)
    except KeyboardInterrupt:
        if not ready:
            raise
        options.output.side.print("the server has ended, its sessions in order", style="dim")
    return 0


async def _serve(options: Options, make_env: Any, name: str, sessions: int, lease: float, ready: list[str]) -> None:
    """Serve until this is cancelled; `ready` gets the server's subject once it can be asked."""
    import anyio

    from otel_control_gym.engine.assembly import configured_broker
    from otel_control_gym.engine.environment_server import EnvironmentServer
    from otel_control_gym.engine.jetstream import JetStream

    output = options.output
    options.directory.mkdir(parents=True, exist_ok=True)
    async with configured_broker(options.directory, options.nats) as broker, JetStream(broker) as jetstream:
        server = EnvironmentServer(
            jetstream,
            make_env,
            name=name,
            sessions=sessions,
            lease_seconds=lease,
            on_change=lambda sentence: output.side.print(sentence, markup=False, soft_wrap=True),
        )
        async with anyio.create_task_group() as group:
            await group.start(server.serve)
            ready.append(server.subject)
            output.answer(
                {
                    "nats": broker.url,
                    "subject": server.subject,
                    "sessions": sessions,
                    "lease_seconds": lease,
                    "process": os.getpid(),
                }
            )
            if not output.json:
                output.console.print(f"{broker.url}  {server.subject}", markup=False, soft_wrap=True)
            sys.stdout.flush()  # whoever started this program by another one waits for it


app.command("serve")(command(serve))
