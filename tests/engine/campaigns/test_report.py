"""A report says what is on disk: what is there, what is missing, what is wrong; on one page, and the same for the same runs."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.campaigns.certificate_summaries import CertifiedEffect
from otel_control_gym.engine.campaigns.certificate_tables import write_tables
from otel_control_gym.engine.campaigns.certificates import Certificate, Class
from otel_control_gym.engine.campaigns.facts import gather
from otel_control_gym.engine.campaigns.report import ReportFiles, write_report
from otel_control_gym.engine.campaigns.run_facts import run_facts

RunsOf = Callable[[Path], list[Path]]


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects what a page refers to."""

    VOID = ("img", "meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.references += [found[name] or "" for name in ("src", "href") if name in found]
        self.ids += [found["id"] or ""] if "id" in found else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture(scope="module")
def written(played: Path, tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    """A report on the campaign as it was played; not to be changed."""
    target = tmp_path_factory.mktemp("written") / played.name
    shutil.copytree(played, target)
    return write_report(target)


def test_the_page_holds_everything_and_its_links_lead_somewhere(written: ReportFiles) -> None:
    page = Page(written.html.read_text())
    assert page.open == []
    pictures = [reference for reference in page.references if reference.startswith("data:image/png;base64,")]
    assert len(pictures) == 2  # a stratum each
    assert {reference for reference in page.references if not reference.startswith("data:")} == {
        f"#{name}" for name in page.ids
    }


def test_markdown_shows_the_pictures_that_lie_beside_it_and_whole_tables(written: ReportFiles) -> None:
    text = written.markdown.read_text()
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert len(pictures) == 2
    assert all((written.markdown.parent / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_the_same_runs_give_the_same_report(written: ReportFiles, copied: Path) -> None:
    again = write_report(copied)
    assert again.html.read_bytes() == written.html.read_bytes()
    assert again.markdown.read_bytes() == written.markdown.read_bytes()


def test_what_is_counted_is_what_is_on_disk(played: Path, runs_of: RunsOf) -> None:
    facts = gather(played)
    files = [path for run in runs_of(played) for path in run.iterdir()]
    assert facts.size_bytes == sum(path.stat().st_size for path in files)
    rows = {file.name: file.rows for file in facts.files}
    nodes = [path for path in files if path.name == "node_features.parquet"]
    assert rows["node_features.parquet"] == sum(pq.read_metadata(path).num_rows for path in nodes)
    runs = ocg.open_runs(played, truth=True)
    faults = [row for row in runs.table("actions").to_arrow().to_pylist() if row["action_class"] == "intervention"]
    assert {(row.action_type, row.counts["applied"]) for row in facts.actions} == {("network_delay", len(faults))}
    assert (facts.runs, facts.families, facts.missing, facts.invalid) == (3, 2, (), ())
    assert {row.stratum: (row.planned, row.completed) for row in facts.strata} == {
        "baseline": (1, 1),
        "single_fault": (2, 2),
    }
    assert all(row.coverage_min == 1 and row.short == 0 for row in facts.streams)


def test_a_run_that_is_not_valid_is_named_and_the_others_are_reported(copied: Path, runs_of: RunsOf) -> None:
    unreadable, damaged, _ = runs_of(copied)
    (unreadable / "metadata.json").write_text("{")
    (damaged / "node_features.parquet").unlink()
    written = write_report(copied)
    text = written.markdown.read_text()
    assert (written.invalid, written.missing) == (2, 1)
    for run in (unreadable, damaged):
        assert run.name.removeprefix("run_") in text
    assert "Complete and valid" not in text
    assert "node_features.parquet: " in text


def test_void_and_aborted_runs_and_retries_are_told_by_stratum(copied: Path, runs_of: RunsOf) -> None:
    one, other, third = runs_of(copied)
    stratum = {run: json.loads((run / "metadata.json").read_text())["stratum"] for run in (one, other, third)}
    change(one / "metadata.json", status="aborted")
    change(other / "metadata.json", status="void", void_rule="no-load", void_reason="nothing came")
    change(third / "metadata.json", retry_of="01ABC")
    facts = gather(copied)
    found = {row.stratum: row for row in facts.strata}
    assert sum(row.aborted for row in facts.strata) == found[stratum[one]].aborted == 1
    assert sum(row.void for row in facts.strata) == found[stratum[other]].void == 1
    assert sum(row.retries for row in facts.strata) == found[stratum[third]].retries == 1
    assert found["single_fault"].rate(1) == 0.5
    assert facts.void_rules == {"no-load": 1}
    assert len(facts.missing) == 1  # the aborted one; a void one was played


def test_an_action_of_which_nobody_saw_the_effect_is_listed(copied: Path, runs_of: RunsOf) -> None:
    for run in runs_of(copied):
        file = run / "actions.parquet"
        table = pq.read_table(file)
        status = ["unverified" if kind != "noop" else "applied" for kind in table["action_type"].to_pylist()]
        place = table.schema.get_field_index("status")
        column = pa.array(status).cast(table.schema.field("status").type)
        pq.write_table(table.set_column(place, table.schema.field("status"), column), file)
    (trouble,) = gather(copied).troubles
    assert (trouble.action_type, trouble.status) == ("network_delay", "unverified")
    assert f"| `{trouble.run_id}` |" in write_report(copied).markdown.read_text()


def test_words_from_outside_cannot_become_markup(copied: Path) -> None:
    plan = json.loads((copied / "plan.json").read_text())
    plan["settings"]["description"] = "<script>alert(1)</script>"
    (copied / "plan.json").write_text(json.dumps(plan))
    assert "<script" not in write_report(copied).html.read_text()


def certified(directory: Path, *classes: Class, **meant_masked: str) -> ReportFiles:
    """Write certificates of one kind at `visible`, each of a configuration of its own, and the report."""
    effects = [
        CertifiedEffect(
            key=f"single_fault-{number:04d}",
            run_id="01A",
            action_class="intervention",
            kind="packet_loss",
            target="frontend->cart",
            intensity="visible",
            configuration=f"shop-{number}",
            workload="steady",
            certificate=Certificate(
                method="branches",
                n_branches=8,
                effect_class=name,
                off_target=False,
                first_feature="latency_mean_ms",
                first_entity="cart",
                delay_s=12.345678,
                delay_low_s=10.0,
                delay_high_s=20.0,
                spread_hops=2,
                effect=33.25,
                effect_low=30.0,
                effect_high=36.5,
                unit="ms",
            ),
        )
        for number, name in enumerate(classes)
    ]
    write_tables(directory, effects, meant_masked)
    return write_report(directory)


def test_certificates_are_shown_with_delay_spread_and_size_where_there_are_some(copied: Path) -> None:
    assert "None yet: <code>ocg campaign certify short</code> measures them." in write_report(copied).html.read_text()
    written = certified(copied, "visible", "masked", "visible")
    text, page = written.markdown.read_text(), written.html.read_text()
    assert "| intervention | packet_loss | visible | 2 | 1 | 0 | 2 of 3 | 12.35 | 2 |" in text
    line = "| packet_loss | frontend->cart | visible | shop-1 | steady | masked | no | latency_mean_ms of cart "
    assert line + "| 12.35 (10 to 20) | 2 | +33.25 ms (30 to 36.5) | 8 + 8 branches |" in text
    assert Page(page).open == []
    assert page.count("+33.25 ms (30 to 36.5)") == 3
    assert "mended" not in text + page


def test_a_word_that_most_configurations_dont_keep_is_named_unless_a_reason_says_that_nobody_need_feel_it(
    copied: Path,
) -> None:
    weak = "`visible` packet_loss is visible in 1 of 2 configurations (certificates: 2): "
    for page in (certified(copied, "visible", "masked").html, certified(copied, "visible", "masked").markdown):
        assert weak in page.read_text()
        assert "mended" in page.read_text()
    excused = certified(copied, "visible", "masked", packet_loss="nobody counts packets").markdown.read_text()
    assert "1 of 2 configurations (certificates: 2), and needn't be: nobody counts packets" in excused
    assert "mended" not in excused


def test_what_is_kept_of_a_run_is_small_whatever_its_length(played: Path, runs_of: RunsOf) -> None:
    """So hundreds of them fit: runs are looked at one at a time, and this is all that stays."""
    for run in runs_of(played):
        assert len(pickle.dumps(run_facts(run))) < 16 * 1024


def test_a_campaign_that_is_not_there_is_told_with_the_nearest_name(copied: Path) -> None:
    with pytest.raises(ocg.UsageError, match=r"no campaign 'shirt' in .*\n  did you mean 'short'"):
        write_report(copied.with_name("campaign=shirt"))
    shutil.rmtree(copied)
    with pytest.raises(ocg.UsageError, match="no campaign 'short'"):
        write_report(copied)
