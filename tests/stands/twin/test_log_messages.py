"""The demo's log statements: who logs what, and that every gap can be filled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest

from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.stands.twin.log_messages import Facts, Message, When, messages

FACTS = Facts(bytes(16), bytes(8), "GET /api/products/{productId}", 503, 1_000_000, 9_000_000)


def said(configuration: str) -> Iterator[tuple[When, str, Message]]:
    services = load_services(configuration)[0]
    operations = {operation for service in services.services.values() for operation in service.operations}
    for when in get_args(When):
        for service in services.services:
            for operation in sorted(operations | set(services.flows)):
                for message in messages(when, service, operation):
                    yield when, service, message


def test_the_services_that_log_are_the_demos() -> None:
    """By its own list of who sends which signal; load-generator by its source. Broker, proxy and caches: see the data sheet."""
    assert {service for _, service, _ in said("review-store")} == {
        "accounting", "ad", "cart", "checkout", "currency", "email", "fraud-detection", "frontend-proxy", "load-generator", "payment",
        "product-catalog", "product-reviews", "quote", "recommendation", "shipping",
    }  # fmt: skip


def test_every_task_of_the_load_generator_has_a_line() -> None:
    for flow in load_services("review-store")[0].flows:
        assert messages("task", "load-generator", flow)


@pytest.mark.parametrize("configuration", ["small-core", "medium-store", "async-store", "review-store"])
def test_every_gap_of_a_message_can_be_filled(configuration: str) -> None:
    found = [message for _, _, message in said(configuration)]
    assert len(found) > 20
    for message in found:
        texts = [text.format_map(FACTS) for text in (message.text, *message.attributes.values())]
        assert all(texts)
        assert message.varies == (texts != [message.text, *message.attributes.values()])


def test_services_of_a_trace_agree_on_what_they_speak_of() -> None:
    here, there = (Facts(bytes([1] * 16), bytes([number] * 8), "", 0, 0, 0) for number in (1, 2))
    elsewhere = Facts(bytes([2] * 16), bytes([1] * 8), "", 0, 0, 0)
    for fact in ("user", "order", "tracking", "transaction"):
        assert here[fact] == there[fact] != elsewhere[fact]
    assert here["request_id"] != there["request_id"]


def test_a_proxys_line_tells_whose_answer_it_was() -> None:
    (access,) = messages("failed", "frontend-proxy", "GET /api/products/{productId}")
    assert "/{productId}" not in access.text.format_map(FACTS)
    assert ' HTTP/1.1" 503 UF upstream_reset_before_response_started{connection_failure}' in access.text.format_map(
        FACTS
    )
