"""Probes of a cluster: what a doctor can't tell by looking is tried, taken back, and said.

`probe` holds the stand, as an episode would, and does what there is to do: `span_path` sends one span round the whole path, `delays` puts a
delay on one edge through the actuators that episodes use and measures it by `edge_latency`, `effects` says what the figures mean. What can
be looked at without touching anything is `stands.cluster.doctor`'s.
"""

from __future__ import annotations

from otel_control_gym.engine.probing.probe import Probe, probe

__all__ = ("Probe", "probe")
