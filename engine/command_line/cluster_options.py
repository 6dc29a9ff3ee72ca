"""The options by which a command is told of a cluster: where its kubeconfig is, and where the stand's services answer.

They come from the command line alone: a kubeconfig can name programs to be run, so no file of a scenario or configuration may name one. One
that a shell exports for other tools isn't taken either, because an episode breaks what it leads to.

A command that takes them is decorated by `@with_options(access_of, "access")`; one that takes several clusters by
`@with_options(stands_of, "stands")`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from otel_control_gym.engine.cluster_access import ClusterAccess, ResetLevel, Way, listening_address
from otel_control_gym.engine.errors import UsageError, nearest

__all__ = (
    "ClusterContext",
    "Coroot",
    "Flagd",
    "FlagdEvaluation",
    "InPod",
    "Kubeconfig",
    "Kubeconfigs",
    "LoadGenerator",
    "Prometheus",
    "Receive",
    "Reset",
    "Unmarked",
    "Via",
    "access_of",
    "stands_of",
)

_PANEL = "Cluster"


def _url(what: str, option: str) -> typer.models.OptionInfo:
    option_info: typer.models.OptionInfo = typer.Option(
        option, metavar="URL", help=f"Where {what} is. [default: by --via]", rich_help_panel=_PANEL
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
Kubeconfigs = Annotated[
    list[str] | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE[,KEY=VALUE...]",
        help="A cluster to play on; again for each further one. What differs between them follows the file, with the names of the "
        "options below: stand.kubeconfig,context=two,prometheus=http://10.0.0.7:9090,receive=0.0.0.0:4318.",
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
Prometheus = Annotated[str, _url("Prometheus", "--prometheus")]
Coroot = Annotated[str, _url("Coroot", "--coroot")]
LoadGenerator = Annotated[str, _url("Locust", "--load-generator")]
Flagd = Annotated[str, _url("flagd-ui", "--flagd")]
FlagdEvaluation = Annotated[str, _url("flagd's OFREP", "--flagd-evaluation")]
Receive = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT",
        help="Take spans and logs here, where the stand's collector sends them. [default: they aren't collected, and the run says so]",
        rich_help_panel=_PANEL,
    ),
]


def access_of(
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
    receive: Receive = "",
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


def stands_of(**options: Any) -> tuple[ClusterAccess, ...]:
    """Return the clusters that options tell of: those of `access_of`, but for `kubeconfig`, which is several `FILE[,KEY=VALUE...]`.

    An option that is a text or a file tells of one cluster. Of several each says its own behind its file.

    Raises: UsageError: an option doesn't say whose it is, or there is no such key. What `access_of` raises.
    """
    kubeconfigs: list[str] = options.pop("kubeconfig", None) or []
    keys = {_spelt(parameter): parameter.name for parameter in _OF_ACCESS if parameter.default in ("", None)}
    keys = {key: name for key, name in keys.items() if name not in ("kubeconfig", "via")}
    given = [key for key, name in keys.items() if options.get(name)]
    if len(kubeconfigs) > 1 and given:
        raise UsageError(
            f"--{given[0]} is of one cluster, and there are {len(kubeconfigs)}\n"
            f"  say it where its cluster is named: --kubeconfig {kubeconfigs[0].partition(',')[0]},{given[0]}=..."
        )
    told = [_described(text, keys) for text in kubeconfigs] or [{"kubeconfig": None}]
    found = [access_of(**(options | own)) for own in told]
    return tuple(access for access in found if access is not None)


def _described(text: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return what is said of one cluster, by the names of `access_of`.

    Raises: UsageError: there is no such key.
    """
    file, *words = text.split(",")
    said: dict[str, Any] = {"kubeconfig": Path(file)}
    for word in words:
        key, separator, value = word.partition("=")
        if key not in keys or not separator or not value:
            raise UsageError(f"--kubeconfig {text}: {word!r} isn't KEY=VALUE of a cluster\n  {nearest(key, keys)}")
        is_file = next(parameter for parameter in _OF_ACCESS if parameter.name == keys[key]).default is None
        said[keys[key]] = Path(value) if is_file else value
    return said


def _spelt(parameter: inspect.Parameter) -> str:
    """Return how an option is written on the command line, without its dashes."""
    (option,) = parameter.annotation.__metadata__
    return str(next(iter(option.param_decls or ()), parameter.name.replace("_", "-"))).removeprefix("--")


_OF_ACCESS = tuple(inspect.signature(access_of, eval_str=True).parameters.values())
stands_of.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        if parameter.name != "kubeconfig"
        else inspect.Parameter("kubeconfig", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Kubeconfigs)
        for parameter in _OF_ACCESS
    ]
)
