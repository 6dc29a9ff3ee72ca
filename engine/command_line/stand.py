"""`ocg stand`: what can be done about a stand that outlives the gym: clean it of what a gym that died has left."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_control_gym.engine.command_line.options import NOT_SO, Options, command
from otel_control_gym.engine.errors import UsageError

if TYPE_CHECKING:
    from otel_control_gym.engine.events import InverseCall
    from otel_control_gym.engine.protocols import Endpoints

__all__ = ("app", "clean", "endpoints_of")

app = typer.Typer(help="Look after a stand that outlives the gym.", no_args_is_help=True)


@app.callback()
def _stand() -> None: ...  # so that `clean` stays a verb while it is the only one


def clean(
    options: Options,
    kubeconfig: Annotated[
        Path, typer.Option(metavar="FILE", envvar="KUBECONFIG", help="Whose current context is the stand.")
    ],
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Take back, too, what this run did and its log doesn't show as taken back."),
    ] = None,
    load_generator: Annotated[
        str, typer.Option(metavar="URL", help="Needed where the run has changed the workload.")
    ] = "",
    flagd: Annotated[str, typer.Option(metavar="URL", help="Needed where the run has switched a flag.")] = "",
) -> int:
    """Remove every chaos object of the gym from a stand, and take back what a run has left (exit code 1: something stayed)."""
    import msgspec

    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    inverses = [] if run is None else _leftovers(run, options)
    with endpoints_of(kubeconfig, load_generator=load_generator, flagd=flagd) as endpoints:
        cleaned = run_interruptibly(_clean, endpoints, inverses)
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


def _leftovers(run: str, options: Options) -> list[InverseCall]:
    from otel_control_gym.actuators.aftermath import leftovers_of
    from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive
    from otel_control_gym.engine.runs import open_run

    archive = open_run(run, options.directory).path / ARCHIVE_NAME
    return leftovers_of((entry.event, entry.truth) for entry in read_archive(archive))


async def _clean(endpoints: Endpoints, inverses: list[InverseCall]) -> Any:
    import anyio

    from otel_control_gym.actuators.janitor import open_janitor

    async with open_janitor(endpoints, anyio.sleep) as janitor:
        return await janitor.clean(inverses)


def endpoints_of(kubeconfig: Path, *, load_generator: str = "", flagd: str = "") -> AbstractContextManager[Endpoints]:
    """Return where the current context of a kubeconfig leads; a certificate authority in it lies in a file meanwhile.

    Raises: UsageError: the file can't be read, or names no server, or its user has no token.
    """
    return _endpoints(kubeconfig, load_generator, flagd)


@contextmanager
def _endpoints(kubeconfig: Path, load_generator: str, flagd: str) -> Iterator[Endpoints]:
    from otel_control_gym.engine.protocols import Endpoints

    document = _read(kubeconfig)
    context = _named(document, "contexts", document.get("current-context", ""), kubeconfig)["context"]
    cluster = _named(document, "clusters", context["cluster"], kubeconfig)["cluster"]
    user = _named(document, "users", context["user"], kubeconfig)["user"]
    if "token" not in user:
        raise UsageError(f"{kubeconfig}: user {context['user']!r} has no token: other credentials aren't supported yet")
    with tempfile.TemporaryDirectory() as folder:
        authority = cluster.get("certificate-authority", "")
        if "certificate-authority-data" in cluster:
            file = Path(folder) / "ca.crt"
            file.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
            authority = str(file)
        yield Endpoints(
            kubernetes=cluster["server"].rstrip("/"),
            namespace=context.get("namespace", "otel-demo"),
            prometheus="",
            coroot="",
            load_generator=load_generator.rstrip("/"),
            flagd=flagd.rstrip("/"),
            kubernetes_token=user["token"],
            kubernetes_ca_file=authority,
        )


def _read(kubeconfig: Path) -> dict[str, Any]:
    import msgspec

    try:
        found = msgspec.yaml.decode(kubeconfig.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{kubeconfig}: can't be read as a kubeconfig: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{kubeconfig}: is no kubeconfig")
    return found


def _named(document: dict[str, Any], kind: str, name: str, kubeconfig: Path) -> dict[str, Any]:
    for entry in document.get(kind) or ():
        if entry.get("name") == name:
            found: dict[str, Any] = entry
            return found
    raise UsageError(f"{kubeconfig}: {kind} has no {name!r}")


app.command("clean")(command(clean))
