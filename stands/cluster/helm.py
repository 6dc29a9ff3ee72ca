"""The `helm` program: which releases are there, install one, remove one, fetch a chart.

In: words for its command line. Out: what it says, read. Everything by its command line and not by a library, because charts are programs in
Helm's own template language, and because what is done can then be done by hand, too: each command is told before it runs.

Helm's own `--wait` isn't used for installing: it says nothing while it waits, and afterwards that it waited. `readiness` says why.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from otel_control_gym.engine.errors import StandError, UsageError
from otel_control_gym.stands.cluster.pins import Chart, Program, minor_version

__all__ = ("Helm", "InstalledRelease", "open_helm")

_WHERE = "https://helm.sh/docs/intro/install/"
_SECONDS = "10m"
#: Every status in which something of a release may be there; Helm 3 lists the first two by itself, Helm 4 others.
_STATUSES = ("--deployed", "--failed", "--pending", "--uninstalling")


class InstalledRelease(msgspec.Struct, frozen=True, kw_only=True):
    """A release as `helm list` tells it."""

    name: str
    namespace: str
    chart: str  #: name and version, joined by a hyphen
    status: str
    app_version: str = ""

    @property
    def pending(self) -> bool:
        """Return whether somebody is at work on it, or was interrupted: Helm refuses to go on from there."""
        return self.status.startswith("pending") or self.status == "uninstalling"


class _Revision(msgspec.Struct):
    status: str
    description: str = ""


class Helm:
    """Runs a `helm` program against one context of one kubeconfig."""

    def __init__(
        self, program: str, *, kubeconfig: Path, context: str = "", tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self.program = program
        self._cluster = ["--kubeconfig", str(kubeconfig), *(["--kube-context", context] if context else [])]
        self._tell = tell

    async def releases(self) -> tuple[InstalledRelease, ...]:
        """Return the releases of all namespaces, whatever became of them.

        Raises: StandError: helm can't tell.
        """
        said = await self._run("list", "--all-namespaces", *_STATUSES, "--output", "json", *self._cluster)
        try:
            return tuple(msgspec.json.decode(said or b"[]", type=list[InstalledRelease]))
        except msgspec.DecodeError as error:
            raise StandError(f"{self.program} list: answers what can't be read: {error}") from error

    async def install(
        self, name: str, archive: Path, *, namespace: str, values: Sequence[Path], checked: bool = True
    ) -> None:
        """Install a chart, or bring a release of it to these values; `checked`: against the chart's schema.

        One that has been installed from the same archive and values is left alone: an upgrade would make Chaos Mesh new certificates, for
        which its pods are replaced, and set every Deployment's replicas back in the middle of somebody's run.

        Raises: StandError: helm refused.
        """
        digest = await anyio.to_thread.run_sync(_digest, (archive, *values))
        if digest in await self._last(name, namespace):
            self._tell(f"{name} is installed from the same chart and values")
            return
        files = [word for path in values for word in ("--values", str(path))]
        skipped = [] if checked else ["--skip-schema-validation"]
        words = ["upgrade", "--install", name, str(archive), "--namespace", namespace, *skipped, *files]
        self._tell(f"helm {' '.join(words)}")
        await self._run(*words, "--description", f"ocg {digest}", "--timeout", _SECONDS, *self._cluster)

    async def _last(self, name: str, namespace: str) -> str:
        """Return the description of a release's last revision; empty: it has none that came to its end."""
        if not any((item.name, item.namespace) == (name, namespace) for item in await self.releases()):
            return ""
        words = ["history", name, "--namespace", namespace, "--max", "1", "--output", "json"]
        try:
            last = msgspec.json.decode(await self._run(*words, *self._cluster), type=list[_Revision])[-1]
        except (msgspec.DecodeError, IndexError):
            return ""
        return last.description if last.status == "deployed" else ""

    async def uninstall(self, name: str, *, namespace: str) -> None:
        """Remove a release and wait until its objects are gone; one that isn't there is no error.

        Raises: StandError: helm refused.
        """
        words = ["uninstall", name, "--namespace", namespace, "--ignore-not-found", "--wait"]
        self._tell(f"helm {' '.join(words)}")
        await self._run(*words, "--timeout", _SECONDS, *self._cluster)

    async def fetch(self, name: str, chart: Chart, directory: Path) -> Path:
        """Return a chart's archive in a directory, from there or else from its repository.

        Raises:
            StandError: helm can't get it.
            UsageError: it isn't the one that is pinned.
        """
        archive = directory / f"{name}-{chart.version}.tgz"
        if not archive.exists():
            words = ["pull", name, "--repo", chart.repository, "--version", chart.version]
            self._tell(f"helm {' '.join(words)}")
            await self._run(*words, "--destination", str(directory))
        try:
            found = hashlib.sha256(await anyio.Path(archive).read_bytes()).hexdigest()
        except OSError as error:
            raise StandError(f"{archive}: helm said that it is there, and it can't be read: {error}") from error
        if chart.digest and found != chart.digest:
            raise UsageError(
                f"{archive}: isn't the chart that is pinned: SHA-256 {found}, pins.yaml says {chart.digest}\n"
                f"  delete it, and get it from {chart.repository}"
            )
        return archive

    async def _run(self, *words: str) -> bytes:
        done = await anyio.run_process([self.program, *words], check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
            raise StandError(f"{self.program} {words[0]}: " + ("\n  ".join(said[-5:]) or f"ended by {done.returncode}"))
        return done.stdout


def _digest(files: Iterable[Path]) -> str:
    """Return a digest of what files hold, in their order."""
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()[:16]


async def open_helm(
    wanted: Program, *, kubeconfig: Path, context: str = "", tell: Callable[[str], None] = lambda _: None
) -> Helm:
    """Return the `helm` of the PATH, if it is new enough.

    Raises: UsageError: there is none, or it is too old.
    """
    program = shutil.which("helm")
    if program is None:
        raise UsageError(
            f"no helm is on the PATH, and a stand is installed by it: get version {wanted.oldest} or newer from {_WHERE}"
        )
    done = await anyio.run_process([program, "version", "--short"], check=False, env=dict(os.environ))
    said = done.stdout.decode(errors="replace").strip()
    found = minor_version(said)
    if found is None or found < (minor_version(wanted.oldest) or (0, 0)):
        raise UsageError(
            f"{program} is {said or 'of no version that it tells'}: the demo's probes need {wanted.oldest} or newer, from {_WHERE}"
        )
    return Helm(program, kubeconfig=kubeconfig, context=context, tell=tell)
