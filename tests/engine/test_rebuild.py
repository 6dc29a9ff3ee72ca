"""A rebuild answers what the log can answer, refuses the rest with both values, and leaves nothing half-made."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_control_gym as ocg
from otel_control_gym.engine.archive import (
    ARCHIVE_NAME,
    content_digest,
    export_archive,
    read_archive,
    survey_archive,
)
from otel_control_gym.engine.codec import split
from otel_control_gym.engine.configuration_checks import check_rows
from otel_control_gym.engine.envelope import Message, RunName, genesis, seal
from otel_control_gym.engine.events import ClockAdvanced, Event, GraphObserved, RunDeclared, RunEnded
from otel_control_gym.engine.rebuild import rebuilt_granularity
from otel_control_gym.engine.run_log import RunReader
from otel_control_gym.engine.settings import Granularity
from otel_control_gym.projections import validate, write_dataset

RUN = Granularity()
CHOSEN = (
    "observation_bucket_seconds",
    "observation_window_seconds",
    "reward_bucket_seconds",
    "trace_aggregation_seconds",
    "log_pattern_window_seconds",
)
FACTS = tuple(name for name in Granularity.__struct_fields__ if name not in CHOSEN)
BUCKET = "observation_bucket_seconds"


class Streams:
    """The streams of a run of ten minutes without telemetry, as a broker's reader gives them."""

    run = RunName("default", "01TEST")

    async def messages(self, *, truth: bool = False) -> AsyncGenerator[Message, None]:
        """Yield the public stream's messages; the truth stream is empty."""
        head = genesis(self.run, truth=truth)
        for event in () if truth else self._events():
            for part in split(event):
                message = seal(part, self.run, head)
                head = message.head
                yield message

    def _events(self) -> list[Event]:
        declared = RunDeclared(time=0, contract_version=1, settings=ocg.resolve("small-core").public)
        return [
            declared,
            GraphObserved(time=0, nodes=(), edges=()),
            ClockAdvanced(time=600 * 10**9, since=0, decision_step=None, lag_ns=0),
            RunEnded(time=600 * 10**9, reason="horizon"),
        ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's directory."""
    directory = tmp_path_factory.mktemp("campaign") / "service_config=x" / "run_01TEST"
    directory.mkdir(parents=True)
    archive = directory / ARCHIVE_NAME
    anyio.run(export_archive, cast(RunReader, Streams()), archive)
    write_dataset(read_archive(archive), directory, content_digest=content_digest(archive))
    return directory


def metadata(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / "metadata.json").read_text())
    return document


@given(st.sampled_from([5, 10, 15, 20, 30, 45, 60, 90, 120, 300, 600]))
def test_any_bucket_of_whole_scrapes_can_be_rebuilt_and_what_is_not_named_is_made_to_fit(bucket: int) -> None:
    granularity = rebuilt_granularity(RUN, {BUCKET: bucket})
    assert granularity.observation_bucket_seconds == bucket
    check_rows(granularity, "test")
    assert [getattr(granularity, name) for name in FACTS] == [getattr(RUN, name) for name in FACTS]
    for name in CHOSEN[1:]:
        assert getattr(granularity, name) >= getattr(RUN, name)


def test_a_bucket_that_fits_leaves_everything_else_as_it_was() -> None:
    assert rebuilt_granularity(RUN, {BUCKET: 30}) == Granularity(observation_bucket_seconds=30)
    assert rebuilt_granularity(RUN, {}) == RUN


@pytest.mark.parametrize("name", CHOSEN)
def test_what_only_cuts_rows_can_be_chosen_anew(name: str) -> None:
    value = 30 if name == BUCKET else 2 * getattr(RUN, name)
    assert getattr(rebuilt_granularity(RUN, {name: value}), name) == value


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_of_the_run_is_refused_with_the_reason_and_both_values(name: str) -> None:
    own = getattr(RUN, name)
    with pytest.raises(
        ocg.ConfigurationError, match=rf"(?s){name} = {own + 5}: the run has {name} = {own}: .*leave it out"
    ):
        rebuilt_granularity(RUN, {name: own + 5})
    assert rebuilt_granularity(RUN, {name: own}) == RUN


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({BUCKET: 3}, "= 3: shorter than scrape_interval_seconds = 5"),
        ({BUCKET: 12}, "= 12: no multiple of scrape_interval_seconds = 5"),
        ({BUCKET: 0}, "= 0: must be more than 0"),
        ({"reward_bucket_seconds": 15}, "= 15: no multiple of observation_bucket_seconds = 10"),
        ({BUCKET: 30, "observation_window_seconds": 100}, "= 100: no multiple of observation_bucket_seconds = 30"),
        (
            {BUCKET: 20, "reward_bucket_seconds": 20},
            "= 20: neither a multiple nor a divisor of control_step_seconds = 30",
        ),
        ({BUCKET: 60, "log_pattern_window_seconds": 30}, "= 30: no multiple of observation_bucket_seconds = 60"),
    ],
)
def test_times_that_do_not_go_together_are_refused_with_both_values(wanted: dict[str, int], words: str) -> None:
    with pytest.raises(ocg.ConfigurationError, match=words):
        rebuilt_granularity(RUN, wanted)


def test_a_name_that_is_none_of_the_ten_and_half_a_second_are_mistakes() -> None:
    with pytest.raises(ocg.UsageError, match="did you mean 'observation_bucket_seconds'"):
        rebuilt_granularity(RUN, {"observation_bucket": 10})
    with pytest.raises(ocg.UsageError, match="whole number"):
        rebuilt_granularity(RUN, {BUCKET: 7.5})  # type: ignore[dict-item]


def test_the_granularity_of_the_rebuild_and_that_of_the_run_are_recorded(run: Path, tmp_path: Path) -> None:
    rebuilt = ocg.rebuild(run, bucket_seconds=30, granularity={"reward_bucket_seconds": 60}, out=tmp_path / "coarse")
    document = metadata(rebuilt)
    assert (document["granularity_config"][BUCKET], document["granularity_config"]["reward_bucket_seconds"]) == (30, 60)
    assert document["granularity_of_run"] == metadata(run)["granularity_config"]
    assert document["effective_configuration"]["granularity"] == document["granularity_of_run"]
    assert validate(rebuilt) == []


def test_a_rebuild_without_a_wish_is_the_run_byte_for_byte(run: Path, tmp_path: Path) -> None:
    rebuilt = ocg.rebuild(run, out=tmp_path / "again")
    for path in sorted(run.iterdir()):
        if path.name != "metadata.json":
            assert (rebuilt / path.name).read_bytes() == path.read_bytes(), path.name


def test_several_granularities_get_a_directory_each_as_if_made_alone(run: Path, tmp_path: Path) -> None:
    wanted = [{BUCKET: 10}, {BUCKET: 60}, {BUCKET: 60, "reward_bucket_seconds": 120}]
    together = ocg.rebuild_all(run, wanted, out=tmp_path / "all")
    assert [path.name for path in together] == [
        "10s_of_run_01TEST",
        "60s_of_run_01TEST",
        "60s-reward_bucket_120s_of_run_01TEST",
    ]
    for path, granularity in zip(together, wanted, strict=True):
        alone = ocg.rebuild(run, granularity=granularity, out=tmp_path / f"alone {path.name}")
        files = sorted(file.name for file in alone.iterdir())
        assert files == sorted(file.name for file in path.iterdir())
        for name in files:
            assert (path / name).read_bytes() == (alone / name).read_bytes(), name


def test_without_a_place_it_lies_beside_the_run(run: Path) -> None:
    assert ocg.rebuild_all(run, [{BUCKET: 20}]) == [run.with_name("20s_of_run_01TEST")]


def test_the_same_granularity_twice_is_a_mistake(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ocg.UsageError, match="asked for twice"):
        ocg.rebuild_all(run, [{BUCKET: 10}, {BUCKET: 10}], out=tmp_path)


def test_when_one_of_several_cannot_be_made_none_is(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ocg.ConfigurationError, match="= 12"):
        ocg.rebuild_all(run, [{BUCKET: 10}, {BUCKET: 12}], out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_was_cut_off_leaves_nothing_behind(run: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "run_01TEST"
    damaged.mkdir()
    (damaged / "metadata.json").write_bytes((run / "metadata.json").read_bytes())
    (damaged / ARCHIVE_NAME).write_bytes((run / ARCHIVE_NAME).read_bytes()[:-20])
    with pytest.raises(ocg.LogCorrupted, match="cut off"):
        ocg.rebuild_all(damaged, [{BUCKET: 10}, {BUCKET: 30}], out=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_of_a_damaged_log_what_lies_before_the_damage_is_rebuilt_on_request(run: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "run_01TEST"
    damaged.mkdir()
    (damaged / "metadata.json").write_bytes((run / "metadata.json").read_bytes())
    (damaged / ARCHIVE_NAME).write_bytes((run / ARCHIVE_NAME).read_bytes()[:-400])
    made = ocg.rebuild(damaged, recover=True, out=tmp_path / "out")
    sound = survey_archive(damaged / ARCHIVE_NAME)
    kept = [entry.event for entry in read_archive(made / ARCHIVE_NAME)]
    assert 0 < len(kept) == sound.messages < 4
    assert metadata(made)["status"] == "aborted"
    assert metadata(made)["content_digest"] == sound.content_digest == content_digest(made / ARCHIVE_NAME)


def test_recovering_a_whole_log_is_a_rebuild(run: Path, tmp_path: Path) -> None:
    plain, recovered = (ocg.rebuild(run, recover=recover, out=tmp_path / f"run_{recover}") for recover in (False, True))
    for file in plain.iterdir():
        assert file.read_bytes() == (recovered / file.name).read_bytes(), file.name


def test_the_content_digest_is_that_of_the_log_whatever_the_run_says(run: Path, tmp_path: Path) -> None:
    liar = Path(shutil.copytree(run, tmp_path / "run_01TEST"))
    (liar / "metadata.json").write_text(json.dumps(metadata(run) | {"content_digest": "made up"}))
    made = ocg.rebuild(liar, out=tmp_path / "out")
    assert metadata(made)["content_digest"] == content_digest(run / ARCHIVE_NAME)


def test_a_directory_that_is_not_empty_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ocg.UsageError, match="isn't empty"):
        ocg.rebuild(run, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
