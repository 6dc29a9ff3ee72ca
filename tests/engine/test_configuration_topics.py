"""A topic whose broker, consumers or numbers can't be is refused where it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.engine.configuration_topics import check_topics
from otel_control_gym.engine.errors import ConfigurationError

CONSUMER: dict[str, Any] = {"group": "accounting", "service": "accounting", "operation": "process orders"}
TOPIC: dict[str, Any] = {"broker": "kafka", "operation": "publish orders"}


def refusal(folder: Path, topics: dict[str, Any]) -> ConfigurationError:
    """Return why async-store can't have these topics besides its own."""
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "extends": "async-store", "topics": topics}), encoding="utf-8")
    services, _ = load_services(str(file))
    with pytest.raises(ConfigurationError) as caught:
        check_topics(services, "mine.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("orders", "key", "words"),
    [
        ({"broker": "kafca"}, "broker", "did you mean 'kafka'"),
        ({"operation": "publish order"}, "operation", "did you mean 'publish orders'"),
        ({"partitions": 0}, "partitions", "at least 1"),
        ({"consumers": [CONSUMER | {"service": "acounting"}]}, "consumers[0].service", "did you mean 'accounting'"),
        ({"consumers": [CONSUMER | {"operation": "process"}]}, "consumers[0].operation", "process orders"),
        ({"consumers": [CONSUMER, CONSUMER]}, "consumers[1].group", "a group of its own"),
        (
            {"consumers": [CONSUMER | {"service": "email", "operation": "POST /send_order_confirmation"}]},
            "consumers[0].service",
            "no edge kafka->email",
        ),
        ({"consumers": [CONSUMER | {"poll_ms": 0}]}, "consumers[0].poll_ms", "positive"),
        ({"consumers": [CONSUMER | {"session_seconds": -1}]}, "consumers[0].session_seconds", "positive"),
    ],
)
def test_a_topic_that_can_t_work_is_refused(tmp_path: Path, orders: dict[str, Any], key: str, words: str) -> None:
    error = refusal(tmp_path, {"orders": orders})
    assert error.key == f"topics.orders.{key}"
    assert words in str(error)


def test_two_topics_can_t_share_an_operation(tmp_path: Path) -> None:
    assert "'orders'" in str(refusal(tmp_path, {"bills": TOPIC}))
