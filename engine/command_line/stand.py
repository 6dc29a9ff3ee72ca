"""`ocg stand`: what can be done about a stand that outlives the gym: here, clean it of what a gym that died has left, once or as a watch.

Its other verbs are in `stand_up`, `stand_reset` and `stand_status`; `app` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_control_gym.engine.command_line.options import NOT_SO, Options, command
from otel_control_gym.engine.errors import UsageError

if TYPE_CHECKING:
    from otel_control_gym.actuators.caretaker import TakenBack
    from otel_control_gym.actuators.janitor import Cleaned
    from otel_control_gym.engine.events import Event
    from otel_control_gym.engine.protocols import Endpoints

__all__ = ("Context", "Unmarked", "app", "clean", "clean_of", "janitor")

LOOK_SECONDS = 10.0  #: between two rounds of the janitor

Context = Annotated[str, typer.Option(metavar="NAME", help="Context of the kubeconfig. [default: its current one]")]
Unmarked = Annotated[
    bool, typer.Option("--unmarked", help="Touch a namespace that isn't labelled as a gym's stand, too.")
]

app = typer.Typer(help="Install a stand on a cluster, look after it, remove it.", no_args_is_help=True)


def clean(
    options: Options,
    kubeconfig: Annotated[
        Path, typer.Option(metavar="FILE", envvar="KUBECONFIG", help="Whose current context is the stand.")
    ],
    context: Context = "",
    unmarked: Unmarked = False,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Take back, too, what this run did, unless its log shows that it was taken back or a janitor has noted that.",
        ),
    ] = None,
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Where gyms keep Leases and inverses.")] = "ocg-system",
    load_generator: Annotated[
        str, typer.Option(metavar="URL", help="Needed where the run has changed the workload.")
    ] = "",
    flagd: Annotated[str, typer.Option(metavar="URL", help="Needed where the run has switched a flag.")] = "",
) -> int:
    """Remove every chaos object of the gym from a stand, and take back what a run has left (exit code 1: something stayed)."""
    import msgspec

    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.stands.cluster.contexts import endpoints_of

    dead = None if run is None else _events_of(run, options)
    with endpoints_of(kubeconfig, context=context, load_generator=load_generator, flagd=flagd) as endpoints:
        cleaned = run_interruptibly(_clean_if_marked, endpoints, namespace, dead, unmarked)
    document: dict[str, Any] = {"clean": cleaned.clean, **msgspec.to_builtins(cleaned)}
    options.output.answer(document)
    if not options.json:
        console = options.output.console
        for title, lines in (
            ("taken back", cleaned.calls),
            ("removed", cleaned.removed),
            ("by force", cleaned.forced),
            ("left", cleaned.problems),
        ):
            for line in lines:
                console.print(f"{title:<10}  {line}", markup=False)
        console.print("the stand is clean" if cleaned.clean else "[red]the stand isn't clean[/]")
    return 0 if cleaned.clean else NOT_SO


def _events_of(run: str, options: Options) -> tuple[str, list[tuple[Event, bool]]]:
    from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive
    from otel_control_gym.engine.runs import open_run

    opened = open_run(run, options.directory)
    return opened.run_id, [(entry.event, entry.truth) for entry in read_archive(opened.path / ARCHIVE_NAME)]


async def _clean_if_marked(
    endpoints: Endpoints, namespace: str, run: tuple[str, list[tuple[Event, bool]]] | None, unmarked: bool
) -> Cleaned:
    from otel_control_gym.stands.cluster.contexts import check_mark

    if not unmarked:
        await check_mark(endpoints)
    return await clean_of(endpoints, namespace, run)


async def clean_of(endpoints: Endpoints, namespace: str, run: tuple[str, list[tuple[Event, bool]]] | None) -> Cleaned:
    """Remove the gym's chaos objects from a stand; of a run (its id and its log) also what it has left, and what lies there for that.

    Raises:
        UsageError: what lies in `namespace` for the run can't be read.
        StandError: a janitor is at work with it.
    """
    import anyio

    from otel_control_gym.actuators.aftermath import leftovers_of
    from otel_control_gym.actuators.janitor import open_janitor
    from otel_control_gym.actuators.kubernetes_client import open_kubernetes
    from otel_control_gym.actuators.recovering import DeadRun
    from otel_control_gym.actuators.transport import CallError

    async with open_janitor(endpoints, anyio.sleep) as cleaner, open_kubernetes(endpoints) as kubernetes:
        if run is None:
            return await cleaner.clean([])
        run_id, events = run
        dead = DeadRun(kubernetes, namespace, run_id)
        try:
            noted = await dead.claim()
            cleaned = await cleaner.clean(leftovers_of(events, noted))
            await dead.close(clean=cleaned.clean)
        except CallError as error:
            raise UsageError(
                f"what is kept of run {run_id} in namespace {namespace!r} can't be read: {error}"
            ) from error
        return cleaned


def janitor(
    options: Options,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="KUBECONFIG",
            help="Whose current context is the stand. [default: the pod's own account]",
        ),
    ] = None,
    context: Context = "",
    unmarked: Unmarked = False,
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Where gyms keep Leases and inverses.")] = "ocg-system",
    once: Annotated[
        bool, typer.Option("--once", help="Look until every Lease was renewed or has run out, then end.")
    ] = False,
    load_generator: Annotated[
        str, typer.Option(metavar="URL", help="As the janitor reaches it. [default: as the gym did]")
    ] = "",
    flagd: Annotated[str, typer.Option(metavar="URL", help="The same for flagd.")] = "",
) -> int:
    """Take back what a gym has left that no longer renews its Lease (exit code 1 with `--once`: something stayed)."""
    import msgspec

    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.stands.cluster.contexts import endpoints_of
    from otel_control_gym.stands.cluster.pod_account import endpoints_in_pod

    if options.json and not once:
        raise UsageError("--json prints one document, and a janitor that goes on has none: add --once")

    def tell(done: list[TakenBack]) -> None:
        for noted in () if options.json else done:
            console, cleaned = options.output.console, noted.cleaned
            told = "taken back" if cleaned.clean else "left: " + "; ".join(cleaned.problems)
            console.print(f"{noted.time}  run {noted.run_id}  action {noted.action_id}  {told}", markup=False)

    def find() -> AbstractContextManager[Endpoints]:
        if kubeconfig is None:
            return endpoints_in_pod(load_generator=load_generator, flagd=flagd)
        return endpoints_of(kubeconfig, context=context, load_generator=load_generator, flagd=flagd)

    # The account of a pod is the stand's own: it was given its rights there, and only there.
    unasked = unmarked or kubeconfig is None
    try:
        done = run_interruptibly(_look_after, find, namespace, once, tell, unasked)
    except KeyboardInterrupt:
        if once:
            raise
        return 0  # which is how a watch ends
    clean = all(noted.cleaned.clean for noted in done)
    options.output.answer({"clean": clean, "taken_back": msgspec.to_builtins(done)})
    return 0 if clean else NOT_SO


async def _look_after(
    find: Callable[[], AbstractContextManager[Endpoints]],
    namespace: str,
    once: bool,
    tell: Callable[[list[TakenBack]], None],
    unmarked: bool,
) -> list[TakenBack]:
    """Make rounds; with `once` until every Lease that the first has seen has had its time.

    Raises: StandError: the namespace isn't marked as a stand, and that it needn't be wasn't said.
    """
    import logging

    import anyio

    from otel_control_gym.actuators.caretaker import Caretaker, make_round
    from otel_control_gym.actuators.transport import CallError
    from otel_control_gym.engine.clock import new_run_id
    from otel_control_gym.stands.cluster.contexts import check_mark

    if not unmarked:
        with find() as endpoints:
            await check_mark(endpoints)
    caretaker = Caretaker(f"janitor-{new_run_id()}")
    done: list[TakenBack] = []
    rounds = 0
    while True:
        try:
            with find() as endpoints:  # anew for each round: the token of a pod is exchanged under its feet
                found = await make_round(caretaker, endpoints, namespace)
        except CallError as error:
            if once:
                raise UsageError(f"the janitor's round failed: {error}") from error
            logging.getLogger(__name__).error("the round failed, the next is in %g s: %s", LOOK_SECONDS, error)
            found = []
        tell(found)
        rounds += 1
        if once:
            done += found
            if caretaker.next_seconds is None or rounds > 1:
                return done
        await anyio.sleep(caretaker.next_seconds if once and caretaker.next_seconds is not None else LOOK_SECONDS)


app.command("clean")(command(clean))
app.command("janitor")(command(janitor))
