"""`ocg stand up` and `ocg stand images`: install a stand on a cluster, and what has to be there to be run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_control_gym.engine.command_line.options import NOT_SO, Options, command
from otel_control_gym.engine.command_line.stand import Context

if TYPE_CHECKING:
    from otel_control_gym.engine.command_line.output import Output
    from otel_control_gym.stands.cluster.inspection import PartState
    from otel_control_gym.stands.cluster.installation import Wish
    from otel_control_gym.stands.cluster.stand_images import StandImage

__all__ = (
    "Administrated",
    "Charts",
    "Configured",
    "Force",
    "GymImage",
    "Patience",
    "PullSecret",
    "Registry",
    "images",
    "report_of",
    "tell_states",
    "teller",
    "up",
    "wish_of",
)

Administrated = Annotated[
    Path, typer.Option(metavar="FILE", envvar="KUBECONFIG", help="An administrator's, that leads to the cluster.")
]
Configured = Annotated[
    str, typer.Option("--config", metavar="NAME", help="Which application: a service configuration or a scenario.")
]
Registry = Annotated[
    str, typer.Option(metavar="HOST/PATH", help="Take every image from this registry. [default: from where it is]")
]
Charts = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Take charts from here, NAME-VERSION.tgz, not from their repositories."),
]
PullSecret = Annotated[
    str, typer.Option(metavar="NAME", help="Secret in each of the stand's namespaces with which images are pulled.")
]
GymImage = Annotated[
    str,
    typer.Option(metavar="IMAGE", help="Image of the gym's own pods. [default: otel-control-gym at our version]"),
]
Patience = Annotated[float, typer.Option(metavar="MINUTES", help="How long to wait until all is ready.")]
Force = Annotated[
    bool, typer.Option("--force", help="Although an environment drives the stand: its run ends with that.")
]


@command
def up(
    options: Options,
    kubeconfig: Administrated,
    context: Context = "",
    config: Configured = "small-core",
    mark: Annotated[
        bool,
        typer.Option("--mark", help="Mark namespaces as a gym's that are there already: all in them may be broken."),
    ] = False,
    charts: Charts = None,
    registry: Registry = "",
    pull_secret: PullSecret = "",
    gym_image: GymImage = "",
    patience: Patience = 15.0,
) -> int:
    """Install a stand, or go on with it, and wait until it is ready (exit code 1: it isn't, and why)."""
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    wish = wish_of(
        config,
        registry,
        adopt=mark,
        charts=charts,
        pull_secret=pull_secret,
        gym_image=gym_image,
        patience_seconds=patience * 60,
    )
    states = run_interruptibly(_install, kubeconfig, context, wish, teller(options.output))
    complete = all(state.complete for state in states)
    options.output.answer({"ready": complete, "parts": report_of(states)})
    if not options.json:
        tell_states(options.output, states)
        options.output.console.print(
            f"the stand is up; ocg doctor --kubeconfig {kubeconfig} --config {config} says whether episodes can run"
            if complete
            else f"[red]the stand isn't ready after {patience:g} minutes[/]; ocg stand up goes on with it",
        )
    return 0 if complete else NOT_SO


def wish_of(config: str, registry: str, **asked: Any) -> Wish:
    """Return what stand is wanted.

    Raises: UsageError: the configuration isn't one of the demo's.
    """
    from otel_control_gym.engine.configuration import resolve
    from otel_control_gym.engine.deployment import installer_accesses, values_files
    from otel_control_gym.stands.cluster.installation import Wish
    from otel_control_gym.stands.cluster.pins import pins
    from otel_control_gym.stands.cluster.stand_images import mirrored_pins

    services = resolve(config).public.services
    pinned = mirrored_pins(pins(), registry)
    return Wish(
        config=services.name,
        services=tuple(services.services),
        values=values_files(services, pinned),
        pins=pinned,
        installing=installer_accesses(),
        rewritten=bool(registry),
        **asked,
    )


async def _install(kubeconfig: Path, context: str, wish: Wish, tell: Callable[[str], None]) -> tuple[PartState, ...]:
    from otel_control_gym.stands.cluster.administration import open_administrator
    from otel_control_gym.stands.cluster.helm import open_helm
    from otel_control_gym.stands.cluster.installation import install
    from otel_control_gym.stands.cluster.parts import NAMESPACE

    helm = await open_helm(wish.pins.helm, kubeconfig=kubeconfig, context=context, tell=tell)
    async with open_administrator(kubeconfig, context=context, namespace=NAMESPACE) as administrator:
        return await install(administrator, helm, wish, tell)


def teller(output: Output) -> Callable[[str], None]:
    """Return what prints lines of progress on standard error."""

    def tell(line: str) -> None:
        output.side.print(line, markup=False, soft_wrap=True)

    return tell


def report_of(states: Iterable[PartState]) -> list[dict[str, Any]]:
    """Return the states of a stand's parts as a JSON document has them."""
    import msgspec

    return [{"complete": state.complete, **msgspec.to_builtins(state)} for state in states]


def tell_states(output: Output, states: Iterable[PartState]) -> None:
    """Print a line for each part of a stand, and why it isn't ready."""
    from rich.text import Text

    for state in states:
        style = "green" if state.complete else "yellow" if state.exists else "red"
        charts = ", ".join(
            f"{release.found or 'no ' + release.wanted}"
            + (f" ({release.status})" if release.status not in ("", "deployed") else "")
            + (f", {release.wanted} is pinned" if release.found not in ("", release.wanted) else "")
            for release in state.releases
        )
        count = f"{state.ready} of {state.wanted} ready" if state.exists else "isn't there"
        output.console.print(Text.assemble((f"{state.namespace:<11}", style), count, f"  {charts}" if charts else ""))
        if state.missing and state.exists:
            output.console.print(Text(f"{'':11}nobody has made yet: {', '.join(state.missing)}", "dim"))
        for reason in state.reasons:
            output.console.print(Text(f"{'':11}{reason.object}: {reason.found}"))
            output.console.print(Text(f"{'':13}{reason.remedy}", "dim"))


@command
def images(
    options: Options,
    config: Configured = "small-core",
    registry: Registry = "",
    kubeconfig: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of a stand that is up: what its nodes have pulled tells the digests."),
    ] = None,
    context: Context = "",
) -> int:
    """List every image that a stand runs, with its digest where one is known."""
    import msgspec

    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.configuration import resolve
    from otel_control_gym.stands.cluster.pins import pins
    from otel_control_gym.stands.cluster.stand_images import stand_images

    found = stand_images(resolve(config).public.services, pins(), registry=registry)
    if kubeconfig is not None:
        found = run_interruptibly(_with_digests, kubeconfig, context, found)
    options.output.answer({"images": msgspec.to_builtins(found)})
    if not options.json:
        console = options.output.console
        for image in found:
            digest = f"@{image.digest}" if image.digest else ""
            mirror = f"  {image.mirror}" if image.mirror else ""
            console.print(f"{image.part:<11} {image.name}{digest}{mirror}", markup=False)
        unknown = sum(not image.digest for image in found)
        if unknown:
            where = "the pins have none" if kubeconfig is None else "no pod of this stand has run them"
            hint = "; --kubeconfig of a stand that is up tells those that it has pulled" if kubeconfig is None else ""
            options.output.side.print(f"{unknown} of {len(found)} without a digest: {where}{hint}", soft_wrap=True)
    return 0


async def _with_digests(kubeconfig: Path, context: str, found: tuple[StandImage, ...]) -> tuple[StandImage, ...]:
    """Fill in the digests of what a stand's pods run, under its own name or its mirror's."""
    import msgspec

    from otel_control_gym.stands.cluster.administration import open_administrator
    from otel_control_gym.stands.cluster.parts import NAMESPACE, NAMESPACES
    from otel_control_gym.stands.cluster.stand_images import digests_of

    digests: dict[str, str] = {}
    async with open_administrator(kubeconfig, context=context, namespace=NAMESPACE) as administrator:
        for namespace in NAMESPACES:
            pods = await administrator.kubernetes("GET", f"api/v1/namespaces/{namespace}/pods")
            digests |= digests_of(pods.items)
    return tuple(
        msgspec.structs.replace(image, digest=image.digest or digests.get(image.mirror) or digests.get(image.name, ""))
        for image in found
    )
