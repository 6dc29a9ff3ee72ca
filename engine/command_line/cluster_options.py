"""The options by which a command is told of a cluster: where its kubeconfig is, and where the stand's services answer.

They come from the command line alone: a kubeconfig can name programs to be run, so no file of a scenario or configuration may name one. One
that a shell exports for other tools isn't taken either, because an episode breaks what it leads to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otel_control_gym.engine.cluster_access import ClusterAccess, ResetLevel, Way, listening_address
from otel_control_gym.engine.errors import UsageError

__all__ = (
    "ClusterContext",
    "Coroot",
    "Flagd",
    "FlagdEvaluation",
    "InPod",
    "Kubeconfig",
    "LoadGenerator",
    "Prometheus",
    "Receive",
    "Reset",
    "Unmarked",
    "Via",
    "access_of",
    "url_option",
)

_PANEL = "Cluster"


def url_option(what: str, option: str, *, panel: str = _PANEL) -> typer.models.OptionInfo:
    """Return an option that says where a service of the stand is."""
    option_info: typer.models.OptionInfo = typer.Option(
        option, metavar="URL", help=f"Where {what} is. [default: by --via]", rich_help_panel=panel
    )
    return option_info


Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The cluster that it leads to is the stand: everything in its namespace may be broken.",
        rich_help_panel=_PANEL,
    ),
]
InPod = Annotated[
    bool,
    typer.Option("--in-pod", help="Run on the cluster in whose pod this runs, as its account.", rich_help_panel=_PANEL),
]
ClusterContext = Annotated[
    str,
    typer.Option(
        "--context",
        metavar="NAME",
        help="Context of the kubeconfig. [default: its current one]",
        rich_help_panel=_PANEL,
    ),
]
Unmarked = Annotated[
    bool,
    typer.Option(
        "--unmarked", help="Touch a namespace that isn't labelled as a gym's stand, too.", rich_help_panel=_PANEL
    ),
]
Reset = Annotated[
    ResetLevel, typer.Option(help="How the stand is brought to its known state before the run.", rich_help_panel=_PANEL)
]
Via = Annotated[
    Way | None,
    typer.Option(
        help="How services are reached: by the API server's proxy, or (the default in a pod) by their names.",
        rich_help_panel=_PANEL,
    ),
]
Prometheus = Annotated[str, url_option("Prometheus", "--prometheus")]
Coroot = Annotated[str, url_option("Coroot", "--coroot")]
LoadGenerator = Annotated[str, url_option("Locust", "--load-generator")]
Flagd = Annotated[str, url_option("flagd-ui", "--flagd")]
FlagdEvaluation = Annotated[str, url_option("flagd's OFREP", "--flagd-evaluation")]
Receive = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT",
        help="Take spans and logs here, where the stand's collector sends them. [default: they aren't collected, and the run says so]",
        rich_help_panel=_PANEL,
    ),
]


def access_of(
    kubeconfig: Path | None,
    *,
    in_pod: bool = False,
    context: str,
    unmarked: bool,
    reset: ResetLevel,
    via: Way | None,
    prometheus: str,
    coroot: str,
    load_generator: str,
    flagd: str,
    flagd_evaluation: str,
    receive: str = "",
) -> ClusterAccess | None:
    """Return the cluster that options tell of; None: none.

    Raises: UsageError: they tell of one without saying which.
    """
    urls = {
        "prometheus": prometheus,
        "coroot": coroot,
        "load_generator": load_generator,
        "flagd": flagd,
        "flagd_evaluation": flagd_evaluation,
    }
    given = [name for name, text in (urls | {"context": context, "receive": receive}).items() if text]
    if in_pod and (kubeconfig is not None or context):
        raise UsageError("--in-pod is the cluster around this pod: --kubeconfig and --context name another")
    if kubeconfig is None and not in_pod:
        if given:
            raise UsageError(
                f"--{given[0].replace('_', '-')} is for a cluster: say which, --kubeconfig FILE or --in-pod"
            )
        return None
    if receive:
        listening_address(receive)
    return ClusterAccess(
        kubeconfig=kubeconfig,
        context=context,
        unmarked=unmarked,
        reset=reset,
        way=via or ("dns" if in_pod else "proxy"),
        receive=receive,
        **{name: url.rstrip("/") for name, url in urls.items()},
    )
