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

from otel_control_gym.engine.cluster_access import ClusterAccess, ReceiverFiles, ResetLevel, Way, listening_address
from otel_control_gym.engine.errors import UsageError, nearest

__all__ = (
    "OF_SPANS_AND_LOGS",
    "ClusterContext",
    "Coroot",
    "Flagd",
    "FlagdEvaluation",
    "Hold",
    "InPod",
    "Jaeger",
    "Kubeconfig",
    "Kubeconfigs",
    "LoadGenerator",
    "Prometheus",
    "Receive",
    "ReceiveCertificate",
    "ReceiveKey",
    "ReceiveToken",
    "Reset",
    "Unmarked",
    "Via",
    "access_of",
    "exposure",
    "stands_of",
    "url_option",
)

_PANEL = "Cluster"
OF_SPANS_AND_LOGS = ("jaeger", "receive", "receive_certificate", "receive_key", "receive_token")
"""Parameters of `access_of` that a command has no use for which collects neither."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def url_option(what: str, option: str, *, panel: str = _PANEL) -> typer.models.OptionInfo:
    """Return an option that says where a service of the stand is."""
    option_info: typer.models.OptionInfo = typer.Option(
        option, metavar="URL", help=f"Where {what} is. [default: by --via]", rich_help_panel=panel
    )
    return option_info


def _file(what: str, told: str) -> typer.models.OptionInfo:
    option_info: typer.models.OptionInfo = typer.Option(
        f"--receive-{what}", metavar="FILE", help=told, rich_help_panel=_PANEL
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
Hold = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="How long error rate and latency have to lie in the stand's band after the reset; 0: don't look.",
        rich_help_panel=_PANEL,
    ),
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
Jaeger = Annotated[str, url_option("Jaeger", "--jaeger")]
LoadGenerator = Annotated[str, url_option("Locust", "--load-generator")]
Flagd = Annotated[str, url_option("flagd-ui", "--flagd")]
FlagdEvaluation = Annotated[str, url_option("flagd's OFREP", "--flagd-evaluation")]
Receive = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT",
        help="Take spans and logs here, where the stand's collector sends them. [default: they are read from Jaeger and pods]",
        rich_help_panel=_PANEL,
    ),
]
ReceiveCertificate = Annotated[Path | None, _file("certificate", "TLS certificate (PEM) of --receive.")]
ReceiveKey = Annotated[Path | None, _file("key", "Its key (PEM, without a password).")]
ReceiveToken = Annotated[
    Path | None,
    _file("token-file", "Holds the token that whoever sends to --receive has to show: Authorization: Bearer."),
]


def access_of(
    kubeconfig: Kubeconfig = None,
    in_pod: InPod = False,
    context: ClusterContext = "",
    unmarked: Unmarked = False,
    reset: Reset = "soft",
    hold: Hold = 60.0,
    via: Via = None,
    prometheus: Prometheus = "",
    coroot: Coroot = "",
    jaeger: Jaeger = "",
    load_generator: LoadGenerator = "",
    flagd: Flagd = "",
    flagd_evaluation: FlagdEvaluation = "",
    receive: Receive = "",
    receive_certificate: ReceiveCertificate = None,
    receive_key: ReceiveKey = None,
    receive_token: ReceiveToken = None,
) -> ClusterAccess | None:
    """Return the cluster that options tell of; None: none.

    Raises: UsageError: they tell of one without saying which, guard half an address, or name files that can't be read.
    """
    urls = {
        "prometheus": prometheus,
        "coroot": coroot,
        "jaeger": jaeger,
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
    guard = _guard(receive, receive_certificate, receive_key, receive_token)
    return ClusterAccess(
        kubeconfig=kubeconfig,
        context=context,
        unmarked=unmarked,
        reset=reset,
        hold_seconds=hold,
        way=via or ("dns" if in_pod else "proxy"),
        receive=receive,
        receive_guard=guard,
        **{name: url.rstrip("/") for name, url in urls.items()},
    )


def exposure(access: ClusterAccess | None) -> str:
    """Return what is to be said of an address that others reach and nothing guards; empty: there is none.

    In a pod it isn't one: the network policies of `deploy/stand/` let nobody but the collector through.
    """
    if access is None or not access.receive or access.receive_guard is not None or access.kubeconfig is None:
        return ""
    host, _ = listening_address(access.receive)
    if host in _LOOPBACK:
        return ""
    return (
        f"{access.receive}: whoever reaches this machine can send spans and logs into the run, and what comes can be read on its way\n"
        "  --receive-certificate, --receive-key and --receive-token-file guard it"
    )


def _guard(receive: str, certificate: Path | None, key: Path | None, token: Path | None) -> ReceiverFiles | None:
    """Return what guards the address, all of it or nothing: a token in the clear is anybody's, TLS alone lets everybody in."""
    files = {"--receive-certificate": certificate, "--receive-key": key, "--receive-token-file": token}
    given = [name for name, file in files.items() if file is not None]
    if not receive:
        if given:
            raise UsageError(f"{given[0]} guards an address: say which, --receive HOST:PORT")
        return None
    listening_address(receive)
    if certificate is not None and key is not None and token is not None:
        from otel_control_gym.collectors.otlp_guard import read_guard

        found = ReceiverFiles(certificate=certificate, key=key, token=token)
        read_guard(found)  # before anything is started: it may be unreadable
        return found
    if given:
        missing = " and ".join(name for name, file in files.items() if file is None)
        raise UsageError(f"{', '.join(given)} without {missing}: TLS and a token guard an address together")
    return None


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
    # In an annotation typer keeps the first name that is given where a default would be.
    names = [name for name in (option.default, *(option.param_decls or ())) if isinstance(name, str)]
    return next(iter(names), f"--{parameter.name.replace('_', '-')}").removeprefix("--")


_OF_ACCESS = tuple(inspect.signature(access_of, eval_str=True).parameters.values())
stands_of.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        if parameter.name != "kubeconfig"
        else inspect.Parameter("kubeconfig", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Kubeconfigs)
        for parameter in _OF_ACCESS
    ]
)
