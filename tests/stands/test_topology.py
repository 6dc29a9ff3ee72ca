"""A configuration becomes rows that refer to each other rightly, or an error that says what is wrong with it."""

from __future__ import annotations

import msgspec
import pytest

from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.settings import Call, Flow, Operation, ServiceConfiguration, Step
from otel_control_gym.stands.twin.topology import build_topology


@pytest.fixture
def config() -> ServiceConfiguration:
    return load_services("small-core")[0]


def with_call(config: ServiceConfiguration, target: str) -> ServiceConfiguration:
    operation = Operation(steps=(Step(calls=(Call(target=target),)),))
    payment = msgspec.structs.replace(config.services["payment"], operations={"Charge": operation})
    return msgspec.structs.replace(config, services={**config.services, "payment": payment})


def test_every_call_lies_on_the_edge_between_its_services(config: ServiceConfiguration) -> None:
    topology, names = build_topology(config)
    rows = list(names.operations)

    for service, operations in config.services.items():
        for name, operation in operations.operations.items():
            row = topology.operations[rows.index((service, name))]
            assert row["steps"] == len(operation.steps)
            for number, step in enumerate(operation.steps):
                step_row = topology.steps[row["first_step"] + number]
                assert step_row["work_ns"] == step.work_ms * 1e6
                for at, call in enumerate(step.calls):
                    found = topology.calls[step_row["first_call"] + at]
                    target = rows[found["operation"]]
                    assert f"{target[0]}:{target[1]}" == call.target
                    assert names.edges[found["edge"]][:2] == (service, target[0])
                    source = list(config.services).index(service)
                    assert names.called[source][found["target"]] == found["operation"]
                    assert names.outgoing[source][found["connection"]] == found["edge"]


def test_every_edge_of_small_core_is_used(config: ServiceConfiguration) -> None:
    topology, names = build_topology(config)

    assert sorted({int(edge) for edge in topology.calls["edge"]}) == list(range(len(names.edges)))


def test_every_container_of_small_core_has_requests_and_limits(config: ServiceConfiguration) -> None:
    for service in config.services.values():
        assert service.cpu_limit_cores is not None
        assert service.memory_limit_bytes is not None
        assert 0 < service.cpu_request_cores <= service.cpu_limit_cores
        assert 0 < service.memory_base_bytes < service.memory_request_bytes <= service.memory_limit_bytes


def test_a_call_to_an_unknown_operation_is_named(config: ServiceConfiguration) -> None:
    with pytest.raises(ConfigurationError, match=r"flagd:Nonsense.*there is no such operation"):
        build_topology(with_call(config, "flagd:Nonsense"))


def test_a_call_without_an_edge_is_named(config: ServiceConfiguration) -> None:
    with pytest.raises(ConfigurationError, match="there is no edge payment -> cart"):
        build_topology(with_call(config, "cart:GetCart"))


def test_a_flow_may_only_ask_the_entry_service(config: ServiceConfiguration) -> None:
    flows = {"odd": Flow(weight=1.0, requests=("PlaceOrder",))}
    with pytest.raises(ConfigurationError, match=r"flows\.odd\.requests"):
        build_topology(msgspec.structs.replace(config, flows=flows))


def test_an_application_needs_one_load_generator(config: ServiceConfiguration) -> None:
    services = {name: service for name, service in config.services.items() if service.kind != "workload"}
    with pytest.raises(ConfigurationError, match="one service must be of kind workload"):
        build_topology(msgspec.structs.replace(config, services=services))
