"""RCAEval's rankings of columns become rankings of services; where no interpreter has the package, that is no error."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_control_gym.baselines.rcaeval_methods import rcaeval_interpreter, service_ranking
from otel_control_gym.engine.errors import UsageError


def test_a_service_stands_where_its_first_column_does() -> None:
    ranking = service_ranking(["cart_cpu", "ad_latency", "cart_mem", "proxy_error"], ("proxy", "ad", "cart", "redis"))
    assert ranking.services.argsort()[::-1].tolist()[:3] == [2, 1, 0]
    assert ranking.services[3] < ranking.services[0]


def test_services_without_a_column_are_tied_at_the_end() -> None:
    ranking = service_ranking(["cart_cpu"], ("proxy", "cart", "redis"))
    assert ranking.services[0] == ranking.services[2] < ranking.services[1]


def test_without_the_package_there_is_no_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("otel_control_gym.baselines.rcaeval_methods.find_spec", lambda name: None)
    monkeypatch.delenv("OCG_RCAEVAL_PYTHON", raising=False)
    assert rcaeval_interpreter() is None
    monkeypatch.setenv("OCG_RCAEVAL_PYTHON", str(tmp_path / "python"))
    with pytest.raises(UsageError, match="no such file"):
        rcaeval_interpreter()
