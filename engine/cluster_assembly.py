"""What of a cluster takes more than one room: its stand needs the actuators' janitor to be brought back, and rooms don't know each other.

In: how a cluster is reached. Out: a stand, or one that was reset. `engine.assembly` is the rest of the composition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.engine.settings import RunConfig

if TYPE_CHECKING:
    from otel_control_gym.stands.cluster.known_state import Reset
    from otel_control_gym.stands.cluster.stand import ClusterStand

__all__ = ("cluster_stand", "reset_cluster", "stand_name")


def cluster_stand(access: ClusterAccess) -> ClusterStand:
    """Return a cluster as a stand.

    Raises: UsageError: the kubeconfig leads nowhere.
    """
    from otel_control_gym.stands.cluster.stand import ClusterStand

    return ClusterStand(access, _remove_chaos)


def stand_name(access: ClusterAccess) -> str:
    """Return what a cluster is called in records and leases: its API server and namespace; no cluster is asked.

    Raises: UsageError: the kubeconfig leads nowhere.
    """
    name = cluster_stand(access).lease_name
    assert name is not None, "a cluster outlives its process"
    return name


async def reset_cluster(access: ClusterAccess, config: RunConfig, *, adopt: bool = False) -> Reset:
    """Bring a cluster to its known state, outside of any run; `adopt`: take what is there as what is wanted.

    Raises:
        UsageError: the kubeconfig leads nowhere.
        StandError: it can't be brought there, and why. StandTaken: an environment drives it.
    """
    stand = cluster_stand(access)
    async with stand.open():
        return await stand.restore(config, adopt=adopt)


async def _remove_chaos(endpoints: Endpoints) -> tuple[str, ...]:
    """Remove the gym's chaos objects from a stand that outlives it; return what is left, which should be nothing."""
    from otel_control_gym.actuators.janitor import open_janitor
    from otel_control_gym.actuators.transport import CallError

    try:
        async with open_janitor(endpoints, anyio.sleep) as janitor:
            return (await janitor.clean([])).problems
    except CallError as error:
        raise StandError(f"whether chaos objects are left can't be told: {error}") from error
