"""A selector is read as PromQL reads it, and refused with the place where it goes wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.metric_selectors import selectors
from otel_control_gym.engine.settings import MetricMap
from otel_control_gym.stands.twin.series_selectors import SelectorError, duration_ms, parse_selector


@pytest.mark.parametrize(
    ("text", "labels", "selected"),
    [
        ("up", {"__name__": "up"}, True),
        ("up", {"__name__": "upper"}, False),
        ('up{job="a"}', {"__name__": "up", "job": "a"}, True),
        ('up{job!="a"}', {"__name__": "up"}, True),
        ('up{job!="a"}', {"__name__": "up", "job": "a"}, False),
        ('{__name__=~"u.|down"}', {"__name__": "up"}, True),
        ('{__name__=~"u"}', {"__name__": "up"}, False),
        ('up{job!~"a|b",}', {"__name__": "up", "job": "b"}, False),
        ('up{job=""}', {"__name__": "up"}, True),
        ('up{job=~".+"}', {"__name__": "up"}, False),
        ("up{job='it\\'s'}", {"__name__": "up", "job": "it's"}, True),
        ("up{job=`a\\b`}", {"__name__": "up", "job": "a\\b"}, True),
        ('{"up"}', {"__name__": "up"}, True),
    ],
)
def test_matchers_select_by_whole_values(text: str, labels: dict[str, str], selected: bool) -> None:
    assert parse_selector(text).matches(labels) is selected


@given(st.text())
def test_any_label_value_can_be_quoted(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assert parse_selector(f'up{{job="{quoted}"}}').matches({"__name__": "up", "job": value})


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("30s", 30_000),
        ("1h30m", 5_400_000),
        ("250ms", 250),
        ("1m500ms", 60_500),
        ("30", 30_000),
        ("0.5", 500),
        ("2d", 172_800_000),
    ],
)
def test_durations_are_read_in_all_their_spellings(text: str, milliseconds: int) -> None:
    assert duration_ms(text) == milliseconds
    assert parse_selector(f"up[{text}]").range_ms == milliseconds


@pytest.mark.parametrize("text", ["", "s", "5x", "1m1h", "-5s", "1.5s"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert duration_ms(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no expression found"),
        ("{}", "at least one non-empty matcher"),
        ('{job=~".*"}', "at least one non-empty matcher"),
        ("up{job}", "1:7: parse error"),
        ('up{job="a"', "end of input"),
        ('up{job=~"("}', "error parsing regexp"),
        ("up[5x]", "not a valid duration"),
        ("up[5s", "unterminated left bracket"),
        ("rate(up[5m])", "function 'rate'"),
        ("up + 1", "only selectors"),
        ("up @ 5", "only selectors"),
        ("-up", "only selectors"),
        ("up[5m:1m]", "subqueries aren't evaluated, only selectors"),
        ('up{__name__="x"}', "set twice"),
    ],
)
def test_a_text_that_is_no_selector_is_refused_with_a_reason(text: str, message: str) -> None:
    with pytest.raises(SelectorError, match="parse error") as refusal:
        parse_selector(text)
    assert message in str(refusal.value)


def test_the_collectors_own_selectors_are_understood(metric_map: MetricMap) -> None:
    for text in selectors(metric_map):
        assert parse_selector(f"{text}[30s]").range_ms == 30_000
