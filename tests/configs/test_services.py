"""The packaged applications are the demo that their heads claim: edges, tasks, states and statuses as its sources have them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_control_gym import configs
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.settings import Call, Scenario, ServiceConfiguration

SMALL = {
    "frontend": ("product-catalog", "recommendation", "cart", "checkout"),
    "recommendation": ("product-catalog", "flagd"),
    "checkout": ("cart", "product-catalog", "currency", "shipping", "payment", "email", "flagd"),
    "cart": ("valkey-cart", "flagd"),
    "product-catalog": ("postgresql", "flagd"),
    "shipping": ("quote",),
    "payment": ("flagd",),
    "email": ("flagd",),
}
MEDIUM = {"frontend-proxy": ("frontend",), "frontend": ("ad",), "ad": ("flagd",)}
ASYNC = {
    "checkout": ("kafka",),
    "kafka": ("accounting", "fraud-detection"),
    "accounting": ("postgresql",),
    "fraud-detection": ("flagd",),
}
REVIEW = {
    "frontend-proxy": ("image-provider",),
    "frontend": ("product-reviews",),
    "product-reviews": ("postgresql", "llm", "flagd"),
    "llm": ("flagd",),
}
LAYERS = {
    "small-core": (SMALL,),
    "medium-store": (SMALL, MEDIUM),
    "async-store": (SMALL, MEDIUM, ASYNC),
    "review-store": (SMALL, MEDIUM, ASYNC, REVIEW),
}


def services(name: str) -> ServiceConfiguration:
    return resolve(name).public.services


def calls(configuration: ServiceConfiguration, source: str, operation: str) -> list[Call]:
    return [call for step in configuration.services[source].operations[operation].steps for call in step.calls]


def status(configuration: ServiceConfiguration, source: str, operation: str, target: str) -> int:
    """Return what an operation answers when its call of a target fails."""
    found = {call.error_status for call in calls(configuration, source, operation) if call.target == target}
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize("name", LAYERS)
def test_the_edges_are_the_demos(name: str) -> None:
    found = services(name)
    expected = [(source, target) for layer in LAYERS[name] for source, targets in layer.items() for target in targets]
    assert sorted((edge.source, edge.target) for edge in found.edges) == sorted(
        [("load-generator", found.entry), *expected]
    )


@pytest.mark.parametrize(
    ("name", "deployments", "weights"),
    [("small-core", 14, 21), ("medium-store", 16, 29), ("async-store", 19, 29), ("review-store", 22, 32)],
)
def test_deployments_and_weights_are_those_that_the_demo_counts(name: str, deployments: int, weights: float) -> None:
    found = services(name)
    assert len(found.services) == deployments
    assert sum(flow.weight for flow in found.flows.values()) == weights


@pytest.mark.parametrize("name", LAYERS)
def test_what_keeps_data_in_its_pod_is_stateful_and_nothing_else(name: str) -> None:
    stateful = {service for service, settings in services(name).services.items() if settings.stateful}
    assert stateful == {"valkey-cart", "postgresql", "flagd", "kafka"} & set(services(name).services)


@pytest.mark.parametrize("name", LAYERS)
def test_every_operation_but_the_image_providers_is_reached_by_a_user_or_a_message(name: str) -> None:
    found = services(name)
    reached = {f"{found.entry}:{request}" for flow in found.flows.values() for request in flow.requests}
    for topic in found.topics.values():
        reached |= {f"{consumer.service}:{consumer.operation}" for consumer in topic.consumers}
    frontier = sorted(reached)
    while frontier:
        source, _, operation = frontier.pop().partition(":")
        for call in calls(found, source, operation):
            if call.target not in reached:
                reached.add(call.target)
                frontier.append(call.target)
    operations = {f"{name}:{operation}" for name, one in found.services.items() for operation in one.operations}
    assert operations - reached <= {"frontend-proxy:GET /images/{image}", "image-provider:GET /{image}"}


@pytest.mark.parametrize("name", list(LAYERS)[1:])
def test_users_enter_through_envoy_which_gives_up_after_15_s_and_passes_statuses_on(name: str) -> None:
    found = services(name)
    assert found.entry == resolve(name).public.reward.objective.service == "frontend-proxy"
    (edge,) = [edge for edge in found.edges if (edge.source, edge.target) == ("frontend-proxy", "frontend")]
    assert (edge.timeout_ms, edge.retries) == (15_000, 0)
    for operation in found.services["frontend-proxy"].operations:
        assert [call.error_status for call in calls(found, "frontend-proxy", operation)] == [-1]
    assert [service for service, settings in found.services.items() if settings.user_facing] == ["frontend-proxy"]


@pytest.mark.parametrize("name", LAYERS)
def test_statuses_are_those_of_the_demos_code(name: str) -> None:
    found = services(name)
    assert {
        call.error_status for one in found.services["frontend"].operations for call in calls(found, "frontend", one)
    } == {500}
    assert status(found, "checkout", "PlaceOrder", "payment:Charge") == 13  # INTERNAL
    assert status(found, "checkout", "PlaceOrder", "shipping:POST /ship-order") == 14  # UNAVAILABLE
    assert status(found, "product-catalog", "GetProduct", "postgresql:SELECT products") == 5  # NOT_FOUND
    assert status(found, "product-catalog", "ListProducts", "postgresql:SELECT products") == 13
    assert status(found, "cart", "GetCart", "valkey-cart:HGET") == 9  # FAILED_PRECONDITION
    assert status(found, "shipping", "POST /get-quote", "quote:POST /getquote") == 500


@pytest.mark.parametrize("name", LAYERS)
def test_an_order_succeeds_without_confirmation_emptied_cart_and_message(name: str) -> None:
    found = services(name)
    ignored = [call.target for call in calls(found, "checkout", "PlaceOrder") if call.on_error == "ignore"]
    wanted = ["cart:EmptyCart", "email:POST /send_order_confirmation"]
    wanted += ["kafka:publish orders"] if "kafka" in found.services else []
    assert [target for target in ignored if not target.startswith("flagd:")] == wanted


def test_orders_go_to_two_groups_that_listen_to_nobody() -> None:
    found = services("async-store")
    topic = found.topics["orders"]
    groups = {consumer.group: (consumer.service, consumer.start) for consumer in topic.consumers}
    assert groups == {"accounting": ("accounting", "earliest"), "fraud-detection": ("fraud-detection", "latest")}
    assert topic.partitions == 1
    assert [name for name, service in found.services.items() if not service.listens] == [
        "accounting",
        "fraud-detection",
    ]


def test_a_look_at_ads_is_two_requests() -> None:
    found = services("medium-store")
    assert found.flows["get_ads"].requests == ("GET /api/data/", "GET /api/data")
    assert not calls(found, "frontend", "GET /api/data/")


def test_the_home_page_is_flooded_only_by_the_flag() -> None:
    (effect,) = services("medium-store").flags["loadGeneratorFloodHomepage"].effects
    assert effect.flow == "flood_home"


def test_a_question_to_the_assistant_asks_the_model_twice() -> None:
    targets = [call.target for call in calls(services("review-store"), "product-reviews", "AskProductAIAssistant")]
    assert [target for target in targets if not target.startswith("flagd:")] == [
        "llm:POST /v1/chat/completions",
        "postgresql:SELECT reviews",
        "llm:POST /v1/chat/completions",
    ]


@pytest.mark.parametrize("name", LAYERS)
def test_versions_to_roll_out_are_there_for_four_services(name: str) -> None:
    versions = {
        service: settings.versions for service, settings in services(name).services.items() if settings.versions
    }
    assert list(versions) == ["frontend", "checkout", "product-catalog", "quote"]
    for builds in versions.values():
        assert any(build.work_factor > 1 for build in builds.values())
        assert any(build.failure_ratio > 0 for build in builds.values())


def test_the_shown_extension_can_be_run(tmp_path: Path) -> None:
    readme = (Path(configs.__file__).parent / "services" / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    (tmp_path / "shown.yaml").write_text(shown, encoding="utf-8")
    found = resolve(Scenario(name="shown", services=str(tmp_path / "shown.yaml"))).public.services
    assert "ad" not in found.services
    assert found.services["frontend"].replicas == 2
