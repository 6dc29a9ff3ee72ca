"""Selected series and their samples as Prometheus' JSON.

In: a `TimeSeries`, a selector, a window. Out: the bytes of `data.result`.

Why it is fast: a policy's step asks for thousands of series, so nothing is encoded twice. The series that a selector matches are found
once, and looked at again only for series that are new; the label part of each is encoded once. Values are turned to text only where they
differ from the sample before, whole numbers by way of integers, and lines are filled into one template for all series that have
samples at the same moments.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.stands.twin.series_selectors import Matcher, Selector
from otel_control_gym.stands.twin.time_series import Numbers, TimeSeries, Values, Window

__all__ = ("SCRAPED_JOB", "Answers", "Selection", "sample_text")

_MS = 1_000_000  #: nanoseconds
_EXACT = 2.0**53  #: whole numbers up to here are exact
_CACHED = 64  #: selections kept; a collector asks the same few again and again
SCRAPED_JOB = "kubernetes-nodes-cadvisor"  #: scraped, so its series get stale markers; the others come by OTLP

Texts = npt.NDArray[np.object_]


class Selection:
    """The series that a selector matches, in the order of their labels, and the encoded beginning of each one's answer."""

    def __init__(self, matchers: tuple[Matcher, ...], series: TimeSeries) -> None:
        self.matchers = matchers
        self.numbers: Numbers = np.empty(0, np.int64)
        self.heads: list[str] = []  #: `{"metric":{...},`
        self.scraped: npt.NDArray[np.bool_] = np.empty(0, np.bool_)
        self._series = series
        self._seen = 0
        self._removals = 0
        self._found: list[tuple[tuple[tuple[str, str], ...], int, str, bool]] = []
        self._verdicts: list[dict[str, bool]] = [{} for _ in matchers]  #: of each matcher on each value seen

    def refresh(self) -> None:
        """Take in the series that were declared since the last time, and let those go that were forgotten."""
        if self._removals != self._series.removals:
            self._removals = self._series.removals
            self._found = [entry for entry in self._found if entry[1] in self._series.labels]
        elif self._seen == self._series.declared:
            return
        for number in range(self._seen, self._series.declared):
            labels = self._series.labels.get(number)
            if labels is not None and self._is_selected(labels):
                head = f'{{"metric":{msgspec.json.encode(labels).decode()},'
                insort(self._found, (tuple(labels.items()), number, head, labels.get("job") == SCRAPED_JOB))
        self._seen = self._series.declared
        self.numbers = np.array([number for _, number, _, _ in self._found], np.int64)
        self.heads = [head for _, _, head, _ in self._found]
        self.scraped = np.array([scraped for _, _, _, scraped in self._found], np.bool_)

    def _is_selected(self, labels: Mapping[str, str]) -> bool:
        for matcher, verdicts in zip(self.matchers, self._verdicts, strict=True):
            value = labels.get(matcher.label, "")
            verdict = verdicts.get(value)
            if verdict is None:
                verdict = verdicts[value] = matcher.accepts(value)
            if not verdict:
                return False
        return True


class Answers:
    """Answers queries on one run's series."""

    def __init__(self, series: TimeSeries) -> None:
        self.series = series
        self._selections: dict[tuple[Matcher, ...], Selection] = {}

    def select(self, matchers: tuple[Matcher, ...]) -> Selection:
        """Return what the matchers select now."""
        selection = self._selections.pop(matchers, None) or Selection(matchers, self.series)
        self._selections[matchers] = selection
        if len(self._selections) > _CACHED:
            del self._selections[next(iter(self._selections))]
        selection.refresh()
        return selection

    def matrix(self, selector: Selector, until: int) -> bytes:
        """Return the raw samples in (until - range, until], each with its own time."""
        assert selector.range_ms is not None
        selection = self.select(selector.matchers)
        window = self.series.window(selection.numbers, until - selector.range_ms * _MS, until)
        return _list(_matrix(selection.heads, window))

    def vector(self, selector: Selector, at: int, lookback: int) -> bytes:
        """Return each series' newest sample that is younger than `lookback` [ns], stamped with `at`."""
        selection = self.select(selector.matchers)
        values = self._newest(selection, np.array([at], np.int64), lookback)[0]
        present = np.flatnonzero(~np.isnan(values))
        stamp = _seconds(at)
        texts = _texts(values[present])
        return _list(
            f'{selection.heads[row]}"value":[{stamp},"{text}"]}}'
            for row, text in zip(present.tolist(), texts, strict=True)
        )

    def steps(self, selector: Selector, start: int, end: int, step: int, lookback: int) -> bytes:
        """Return, for each moment start, start + step, ... up to `end`, each series' newest sample younger than `lookback`."""
        selection = self.select(selector.matchers)
        moments = np.arange(start, end + 1, step, dtype=np.int64)
        return _list(_matrix(selection.heads, Window(moments, self._newest(selection, moments, lookback))))

    def alive(self, matchers: tuple[Matcher, ...], after: int, until: int) -> list[int]:
        """Return the numbers of the matching series that have a sample in (after, until]."""
        selection = self.select(matchers)
        window = self.series.window(selection.numbers, after, until)
        present = (
            ~np.isnan(window.values).all(axis=0) if len(window.times) else np.zeros(len(selection.numbers), np.bool_)
        )
        return [int(number) for number in selection.numbers[present]]

    def _newest(self, selection: Selection, moments: npt.NDArray[np.int64], lookback: int) -> Values:
        """Return [moments, series]: the newest sample in (moment - lookback, moment], or NaN."""
        window = self.series.window(selection.numbers, int(moments[0]) - lookback, int(moments[-1]))
        if not len(window.times):
            return np.full((len(moments), len(selection.numbers)), np.nan)
        scrapes = np.arange(len(window.times))[:, None]
        newest = np.where(np.isnan(window.values), -1, scrapes)
        # A scrape that finds a series gone leaves a stale marker; what came by OTLP just ages.
        aging = ~selection.scraped
        newest[:, aging] = np.maximum.accumulate(newest[:, aging], axis=0)
        own = np.maximum.accumulate(np.where(window.parts[:, None] == window.part_of, scrapes, -1), axis=0)
        newest = np.where(own < 0, -1, np.take_along_axis(newest, np.maximum(own, 0), axis=0))
        scrape = np.searchsorted(window.times, moments, side="right") - 1
        chosen = newest[np.maximum(scrape, 0)]
        found = np.take_along_axis(window.values, np.maximum(chosen, 0), axis=0)
        missing = (chosen < 0) | (scrape < 0)[:, None] | (window.times[chosen] <= moments[:, None] - lookback)
        return np.where(missing, np.nan, found)


def sample_text(value: float) -> str:
    """Return a sample as Prometheus writes it: the shortest decimal that reads back the same, without an exponent."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if "e" in text:
        return np.format_float_positional(value, trim="-")
    return text.removesuffix(".0")


def _matrix(heads: list[str], window: Window) -> Iterator[str]:
    """Yield each series' JSON object; series without a sample are left out: those of pods that are gone are many."""
    alive = np.flatnonzero(~np.isnan(window.values).all(axis=0))
    heads, values = [heads[column] for column in alive.tolist()], window.values[:, alive]
    present: npt.NDArray[np.bool_] = ~np.isnan(values)
    texts = _window_texts(values)
    stamps = [_seconds(time) for time in window.times.tolist()]
    templates: dict[bytes, str] = {}
    rows = texts.T.tolist()
    whole: list[bool] = np.all(present, axis=0).tolist()
    full = _template(stamps)
    for column, head in enumerate(heads):
        if whole[column]:
            yield head + full % tuple(rows[column])
            continue
        mask = present[:, column]
        key = mask.tobytes()
        if key not in templates:
            templates[key] = _template([stamp for stamp, there in zip(stamps, mask, strict=True) if there])
        yield head + templates[key] % tuple(text for text, there in zip(rows[column], mask, strict=True) if there)


def _template(stamps: list[str]) -> str:
    return '"values":[' + ",".join(f'[{stamp},"%s"]' for stamp in stamps) + "]}"


def _window_texts(values: Values) -> Texts:
    """Return the samples as text [T, M]; those that equal the one before aren't made again. Where there is none, it means nothing."""
    texts = np.empty(values.shape, np.object_)
    before = np.full(values.shape[1], np.nan)
    for row, now in enumerate(values):
        texts[row] = texts[row - 1]
        changed = np.flatnonzero((now != before) & ~np.isnan(now))
        texts[row, changed] = _texts(now[changed])
        before = now
    return texts


def _texts(values: Values) -> list[str]:
    if not len(values):
        return []
    with np.errstate(invalid="ignore"):
        integral = (np.floor(values) == values) & (np.abs(values) < _EXACT)
    if integral.all():
        return _encoded(values.astype(np.int64).tolist())
    if not integral.any():
        return _float_texts(values)
    texts = np.empty(len(values), np.object_)
    texts[integral] = _encoded(values[integral].astype(np.int64).tolist())
    texts[~integral] = _float_texts(values[~integral])
    found: list[str] = texts.tolist()
    return found


def _float_texts(values: Values) -> list[str]:
    """Return floats as `sample_text` does, by way of one JSON array where none of them needs an exponent."""
    plain = np.abs(values)
    if ((plain > 1e-3) & (plain < _EXACT)).all():
        return _encoded(values.tolist())
    return [sample_text(value) for value in values.tolist()]


def _encoded(values: list[int] | list[float]) -> list[str]:
    return msgspec.json.encode(values)[1:-1].decode().split(",")


def _seconds(time: int) -> str:
    """Return a time [ns] as Unix seconds with up to three decimals, as Prometheus writes it."""
    whole, rest = divmod(time // _MS, 1000)
    return f"{whole}.{rest:03d}" if rest else str(whole)


def _list(parts: Iterable[str]) -> bytes:
    return ("[" + ",".join(parts) + "]").encode()
