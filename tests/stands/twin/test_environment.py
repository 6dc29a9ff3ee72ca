"""A process makes of its environment what the demo's programs make of theirs."""

from __future__ import annotations

import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import Consumer, EdgeSettings, Operation, Service, ServiceConfiguration, Topic
from otel_control_gym.stands.twin import manifests
from otel_control_gym.stands.twin.environment import Environment, declare, dependencies, read
from otel_control_gym.stands.twin.objects import CONFIG_MAP, SECRET, SERVICE, Object
from otel_control_gym.stands.twin.store import ObjectStore

NAMESPACE = "otel-demo"
SHOP = ServiceConfiguration(
    name="shop",
    demo_version="2.2.0",
    chart_version="0.40.10",
    services={
        "checkout": Service(runtime="go"),
        "product-catalog": Service(runtime="go"),
        "product-reviews": Service(runtime="python", port=3551),
        "accounting": Service(runtime="dotnet", kind="workload", listens=False, operations={"order": Operation()}),
        "kafka": Service(kind="dependency", protocol="kafka", port=9092, operations={"produce": Operation()}),
        "postgresql": Service(kind="dependency", protocol="sql", port=5432),
        "flagd": Service(kind="dependency", port=8013),
    },
    edges=(
        EdgeSettings(source="checkout", target="product-catalog", protocol="grpc"),
        EdgeSettings(source="checkout", target="kafka", protocol="kafka"),
        EdgeSettings(source="checkout", target="flagd", protocol="grpc"),
        EdgeSettings(source="product-catalog", target="postgresql", protocol="sql"),
        EdgeSettings(source="product-reviews", target="postgresql", protocol="sql"),
        EdgeSettings(source="accounting", target="postgresql", protocol="sql"),
    ),
    flows={},
    topics={
        "orders": Topic(
            broker="kafka",
            operation="produce",
            consumers=(Consumer(group="accounting", service="accounting", operation="order"),),
        )
    },
)


@pytest.fixture
def store() -> ObjectStore:
    """Return what is there: the application's Services, a ConfigMap, a Secret whose contents nobody knows."""
    found = ObjectStore(1)
    for name, settings in SHOP.services.items():
        if settings.listens:
            found.create(SERVICE, manifests.service(SHOP, name, settings), SECOND)
    data = {"PRODUCT_CATALOG_ADDR": "product-catalog:8080", "broker": "kafka:9092"}
    found.create(CONFIG_MAP, {"metadata": {"name": "addresses", "namespace": NAMESPACE}, "data": data}, SECOND)
    found.create(SECRET, {"metadata": {"name": "passwords", "namespace": NAMESPACE}}, SECOND)
    return found


def found(
    store: ObjectStore, name: str, changes: dict[str, str | Object | None] | None = None, **more: object
) -> Environment:
    """Return what a service finds with these changes of the chart's variables (None: it isn't there)."""
    changed = {item["name"]: item for item in declare(SHOP, name)}
    for variable, value in (changes or {}).items():
        if value is None:
            del changed[variable]
        else:
            changed[variable] = {
                "name": variable,
                **({"value": value} if isinstance(value, str) else {"valueFrom": value}),
            }
    container = {"name": name, "image": "", "env": list(changed.values()), **more}
    return read(store, SHOP, name, {"metadata": {"namespace": NAMESPACE}, "spec": {"containers": [container]}})


@pytest.mark.parametrize("name", SHOP.services)
def test_what_the_chart_declares_is_right(store: ObjectStore, name: str) -> None:
    assert found(store, name) == Environment(port=SHOP.services[name].port)


def test_a_consumer_is_given_its_broker(store: ObjectStore) -> None:
    assert dependencies(SHOP, "accounting") == ("postgresql", "kafka")
    assert found(store, "accounting", {"KAFKA_ADDR": None}).exit_code == 1


def test_a_go_program_panics_and_others_exit(store: ObjectStore) -> None:
    assert found(store, "checkout", {"PRODUCT_CATALOG_ADDR": None}).exit_code == 2
    assert found(store, "product-reviews", {"DB_CONNECTION_STRING": ""}).exit_code == 1


def test_programs_do_without_flags_without_publishing_and_without_writing(store: ObjectStore) -> None:
    assert found(store, "checkout", {"FLAGD_HOST": None}).unreachable == ("flagd",)
    assert found(store, "checkout", {"KAFKA_ADDR": None}).unreachable == ("kafka",)
    assert found(store, "accounting", {"DB_CONNECTION_STRING": None}).unreachable == ("postgresql",)


def test_the_catalogue_opens_its_database_at_start_and_the_reviews_at_each_request(store: ObjectStore) -> None:
    wrong = {"DB_CONNECTION_STRING": "postgres://otelu:otelp@elsewhere/otel"}
    assert found(store, "product-catalog", dict(wrong)).exit_code == 1
    assert found(store, "product-reviews", dict(wrong)).unreachable == ("postgresql",)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("postgres://otelu:otelp@postgresql/otel?sslmode=disable", True),
        ("postgresql:5432", True),
        ("host=postgresql user=otelu password=otelp dbname=otel", True),
        ("Host=postgresql;Port=5432;Username=otelu", True),
        ("Host=postgresql;Port=5433", False),
        ("postgres://postgresql:54321/otel", False),
        ("what is this", False),
    ],
)
def test_a_database_is_named_by_url_or_by_pairs(store: ObjectStore, text: str, right: bool) -> None:
    assert (found(store, "product-reviews", {"DB_CONNECTION_STRING": text}).unreachable == ()) is right


def test_references_to_earlier_variables_are_filled_in(store: ObjectStore) -> None:
    environment = found(store, "checkout", {"WHERE": "kafka", "KAFKA_ADDR": "$(WHERE):9092"})
    assert environment.unreachable == ("kafka",), "it is declared before the variable that it names"
    changes: dict[str, str | Object | None] = {"KAFKA_ADDR": "$(OTEL_COLLECTOR_NAME):9092"}
    assert found(store, "checkout", changes).unreachable == ("kafka",)
    env = [{"name": "WHERE", "value": "kafka"}, *declare(SHOP, "accounting")]
    env[-1] = {"name": "KAFKA_ADDR", "value": "$(WHERE):9092"}
    assert found(store, "accounting", None, env=env) == Environment(port=8080)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"configMapKeyRef": {"name": "addresses", "key": "broker"}}, ""),
        ({"configMapKeyRef": {"name": "address", "key": "broker"}}, 'configmap "address" not found'),
        (
            {"configMapKeyRef": {"name": "addresses", "key": "b"}},
            "couldn't find key b in ConfigMap otel-demo/addresses",
        ),
        ({"secretKeyRef": {"name": "password", "key": "b"}}, 'secret "password" not found'),
        ({"secretKeyRef": {"name": "passwords", "key": "b"}}, "couldn't find key b in Secret otel-demo/passwords"),
        ({"configMapKeyRef": {"name": "address", "key": "broker", "optional": True}}, ""),
    ],
)
def test_a_source_that_is_not_there_keeps_the_container_from_being_created(
    store: ObjectStore, source: Object, problem: str
) -> None:
    assert found(store, "checkout", {"KAFKA_ADDR": source}).problem == problem


def test_whole_config_maps_can_be_the_environment_and_single_variables_win(store: ObjectStore) -> None:
    whole = [{"configMapRef": {"name": "addresses"}}]
    assert found(store, "checkout", {"PRODUCT_CATALOG_ADDR": None}, envFrom=whole) == Environment(port=8080)
    assert found(store, "checkout", {"PRODUCT_CATALOG_ADDR": "x:1"}, envFrom=whole).unreachable == ("product-catalog",)
    prefixed = [whole[0] | {"prefix": "A_"}]
    assert found(store, "checkout", {"PRODUCT_CATALOG_ADDR": None}, envFrom=prefixed).exit_code == 2


def test_a_program_listens_where_it_is_told(store: ObjectStore) -> None:
    assert found(store, "checkout", {"CHECKOUT_PORT": "7070"}).port == 7070
    assert found(store, "checkout", {"CHECKOUT_PORT": None}).port == 8080
