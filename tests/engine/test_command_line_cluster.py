"""A cluster is named on the command line or not at all, and whoever names it half is told what is missing before anything begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import otel_control_gym as ocg
from otel_control_gym.engine.cluster_access import ClusterAccess, ReceiverFiles, listening_address
from otel_control_gym.engine.command_line.app import app
from otel_control_gym.engine.command_line.cluster_options import access_of, exposure, stands_of
from tests.kubeconfigs import written_kubeconfig


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    """Return a kubeconfig that leads to a server that isn't there."""
    return str(written_kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("run", "--prometheus", "http://p"),
            "--prometheus is for a cluster: say which, --kubeconfig FILE or --in-pod",
        ),
        (("run", "--context", "x"), "--context is for a cluster"),
        (("run", "--receive", "0.0.0.0:4318"), "--receive is for a cluster"),
        (("run", "--kubeconfig", "FILE", "--receive", "4318"), "'4318': an address to listen on is HOST:PORT"),
        (
            ("run", "--kubeconfig", "FILE", "--receive-token-file", "t"),
            "--receive-token-file guards an address: say which",
        ),
        (
            ("run", "--kubeconfig", "FILE", "--receive", "0.0.0.0:4318", "--receive-token-file", "t"),
            "--receive-token-file without --receive-certificate and --receive-key: TLS and a token guard an address together",
        ),
        (
            (
                *("env", "serve", "--kubeconfig", "FILE", "--receive", "0.0.0.0:4318"),
                *("--receive-certificate", "/no/c", "--receive-key", "k", "--receive-token-file", "t"),
            ),
            "/no/c: can't be read",
        ),
        (
            ("run", "--kubeconfig", "FILE", "--receive", "0.0.0.0:4318"),
            "--receive-certificate, --receive-key and --receive",
        ),
        (("run", "--kubeconfig", "FILE", "--in-pod"), "--in-pod is the cluster around this pod"),
        (("run", "--kubeconfig", "FILE", "--pace", "2"), "pace = 2: a cluster lives by its own clock"),
        (("run", "--kubeconfig", "FILE", "--context", "y"), "contexts has no 'y'"),
        (("run", "--kubeconfig", "FILE"), "can't be told: no answer"),
        (("stand", "reset"), "which stand? --kubeconfig FILE leads to one, --in-pod is the one around this pod"),
        (("stand", "reset", "--kubeconfig", "FILE"), "can't be told: no answer"),
        (
            ("env", "serve", "--kubeconfig", "FILE", "--sessions", "2"),
            "a cluster is driven by one environment at a time",
        ),
        (("worker", "--context", "x"), "--context is for a cluster: say which, --kubeconfig FILE or --in-pod"),
        (("campaign", "run", "cluster"), "campaign 'cluster' is for clusters: which?"),
        (("campaign", "run", "cluster", "--kubeconfig", "FILE,prom=1"), "'prom=1' isn't KEY=VALUE of a cluster"),
        (("campaign", "run", "cluster", "--kubeconfig", "FILE,x=1"), "receive-token-file"),  # as its option is spelt
        (("campaign", "run", "cluster", "--kubeconfig", "FILE,context=y"), "contexts has no 'y'"),
        (("campaign", "run", "cluster", "--kubeconfig", "FILE", "--in-pod"), "--in-pod is the cluster around this pod"),
        (("campaign", "run", "cluster", "--kubeconfig", "FILE", "--workers", "2"), "there is one worker on each"),
        (
            ("campaign", "run", "cluster", "--kubeconfig", "FILE", "--kubeconfig", "FILE", "--receive", "0.0.0.0:4318"),
            "--receive is of one cluster, and there are 2",
        ),
    ],
)
def test_half_a_cluster_is_refused_with_what_is_missing(
    arguments: tuple[str, ...], sentence: str, kubeconfig: str, tmp_path: Path
) -> None:
    words = [word.replace("FILE", kubeconfig) for word in arguments]
    told = CliRunner().invoke(app, [*words, "--data-dir", str(tmp_path / "data")])
    assert told.exit_code == 2
    assert sentence in told.stderr.replace("\n", " ")


def test_a_kubeconfig_of_the_shell_is_nobody_s_wish(kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    assert access_of() is None
    told = CliRunner().invoke(app, ["stand", "reset"])
    assert "which stand?" in told.stderr


def test_a_pod_reaches_services_by_their_names_and_others_by_the_proxy() -> None:
    inside, outside = access_of(in_pod=True), access_of(Path("k"))
    assert inside is not None
    assert outside is not None
    assert (inside.kubeconfig, inside.way, outside.way) == (None, "dns", "proxy")


def test_an_address_that_others_reach_is_warned_of_unless_it_is_guarded_or_in_a_pod() -> None:
    files = ReceiverFiles(certificate=Path("c"), key=Path("k"), token=Path("t"))
    for receive, in_pod, guard, exposed in (
        ("", False, None, False),
        ("127.0.0.1:4318", False, None, False),
        ("[::1]:4318", False, None, False),
        ("0.0.0.0:4318", False, None, True),
        ("192.168.1.7:4318", False, None, True),
        ("192.168.1.7:4318", False, files, False),
        ("0.0.0.0:4318", True, None, False),
    ):
        access = ClusterAccess(kubeconfig=None if in_pod else Path("k"), receive=receive, receive_guard=guard)
        assert bool(exposure(access)) == exposed, receive


def test_of_several_clusters_each_says_its_own_and_all_take_what_is_for_all() -> None:
    one, two = stands_of(kubeconfig=["a,context=x,flagd-evaluation=http://f/", "b,receive=0.0.0.0:1234"], via="dns")
    assert (one.kubeconfig, one.context, one.flagd_evaluation, one.receive) == (Path("a"), "x", "http://f", "")
    assert (two.kubeconfig, two.context, two.receive) == (Path("b"), "", "0.0.0.0:1234")
    assert (one.way, two.way) == ("dns", "dns")
    (alone,) = stands_of(kubeconfig=["a"], context="x")
    assert alone.context == "x"
    assert stands_of() == ()


def test_an_address_to_listen_on_has_a_host_and_a_port() -> None:
    assert listening_address("0.0.0.0:4318") == ("0.0.0.0", 4318)
    assert listening_address("[::1]:4318") == ("::1", 4318)
    for text in ("", "4318", "host:", "host:1", "host:70000", "host:http"):
        with pytest.raises(ocg.UsageError, match="HOST:PORT"):
            listening_address(text)


def test_no_file_may_name_a_kubeconfig(kubeconfig: str, tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    for key in ("kubeconfig", "context", "stand", "cluster"):
        file.write_text(f"name: mine\nservices: small-core\n{key}: {kubeconfig}\n")
        with pytest.raises(ocg.ConfigurationError, match="unknown key"):
            ocg.resolve(str(file))
