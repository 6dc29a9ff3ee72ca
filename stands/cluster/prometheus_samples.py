"""Samples of a stand's Prometheus, by selectors: what a series showed at a moment, or in the time before it.

No functions of PromQL: a rate's extrapolation and a quantile's silence about how few observations it has can't be undone afterwards. What
is a counter's growth and what a histogram's quantile is worked out here, as the tables do it.
"""

from __future__ import annotations

from typing import Any

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import StandError
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.services import PROMETHEUS

__all__ = ("Labels", "instant", "recent")

Labels = dict[str, str]


async def instant(connection: Connection, selector: str, at: int) -> list[tuple[Labels, float]]:
    """Return each series' newest sample at a moment [ns].

    Raises: StandError: Prometheus doesn't answer, or not so.
    """
    return [(item["metric"], float(item["value"][1])) for item in await _asked(connection, selector, at)]


async def recent(
    connection: Connection, selector: str, seconds: int, at: int
) -> list[tuple[Labels, list[tuple[int, float]]]]:
    """Return each series' samples (time [ns], value) of the last seconds before a moment [ns], the oldest first.

    Raises: StandError: Prometheus doesn't answer, or not so.
    """
    items = await _asked(connection, f"{selector}[{seconds}s]", at)
    return [
        (item["metric"], [(round(float(time) * SECOND), float(value)) for time, value in item.get("values") or ()])
        for item in items
    ]


async def _asked(connection: Connection, query: str, at: int) -> list[dict[str, Any]]:
    url, asked = connection.endpoints.prometheus, {"query": query, "time": f"{at / SECOND:.3f}"}
    answer = await connection.service(url, PROMETHEUS, "api/v1/query", query=asked)
    result = answer.find("data", "result")
    if not answer.ok or not isinstance(result, list):
        raise StandError(
            f"{url}: Prometheus can't be asked for {query}: {answer.problem or 'its answer has no result'}"
        )
    return result
