"""Coroot's API as a viewer reads it: shapes, ids, and a map that tells of the last minute."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.stand import TwinStand

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig, Receiver


@pytest.fixture
async def http(stand: TwinStand) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(stand.endpoints.coroot) as session:
        yield session


@pytest.fixture
async def watched(stand: TwinStand, receiver: Receiver, make_config: MakeConfig) -> TwinStand:
    await stand.reset(make_config(60), otlp_endpoint=receiver.url)
    await stand.advance(stand.now + 120 * SECOND)
    return stand


async def get(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(path) as response:
        assert response.status == 200
        return json.loads(await response.read())


async def project(http: aiohttp.ClientSession) -> str:
    identifier = (await get(http, "/api/user"))["projects"][0]["id"]
    assert len(identifier) == 8
    return f"/api/project/{identifier}"


def name_of(identifier: str) -> str:
    cluster, namespace, kind, name = identifier.split(":")
    assert (len(cluster), namespace, kind) == (8, "otel-demo", "Deployment")
    return name


async def test_a_viewer_needs_no_login_but_may_log_in(watched: TwinStand, http: aiohttp.ClientSession) -> None:
    async with http.post("/api/login", json={"email": "admin", "password": "secret"}) as response:
        assert response.status == 200
        assert "coroot_session" in response.cookies
    for body in ('{"email": "admin"}', "{", "[]"):
        async with http.post("/api/login", data=body) as response:
            assert response.status == 400
    user = await get(http, "/api/user")
    assert user["role"] == "Viewer"
    assert (await get(http, await project(http)))["name"] == user["projects"][0]["name"]


async def test_the_map_is_the_declared_graph_with_the_last_minutes_rates(
    watched: TwinStand, http: aiohttp.ClientSession
) -> None:
    answer = await get(http, f"{await project(http)}/overview/map")
    links = {
        (name_of(node["id"]), name_of(link["id"])): link for node in answer["data"]["map"] for link in node["upstreams"]
    }
    edges = watched.run.config.public.services.edges
    assert links.keys() == {(edge.source, edge.target) for edge in edges}
    entry = links["load-generator", "frontend"]
    assert entry["status"] == "ok"
    rate = watched.run.simulation.load_counters().served / 120
    assert entry["weight"] == pytest.approx(rate, rel=0.2)
    backwards = {
        (name_of(link["id"]), name_of(node["id"])) for node in answer["data"]["map"] for link in node["downstreams"]
    }
    assert backwards == links.keys()


async def test_answers_stand_still_between_two_readings(watched: TwinStand, http: aiohttp.ClientSession) -> None:
    path = f"{await project(http)}/overview/map"
    first = await get(http, path)
    await watched.advance(watched.now + 30 * SECOND)
    assert await get(http, path) == first
    await watched.advance(watched.now + 30 * SECOND)
    assert await get(http, path) != first


async def test_refused_connections_are_critical_and_failed_requests_are_not(
    watched: TwinStand, http: aiohttp.ClientSession
) -> None:
    scale = f"{watched.endpoints.kubernetes}/apis/apps/v1/namespaces/otel-demo/deployments/cart/scale"
    merge = {"Content-Type": "application/merge-patch+json"}
    body = b'{"spec": {"replicas": 0}}'
    async with aiohttp.ClientSession() as kubernetes, kubernetes.patch(scale, data=body, headers=merge) as response:
        assert response.status == 200
    await watched.advance(watched.now + 180 * SECOND)
    answer = await get(http, f"{await project(http)}/overview/map")
    links = {
        (name_of(node["id"]), name_of(link["id"])): link for node in answer["data"]["map"] for link in node["upstreams"]
    }
    assert links["frontend", "cart"]["status"] == "critical"
    assert links["frontend", "cart"]["stats"] == ["failed connections"]
    assert links["cart", "valkey-cart"]["status"] == "unknown"
    assert links["load-generator", "frontend"]["status"] == "ok"
    applications = await get(http, f"{await project(http)}/overview/applications")
    errors = {name_of(item["id"]): item["errors"]["value"] for item in applications["data"]["applications"]}
    assert errors["frontend"] not in ("", "0.0%")


async def test_every_deployment_is_an_application(watched: TwinStand, http: aiohttp.ClientSession) -> None:
    answer = await get(http, f"{await project(http)}/overview/applications")
    services = watched.run.config.public.services.services
    found = {name_of(item["id"]): item for item in answer["data"]["applications"]}
    assert found.keys() == services.keys()
    assert found["cart"]["instances"] == {"status": "ok", "value": "1/1", "chart": None}
    assert {item["id"] for item in answer["context"]["search"]["applications"]} == {
        item["id"] for item in found.values()
    }


async def test_a_young_run_has_no_incidents_and_no_alerts(watched: TwinStand, http: aiohttp.ClientSession) -> None:
    base = await project(http)
    assert (await get(http, f"{base}/incidents"))["data"] == []
    assert (await get(http, f"{base}/alerts?include_resolved=true"))["data"]["alerts"] == []
    assert (await get(http, f"{base}/status"))["data"]["status"] == "ok"


async def test_an_application_knows_its_clients_and_dependencies(
    watched: TwinStand, http: aiohttp.ClientSession
) -> None:
    base = await project(http)
    identifier = f"{base.rpartition('/')[2]}:otel-demo:Deployment:cart"
    found = (await get(http, f"{base}/app/{identifier}"))["data"]["app_map"]
    assert {name_of(item["id"]) for item in found["clients"]} == {"frontend", "checkout"}
    assert {name_of(item["id"]) for item in found["dependencies"]} == {"valkey-cart", "flagd"}
    assert found["dependencies"][0]["link_weight"] > 0
    assert len(found["instances"]) == 1
    assert (await get(http, f"{base}/app/{identifier}x"))["data"] is None


async def test_an_unknown_project_has_no_data(watched: TwinStand, http: aiohttp.ClientSession) -> None:
    assert (await get(http, "/api/project/nowhere1/overview/map"))["data"] is None


async def test_an_overview_fills_its_own_list_and_an_unknown_one_none(
    watched: TwinStand, http: aiohttp.ClientSession
) -> None:
    base = await project(http)
    for view in ("applications", "map", "nodes", "deployments", "incidents"):
        data = (await get(http, f"{base}/overview/{view}"))["data"]
        assert [name for name, value in data.items() if value is not None] == ([view] if view in data else [])
    (node,) = (await get(http, f"{base}/overview/nodes"))["data"]["nodes"]
    used = watched.run.simulation.pod_counters().cpu_seconds.sum() / 120 / 16 * 100
    assert node["cpu_percent"] == pytest.approx(used, rel=0.3)
    versions = {item["version"] for item in (await get(http, f"{base}/overview/deployments"))["data"]["deployments"]}
    assert "2.2.0-cart" in versions


async def test_the_reports_are_those_that_the_telemetry_allows_and_the_slo_s_lists_the_clients(
    watched: TwinStand, http: aiohttp.ClientSession
) -> None:
    base = await project(http)
    identifier = f"{base.rpartition('/')[2]}:otel-demo:Deployment:cart"
    reports = {item["name"]: item for item in (await get(http, f"{base}/app/{identifier}"))["data"]["reports"]}
    assert list(reports) == ["SLO", "Instances", "CPU", "Memory", "Net", "Deployments"]
    assert {item["status"] for item in reports.values()} == {"ok"}
    check = reports["CPU"]["checks"][1]
    assert (check["id"], check["threshold"], check["unit"]) == ("CPUContainer", 80, "percent")
    rows = reports["SLO"]["widgets"][0]["table"]["rows"]
    assert [name_of(row["id"]) for row in rows] == ["frontend", "checkout"]
    known = {item["id"] for item in (await get(http, f"{base}/inspections"))["data"]["checks"]}
    assert {check["id"] for report in reports.values() for check in report["checks"]} == known


async def test_a_window_before_the_run_has_no_data_and_a_bad_one_is_the_last_hour(
    watched: TwinStand, http: aiohttp.ClientSession
) -> None:
    base = await project(http)
    path = f"{base}/app/{base.rpartition('/')[2]}:otel-demo:Deployment:cart"
    usual = await get(http, path)
    assert usual["data"]["reports"][0]["name"] == "SLO"
    now = watched.now // 1_000_000
    for query in ("from=nonsense&to=never", "from=now&to=now-5m", "from=now-1h&to=now", f"from={now + 1}&to={now}"):
        found = await get(http, f"{path}?{query}")
        if query == "from=now&to=now-5m":  # an hour that ended before the run began
            assert found["data"]["reports"][0]["name"] != "SLO"
        else:
            assert found == usual, query
    before = await get(http, f"{path}?from=now-3h&to=now-2h")
    assert {check["status"] for report in before["data"]["reports"] for check in report["checks"]} <= {"unknown", "ok"}


async def test_root_causes_are_a_matter_of_another_edition(watched: TwinStand, http: aiohttp.ClientSession) -> None:
    base = await project(http)
    path = f"{base}/app/{base.rpartition('/')[2]}:otel-demo:Deployment:cart/rca"
    answer = await get(http, path)
    assert answer.pop("status") == "AI disabled"
    assert not any(answer.values())
    async with http.get(f"{path}?incident=abcdefgh") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_what_doesn_t_exist_is_null(watched: TwinStand, http: aiohttp.ClientSession) -> None:
    base = await project(http)
    for path in ("incident/abcdefgh", "alerts/abcdefghijkl", "app/x", "app/x:y:Deployment:cart:z"):
        assert (await get(http, f"{base}/{path}"))["data"] is None


async def test_an_older_and_an_encoded_id_are_understood(watched: TwinStand, http: aiohttp.ClientSession) -> None:
    base = await project(http)
    plain = (await get(http, f"{base}/app/otel-demo:Deployment:cart"))["data"]
    assert plain is not None
    encoded = f"{base.rpartition('/')[2]}%253Aotel-demo%253ADeployment%253Acart"
    async with http.get(URL(f"{base}/app/{encoded}", encoded=True)) as response:
        assert json.loads(await response.read())["data"] == plain


async def test_before_the_first_run_there_is_a_project_and_nothing_in_it(
    stand: TwinStand, http: aiohttp.ClientSession
) -> None:
    answer = await get(http, f"{await project(http)}/overview/map")
    assert (answer["data"], answer["context"]["status"]["status"]) == (None, "warning")
