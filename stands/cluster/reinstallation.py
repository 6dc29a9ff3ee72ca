"""A stand ➜ the same stand, from nothing: the third level of a reset, after which nothing of what runs did to it is left.

In: an administrator's connection, a `helm`, what stand is wanted. Out: the state of each part, all of them ready.

A run can't do this: it takes the installer's rights, `helm`, and whatever `ocg stand up` was told. What would leave a cluster without a
stand is looked at before the old one goes: the permissions, and that every chart is at hand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from otel_control_gym.engine.errors import StandError
from otel_control_gym.stands.cluster.administration import Administrator
from otel_control_gym.stands.cluster.helm import Helm
from otel_control_gym.stands.cluster.inspection import PartState
from otel_control_gym.stands.cluster.installation import ADOPTED, Wish, check_cluster, install
from otel_control_gym.stands.cluster.parts import NAMESPACES, releases
from otel_control_gym.stands.cluster.removal import remove

__all__ = ("reinstall",)


async def reinstall(
    administrator: Administrator,
    helm: Helm,
    wish: Wish,
    tell: Callable[[str], None],
    *,
    unmarked: bool = False,
    driven: bool = False,
) -> tuple[PartState, ...]:
    """Remove a stand and install it again; return the state of each part.

    Args:
        wish: what is wanted; a namespace that was adopted by the old stand is adopted by the new one.
        tell: gets lines of progress.
        unmarked: although its namespace isn't marked as a stand.
        driven: although an environment drives it.

    Raises:
        StandError: the cluster can't be reached or refuses a step, something of the old stand stays, or the new one doesn't get ready.
        StandTaken: an environment drives it.
        UsageError: the namespace isn't a stand's, permissions are missing, or a chart isn't the pinned one.
    """
    nodes = await check_cluster(administrator, wish)
    with tempfile.TemporaryDirectory() as folder:
        charts = wish.charts or Path(folder)
        for release in releases(wish.config, nodes):
            await helm.fetch(release.chart, wish.pins.charts[release.chart], charts)
        adopted = await _is_adopted(administrator)
        left = await remove(administrator, helm, tell, unmarked=unmarked, driven=driven)
        if left:
            raise StandError(
                f"not all of the old stand is gone, so no new one is installed: {', '.join(left)}\n  ocg stand down goes on"
            )
        again = msgspec.structs.replace(wish, charts=charts, adopt=wish.adopt or adopted)
        states = await install(administrator, helm, again, tell)
    hanging = [f"{state.namespace} ({state.ready} of {state.wanted} ready)" for state in states if not state.complete]
    if hanging:
        raise StandError(
            f"the new stand isn't ready after {wish.patience_seconds / 60:g} minutes: {', '.join(hanging)}\n"
            "  ocg stand up goes on with it and says why, ocg stand reset then brings it to its known state"
        )
    return states


async def _is_adopted(administrator: Administrator) -> bool:
    """Return whether any of a stand's namespaces was there before it."""
    found = [await administrator.kubernetes("GET", f"api/v1/namespaces/{name}") for name in NAMESPACES]
    return any(ADOPTED in (answer.find("metadata", "labels") or {}) for answer in found)
