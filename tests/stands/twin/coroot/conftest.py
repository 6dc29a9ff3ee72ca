"""Series, clusters and histories made by hand, so that a test says exactly what a detector sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.coroot.cluster import Cluster, Instance, Node, Workload
from otel_control_gym.stands.twin.coroot.history import History
from otel_control_gym.stands.twin.time_series import TimeSeries

START = 1_767_571_200 * SECOND
POINT = 15 * SECOND
SHOP = ("frontend", "cart", "store")


def cluster(
    *, running: Sequence[str] = SHOP, rolling: Sequence[str] = (), oom: Mapping[str, str] | None = None
) -> Cluster:
    """Return a node with a pod `<name>-1` of each service of the shop."""
    return Cluster(
        namespace="shop",
        workloads=tuple(
            Workload(name=name, runtime="go", version="1", desired=1, available=1, rolling=name in rolling)
            for name in SHOP
        ),
        instances=tuple(
            Instance(
                name=f"{name}-1",
                workload=name,
                node="node",
                running=name in running,
                oom_killed=(oom or {}).get(name, ""),
            )
            for name in SHOP
        ),
        nodes=(Node(name="node", cores=4.0, memory_bytes=2**33, kernel="6"),),
    )


class Series:
    """A `TimeSeries` to which samples are written by label."""

    def __init__(self) -> None:
        self.stored = TimeSeries()
        self._numbers: dict[tuple[tuple[str, str], ...], int] = {}

    def scrape(self, seconds: int, *samples: tuple[Mapping[str, str], float]) -> None:
        """Store one scrape, `seconds` after the start."""
        for labels, _ in samples:
            key = tuple(sorted(labels.items()))
            if key not in self._numbers:
                self._numbers[key] = self.stored.declare(labels)
        numbers = np.array([self._numbers[tuple(sorted(labels.items()))] for labels, _ in samples], np.int64)
        self.stored.append(START + seconds * SECOND, numbers, np.array([value for _, value in samples]))


class MakeHistory(Protocol):
    """Makes a history of one application's requests."""

    def __call__(self, *phases: tuple[int, float, float, float]) -> History[str]: ...


@pytest.fixture
def requests() -> MakeHistory:
    """Return a maker of histories: phases of (points, requests, failed, slow) per point; NaN requests: nothing is known."""

    def make(*phases: tuple[int, float, float, float]) -> History[str]:
        history = History[str](5, 1440)
        point = 0
        for points, *quantities in phases:
            block = np.full((1, 5, points), np.nan)
            block[0, :3] = np.array(quantities)[:, None]
            history.append([START + (point + step + 1) * POINT for step in range(points)], ["frontend"], block)
            point += points
        return history

    return make
