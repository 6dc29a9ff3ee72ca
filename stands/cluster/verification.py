"""What is looked at once a stand was restored: equal objects prove nothing about state.

In: a connection to a restored stand under the load with which the run begins, its baseline. Out: a `Verification` that says what was
seen, and the baseline, with a band for this load if it had none. What isn't so in time is an error.

1. No pod has a network rule of Chaos Mesh left (`network_rules`).
2. Kafka's consumers have caught up, where the configuration has some (`consumer_lag`).
3. Error rate and latency lie in the stand's band for a minute (`band`, `calibration`).

Two and three are measured by Prometheus, and counted in its time.
"""

from __future__ import annotations

import logging

import msgspec

from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.cluster.availability import Patience
from otel_control_gym.stands.cluster.band import Band, load_of
from otel_control_gym.stands.cluster.baseline import Baseline
from otel_control_gym.stands.cluster.calibration import measured_band, wait_in_band
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.consumer_lag import wait_consumed
from otel_control_gym.stands.cluster.network_rules import wait_no_rules
from otel_control_gym.stands.cluster.service_levels import Level
from otel_control_gym.stands.cluster.stand_time import wait_until

__all__ = ("Verification", "verify")

_LOGGER = logging.getLogger(__name__)


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a restored stand."""

    pod_networks: int | None = None  #: PodNetworkChaos, all without a rule; null: the cluster has no such kind
    consumer_lag: dict[str, int] = {}  #: `group of topic` -> messages, when all had caught up; empty: there is no topic
    load: str = ""  #: for which the band is
    band: Band | None = None  #: null: nobody asked for it
    band_measured: bool = False  #: there was none for this load: what was seen now became it
    levels: tuple[Level, ...] = ()  #: of windows of 20 s in a row that lay in it

    def facts(self) -> dict[str, str]:
        """Return what was seen, by names that the metadata of a run has for it."""
        lag = ", ".join(f"{group} {messages}" for group, messages in self.consumer_lag.items())
        networks = self.pod_networks
        return {
            "reset_pod_networks": "no such kind" if networks is None else f"{networks}, none with a rule",
            "reset_consumer_lag": lag or "no topic",
            "reset_load": self.load,
            "reset_band": "not looked at" if self.band is None else str(self.band),
            "reset_band_basis": "" if self.band is None else "measured now" if self.band_measured else "kept",
            "reset_levels": "; ".join(str(level) for level in self.levels),
        }

    def lines(self) -> list[str]:
        """Return what was seen, as it is told to whoever asked for a reset."""
        found = [] if self.pod_networks is None else [f"pod networks: {self.pod_networks}, none with a rule"]
        found += [f"lag: {group} {messages}, nothing old in it" for group, messages in self.consumer_lag.items()]
        if self.band is None:
            return [*found, "error rate and latency: not looked at"]
        basis = "there was none for this load: measured now" if self.band_measured else "kept"
        found.append(f"band ({basis}): {self.band}")
        return [*found, *(f"in the band: {level}" for level in self.levels)]


async def verify(
    connection: Connection, config: RunConfig, baseline: Baseline, *, hold_seconds: float, patience: Patience
) -> tuple[Verification, Baseline]:
    """Return what was seen of a restored stand, and its baseline, with a band for this load.

    Args:
        hold_seconds: how long error rate and latency are to lie in the band; 0: they aren't looked at.

    Raises: StandError: something isn't so in time, and what was seen instead.
    """
    pod_networks = await wait_no_rules(connection, patience)
    lag: dict[str, int] = {}
    if config.public.services.topics:
        since = await wait_until(connection, look_seconds=patience.look_seconds)
        lag = await wait_consumed(connection, config, since, patience)
    load = load_of(config)
    if hold_seconds <= 0:
        return Verification(pod_networks=pod_networks, consumer_lag=lag, load=load), baseline
    known = baseline.bands.get(load)
    if known is None:
        _LOGGER.warning("the stand has no band for %s yet: it is measured now", load)
    band = known or await measured_band(connection, config, patience)
    levels = await wait_in_band(connection, config, band, hold_seconds, patience)
    seen = Verification(
        pod_networks=pod_networks,
        consumer_lag=lag,
        load=load,
        band=band,
        band_measured=known is None,
        levels=levels,
    )
    return seen, msgspec.structs.replace(baseline, bands={**baseline.bands, load: band})
