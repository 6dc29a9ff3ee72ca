"""What a doctor looks at by the stand's own services: is everything measured that tables are made of, and do the clocks agree?

In: a connection, a metric map. Out: findings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.metric_selectors import metric_names
from otel_control_gym.engine.settings import FeatureSource, MetricMap
from otel_control_gym.stands.cluster.clock_offset import prometheus_offset, prometheus_time, server_offset
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.findings import Finding, failed, fine, unknown, warning
from otel_control_gym.stands.cluster.services import COROOT, COROOT_NAMESPACE, FLAGD_UI, LOAD_GENERATOR, PROMETHEUS

__all__ = ("clocks", "coroot", "flags", "load_generator", "metrics")

_NOT_FOUND = 404


async def metrics(connection: Connection, metric_map: MetricMap) -> AsyncIterator[Finding]:
    """Look which quantities of the tables Prometheus has no series for: none that had a sample within its lookback of five minutes.

    Names alone would tell of whatever was scraped within hours.
    """
    check, url = "Prometheus", connection.endpoints.prometheus
    now, clock = await prometheus_time(connection)
    if now is None:
        yield failed(
            check,
            f"doesn't say what time it is: {clock.problem or clock.body}",
            "is it up? --prometheus URL names another",
        )
        return
    quantities = {
        f"{table}.{quantity}": sources
        for table in ("node", "edge")
        for quantity, sources in metric_map.sources(table).items()
    }
    wanted = dict.fromkeys(name for sources in quantities.values() for source in sources for name in _witnesses(source))
    query = {"query": f'{{__name__=~"{"|".join(wanted)}"}}', "time": f"{now / SECOND:.3f}"}
    answer = await connection.service(url, PROMETHEUS, "api/v1/query", query=query)
    series = answer.find("data", "result")
    if not answer.ok or not isinstance(series, list):
        yield failed(check, f"doesn't say which series it has: {answer.problem}", "is this a Prometheus?")
        return
    there = frozenset(str(item["metric"]["__name__"]) for item in series)
    missing = [
        quantity
        for quantity, sources in quantities.items()
        if not any(all(name in there for name in _witnesses(source)) for source in sources)
    ]
    remedy = "the demo's own values lack some: install with deploy/helm/demo.yaml; others come with traffic"
    if len(missing) == len(quantities):
        yield failed(check, f"has no series of the metric map {metric_map.name}", remedy)
    elif missing:
        yield warning(check, f"has no series for {', '.join(missing)}: null in every table", remedy)
    else:
        yield fine(check, f"has series for all {len(quantities)} quantities of {metric_map.name}")


def _witnesses(source: FeatureSource) -> tuple[str, ...]:
    """Return the series that stand for a source: of a histogram its count, for its buckets are many."""
    return tuple(name for name in metric_names(source) if not name.endswith(("_bucket", "_sum")))


async def clocks(connection: Connection, bucket_seconds: float) -> Finding:
    """Compare this machine's clock with the stand's; more than half a bucket apart, samples would be in the wrong rows.

    Samples bear Prometheus' time, what is told of pods the API server's.
    """
    check = "clocks"
    offsets = [await prometheus_offset(connection), await server_offset(connection)]
    told = [offset for offset in offsets if offset is not None]
    if not told:
        return unknown(check, "nobody tells the stand's time", "name a Prometheus: --prometheus URL")
    wrong = [str(offset) for offset in told if offset.exceeds(bucket_seconds)]
    if wrong:
        found = f"{'; '.join(wrong)}: more than half a bucket of {bucket_seconds:g} s"
        return failed(check, found, "synchronize all (NTP)")
    return fine(check, "; ".join(map(str, told)))


async def coroot(connection: Connection) -> Finding:
    """Look whether Coroot answers, and has a project."""
    check, url = "Coroot", connection.endpoints.coroot
    answer = await connection.service(url, COROOT, "api/user", namespace=COROOT_NAMESPACE)
    if not answer.ok:
        return warning(
            check,
            f"can't be read: {answer.problem}",
            "findings have no coverage; install it (deploy/helm/coroot.yaml), with authAnonymousRole: Viewer; --coroot URL names another",
        )
    if not answer.find("projects"):
        return warning(check, "has no project", "it makes one when its Prometheus is configured: look at its page")
    return fine(check, "answers, and has a project")


async def load_generator(connection: Connection) -> Finding:
    """Look whether there are users, and whether it is our load generator."""
    check, url = "load generator", connection.endpoints.load_generator
    answer = await connection.service(url, LOAD_GENERATOR, "ocg/workload")
    if answer.ok:
        state = answer.text("state")
        if state != "running":
            return failed(
                check,
                f"is {state or 'in no state that it tells'}",
                "a stopped test has no users: POST /swarm starts it, or restart its pod",
            )
        return fine(check, f"{answer.find('users_active')} of {answer.find('users_target')} users")
    stock = await connection.service(url, LOAD_GENERATOR, "stats/requests")
    if stock.ok:
        return warning(
            check,
            f"is a stock Locust with {stock.find('user_count')} users: neither a rate nor a mix can be set",
            "and services that the configuration lacks are asked all the same, so requests fail at rest",
        )
    return failed(check, f"can't be read: {stock.problem}", "is it up? --load-generator URL names another")


async def flags(connection: Connection) -> Finding:
    """Look whether feature flags can be read."""
    check, url = "flags", connection.endpoints.flagd
    answer = await connection.service(url, FLAGD_UI, "feature/api/read")
    if answer.status == _NOT_FOUND:
        answer = await connection.service(url, FLAGD_UI, "api/read")  # without the proxy's prefix
    if not answer.ok:
        return warning(
            check, f"can't be read: {answer.problem}", "feature_flag can't be used; --flagd URL names where flagd-ui is"
        )
    flags = answer.find("flags")
    return fine(check, f"{len(flags) if isinstance(flags, dict) else 0} flags")
