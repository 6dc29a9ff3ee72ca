"""Services are reached at the URLs that were given, or else by a way that needs none; only what is behind the API server sees its token."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.cluster_assembly import cluster_stand
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.engine.service_sessions import service_session
from otel_control_gym.stands.cluster.services import with_services
from otel_control_gym.stands.twin.servers.listening import listen

FOUND = Endpoints(
    kubernetes="https://api:6443",
    namespace="shop",
    prometheus="",
    coroot="",
    load_generator="",
    flagd="",
    kubernetes_token="t",
)


def test_without_urls_services_are_behind_the_api_server() -> None:
    proxied = with_services(FOUND, "proxy")
    prefix = "https://api:6443/api/v1/namespaces"
    assert proxied.prometheus == f"{prefix}/shop/services/prometheus:9090/proxy"
    assert proxied.coroot == f"{prefix}/coroot/services/coroot-coroot:8080/proxy"
    assert proxied.jaeger == f"{prefix}/shop/services/jaeger:16686/proxy"
    assert proxied.load_generator == f"{prefix}/shop/services/load-generator:8089/proxy"
    assert proxied.flagd == f"{prefix}/shop/services/flagd:4000/proxy"
    assert proxied.flagd_evaluation == f"{prefix}/shop/services/flagd:8016/proxy"


def test_in_a_cluster_they_have_names() -> None:
    named = with_services(FOUND, "dns")
    assert (named.flagd, named.flagd_evaluation) == ("http://flagd.shop.svc:4000", "http://flagd.shop.svc:8016")
    assert named.jaeger == "http://jaeger.shop.svc:16686"
    assert named.coroot == "http://coroot-coroot.coroot.svc:8080"


def test_a_url_that_was_given_stays_and_one_for_flags_is_meant_for_both() -> None:
    given = with_services(msgspec.structs.replace(FOUND, flagd="http://shop", prometheus="http://prom"), "proxy")
    assert (given.prometheus, given.flagd, given.flagd_evaluation) == ("http://prom", "http://shop", "http://shop")


async def test_the_token_is_shown_to_the_api_server_alone() -> None:
    shown: list[str] = []

    async def note(request: web.Request) -> web.Response:
        shown.append(request.headers.get("Authorization", ""))
        return web.Response()

    application = web.Application()
    application.router.add_get("/{path:.*}", note)
    async with listen(application) as api, listen(application) as elsewhere:
        endpoints = with_services(msgspec.structs.replace(FOUND, kubernetes=api, coroot=elsewhere), "proxy")
        for url in (endpoints.prometheus, endpoints.coroot, f"{api}.example.org/api"):
            async with service_session(endpoints, url, 5.0) as session:
                await session.get(url if url != f"{api}.example.org/api" else elsewhere)
    assert shown == ["Bearer t", "", ""]


def test_a_gym_in_a_pod_drives_the_application_and_not_its_own_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("token", "t"), ("namespace", "ocg-system")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("otel_control_gym.stands.cluster.pod_account.SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert cluster_stand(ClusterAccess(kubeconfig=None)).lease_name == "10.0.0.1:6443/otel-demo"
    assert cluster_stand(ClusterAccess(kubeconfig=None, namespace="shop")).lease_name == "10.0.0.1:6443/shop"
