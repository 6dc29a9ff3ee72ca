"""Templates of a window are a function of the set of its texts; counts are of all records."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.events import LogRow
from otel_control_gym.projections.log_patterns import LogPattern, masked, summarize_logs

WORDS = st.sampled_from(["order", "placed", "failed", "cart", "user", "ada", "bob", "7", "10.0.0.1", "a@b.io", "x" * 3])
BODIES = st.lists(WORDS, max_size=6).map(" ".join)
ROWS = st.lists(
    st.builds(
        LogRow,
        time=st.integers(0, 9),
        service=st.sampled_from(["cart", "checkout"]),
        severity=st.sampled_from(["INFO", "ERROR"]),
        body=BODIES,
        sampling_probability=st.sampled_from([1.0, 0.5, 0.25]),
    ),
    max_size=30,
)


def row(body: str, *, service: str = "cart", severity: str = "INFO", probability: float = 1.0) -> LogRow:
    return LogRow(time=1, service=service, severity=severity, body=body, sampling_probability=probability)


def templates(*bodies: str) -> dict[str, int]:
    return {pattern.template: pattern.sampled_count for pattern in summarize_logs(0, [row(body) for body in bodies])}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("order 3f2504e0-4f89-11d3-9a0c-0305e82c3301 placed", "order <uuid> placed"),
        ("connected to 10.0.0.1:6379 in 12.5ms", "connected to <ip> in <number>ms"),
        ("mail sent to ada@example.com", "mail sent to <email>"),
        ("trace 4bf92f3577b34da6a3ce929d0e0e4736 at 2026-01-05T00:00:01.5Z", "trace <hex> at <time>"),
        ("product OLJCESPC7Z found", "product <id> found"),
        ('{"total":42,"rate":-0.5}', '{"total":<number>,"rate":<number>}'),
        ("utf8 http2 k8s  pods", "utf8 http2 k8s pods"),
        ("boom\n  at Cart.get(Cart.java:12)", "boom"),
    ],
)
def test_what_varies_by_nature_is_masked(body: str, expected: str) -> None:
    assert masked(body) == expected


def test_words_that_differ_become_parameters() -> None:
    assert templates("user ada viewed her cart", "user bob viewed her cart") == {"user <*> viewed her cart": 2}


def test_texts_that_have_little_in_common_stay_apart() -> None:
    assert templates("Product Found", "Product Missing", "failed to charge card", "failed to write message") == {
        "Product Found": 1,
        "Product Missing": 1,
        "failed to charge card": 1,
        "failed to write message": 1,
    }


@pytest.mark.parametrize(
    "order", list(permutations(("one two three four", "one two tres quatro", "uno dos tres quatro")))
)
def test_texts_that_drain_would_group_by_who_came_first_are_grouped_the_same(order: tuple[str, ...]) -> None:
    """The middle one has half of its words in common with either other; with the ends alike it could go with both."""
    ends = tuple(f"begin {text} end" for text in order)
    assert templates(*ends) == {"begin one two <*> <*> end": 2, "begin uno dos tres quatro end": 1}


def test_the_id_of_a_pattern_hangs_on_its_template_alone() -> None:
    (here,) = summarize_logs(0, [row("order 7 placed")])
    (there,) = summarize_logs(60, [row("order 8 placed", service="checkout", severity="WARN")])
    assert here.template == there.template
    assert here.pattern_id == there.pattern_id
    (other,) = summarize_logs(0, [row("order 7 lost")])
    assert other.pattern_id != here.pattern_id


@given(ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows + rows))))
def test_neither_order_nor_repetition_changes_templates(both: tuple[list[LogRow], list[LogRow]]) -> None:
    once, twice_in_disorder = (
        {
            (pattern.service, pattern.severity, pattern.pattern_id, pattern.template)
            for pattern in summarize_logs(0, rows)
        }
        for rows in both
    )
    assert once == twice_in_disorder


@given(ROWS)
def test_every_record_is_counted_once_under_its_service_and_severity(rows: list[LogRow]) -> None:
    patterns = summarize_logs(0, rows)
    for service in ("cart", "checkout"):
        for severity in ("INFO", "ERROR"):
            mine = [line for line in rows if (line.service, line.severity) == (service, severity)]
            counted = [pattern for pattern in patterns if (pattern.service, pattern.severity) == (service, severity)]
            assert sum(pattern.sampled_count for pattern in counted) == len(mine)
            assert sum(pattern.count for pattern in counted) == sum(1 / line.sampling_probability for line in mine)
    assert [_place(pattern) for pattern in patterns] == sorted({_place(pattern) for pattern in patterns})


def _place(pattern: LogPattern) -> tuple[str, str, str]:
    return pattern.service, pattern.severity, pattern.pattern_id


@given(ROWS)
def test_an_example_is_the_first_record_of_its_pattern(rows: list[LogRow]) -> None:
    for pattern in summarize_logs(0, rows):
        fits = [line.body for line in rows if (line.service, line.severity) == (pattern.service, pattern.severity)]
        assert pattern.example in fits
        words, text = pattern.template.split(), masked(pattern.example).split()
        assert all(word in (other, "<*>") for word, other in zip(words, text, strict=True))
