"""Is this cluster a stand on which episodes can run? Every answer with its remedy.

In: where the stand is, what is wanted of it. Out: a `Diagnosis`. Nothing is changed, and nothing raises: what can't be seen is a finding,
too. If the API server doesn't answer, nothing else is looked at.

What can't be seen by looking is `engine.probing`'s: whether a span gets from a program to where the gym reads spans, and whether a delay
that Chaos Mesh says it made is really there.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator

import anyio.to_thread
import msgspec

from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.engine.settings import RunSettings
from otel_control_gym.stands.cluster import control_checks, telemetry_checks
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.control_checks import Access
from otel_control_gym.stands.cluster.fault_checks import faults
from otel_control_gym.stands.cluster.findings import Diagnosis, Finding, fine, warning
from otel_control_gym.stands.cluster.node_checks import nodes
from otel_control_gym.stands.cluster.pins import Pins, minor_version
from otel_control_gym.stands.cluster.workload_checks import application, autoscaling

__all__ = ("Wanted", "diagnose", "examine")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a stand is to be good for."""

    settings: RunSettings  #: the application, its metric map, the bucket
    pins: Pins
    operating: tuple[Access, ...]  #: what the gym's account needs
    informing: tuple[Access, ...]  #: what it needs besides, to tell what an episode runs on
    installing: tuple[Access, ...]  #: what whoever installs a stand needs
    safekeeping: str = "ocg-system"  #: namespace of Leases and inverses


async def diagnose(endpoints: Endpoints, wanted: Wanted) -> Diagnosis:
    """Look at a stand."""
    async with Connection(endpoints) as connection:
        return await examine(connection, wanted)


async def examine(connection: Connection, wanted: Wanted) -> Diagnosis:
    """Look at a stand through a connection that is open."""
    return Diagnosis(findings=tuple([finding async for finding in _findings(connection, wanted)]))


async def _findings(connection: Connection, wanted: Wanted) -> AsyncIterator[Finding]:
    settings = wanted.settings
    first = await control_checks.version(connection, wanted.pins.kubernetes.oldest)
    yield first
    if first.status == "failed":
        return
    yield await control_checks.mark(connection)
    yield await control_checks.permissions(
        connection,
        "operating",
        wanted.operating,
        "kubectl apply -f deploy/stand/rbac.yaml, and use that account",
        needed=True,
    )
    yield await control_checks.permissions(
        connection,
        "informing",
        wanted.informing,
        "episodes run without, and don't tell of nodes, of the chaos daemon or of Coroot: kubectl apply -f deploy/stand/rbac.yaml",
        needed=False,
    )
    yield await control_checks.permissions(
        connection,
        "installing",
        wanted.installing,
        "episodes run without; `helm install` needs an administrator",
        needed=False,
    )
    async for finding in nodes(connection, settings.services):
        yield finding
    async for finding in application(connection, settings.services.services):
        yield finding
    async for finding in autoscaling(connection):
        yield finding
    async for finding in faults(connection):
        yield finding
    yield await control_checks.safekeeping(connection, wanted.safekeeping)
    async for finding in telemetry_checks.metrics(connection, settings.metrics):
        yield finding
    yield await telemetry_checks.clocks(connection, settings.granularity.observation_bucket_seconds)
    yield await telemetry_checks.load_generator(connection)
    yield await telemetry_checks.flags(connection)
    yield await telemetry_checks.coroot(connection)
    yield await anyio.to_thread.run_sync(_helm, wanted.pins.helm.oldest)


def _helm(oldest: str) -> Finding:
    """Look for the program that installs charts; blocking."""
    check, program = "helm", shutil.which("helm")
    need = f"version {oldest} or newer installs a stand; episodes don't need it"
    if program is None:
        return warning(check, "isn't on the PATH", need)
    done = subprocess.run([program, "version", "--short"], capture_output=True, text=True, check=False, timeout=30)
    numbers = minor_version(done.stdout.strip())
    found = done.stdout.strip() or done.stderr.strip()
    if numbers is None or numbers < (minor_version(oldest) or (0, 0)):
        return warning(check, f"{program} is {found}", need)
    return fine(check, f"{found} at {program}")
