"""The metadata of a run ➜ `README.md` in its directory: for whoever has nothing else, and pandas.

In: the content of `metadata.json`. Out: Markdown. It says what the run was, which files there are, how they are meant to be read and what
every key of `metadata.json` means. Nothing that is truth is told here (a reader of the words mustn't learn what was injected), and
nothing that may be assigned to the run later, such as its status: for those it says where to look.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from otel_control_gym.projections.documents import DOCUMENTS, json_schema
from otel_control_gym.projections.rewards import COMPONENTS
from otel_control_gym.projections.schemas import ARCHIVE, STANDINGS, TABLES

__all__ = ("read_me",)

_ANSWERS = {
    "Is the run sound?": "`status` in `metadata.json`: completed; aborted (it broke off; data up to there); void (the stand was sick "
    "before anything was done: nothing to learn from). Then `void_rule` and `void_reason` say why",
    "How much load was there?": "`control_inputs.parquet`, `name`: offered_rate (asked of the application), served_rate, failed_rate, "
    "users_target, users_active",
    "Which setting held when?": "the other names in `control_inputs.parquet`",
    "Who acted, on what, and what came of it?": "`actions.parquet`: actor, action_type, target, parameters; precheck_status, status, "
    "error, evidence; requested, applied, effective, reverted",
    "What was injected?": "`labels.parquet` where is_fault (truth); it was in force from actual_start to actual_end. Rows that aren't "
    "faults are ordinary actions",
    "What does a monitoring tool say?": "`coroot_findings.json`, `weak_labels.parquet`: suspicions, never truth",
    "Which telemetry is missing?": "`events.parquet` where type is gap: the source is in reason, the services in object (empty: all); "
    "`streams` in `metadata.json` for the whole run",
    "Who calls whom?": "`graph.json`",
    "What made it?": "`gym_api_version`, `git_shas`, `versions`, `chart_versions`, `image_digests`, `hashes` in `metadata.json`",
    "Is it unchanged?": "SHA-256 of each file under `hashes` in `metadata.json`; `ocg validate` checks all of it",
}


def read_me(metadata: dict[str, Any]) -> str:
    """Return the page that lies beside a run's files, Markdown."""
    return (
        "\n".join([*_run(metadata), *_files(), *_conventions(metadata), *_answers(), *_rewards(metadata), *_keys()])
        + "\n"
    )


def _run(metadata: dict[str, Any]) -> Iterator[str]:
    stand = "a simulated cluster (the twin)" if metadata["stand"] == "twin" else "a real Kubernetes cluster"
    clock = (
        "a virtual clock; `wall_time` in `metadata.json` is when it was made" if metadata["stand"] == "twin" else "UTC"
    )
    times, owed = metadata["granularity_config"], metadata["effective_configuration"]["reward"]["objective"]
    commit = metadata["git_shas"].get("otel-control-gym", "")
    yield from (
        f"# Run {metadata['run_id']}",
        "",
        f"A recorded episode: the application `{metadata['service_config']}` on {stand} under load,",
        "with somebody or something that may act, and faults that may be injected.",
        f"From {metadata['run_start']} to {metadata['run_end']} ({clock}): {times['warmup_seconds']} s of warm-up,",
        f"then control with a decision every {times['control_step_seconds']} s, then {times['cooldown_seconds']} s of cool-down.",
        "",
        f"The promise to users (SLO): at `{owed['service']}`, {owed['availability']:.6g} of the demand answered without error,",
        f"and {owed['latency_share']:.6g} of the answers within {owed['latency_ms']:.6g} ms,",
        f"judged in each {times['reward_bucket_seconds']} s.",
        "",
        f"Written by otel-control-gym {metadata['gym_api_version']}{f' (commit {commit})' if commit else ''}",
        f"under version {metadata['contract_version']} of its data contract; licence of the data: {metadata['data_licence']}.",
        _telemetry(metadata),
    )


def _telemetry(metadata: dict[str, Any]) -> str:
    if metadata["clean"]:
        return (
            "The telemetry of the run was degraded on purpose; these tables are made of what it was before (`clean`)."
        )
    if metadata["distortion"] is not None:
        return "The telemetry was degraded on purpose before it was recorded: `distortion` in `metadata.json` says how."
    return "The telemetry is as the stand gave it; nothing was degraded on purpose."


def _files() -> Iterator[str]:
    yield from ("", "## Files", "", "| file | a row or line is, or it holds |", "|---|---|")
    for table in TABLES:
        yield f"| `{table.file}` | {table.row} |"
    for name, document in DOCUMENTS.items():
        yield f"| `{name}` | {document.holds} |"
    yield f"| `{ARCHIVE}` | all events of the run in order, of which every other file can be made again, by `ocg rebuild` |"


def _conventions(metadata: dict[str, Any]) -> Iterator[str]:
    times = metadata["granularity_config"]
    yield from (
        "",
        "## How to read them",
        "",
        "- Every column's unit, meaning and rule (how a cell comes about, when it is null) are in the file:",
        "  `pyarrow.parquet.read_schema(FILE)`, then `.field(COLUMN).metadata`. The rules are also in `metadata.json` under `columns`.",
        "- Files that end in `.jsonl.zst` have a JSON object a line: `pandas.read_json(FILE, lines=True)`, with the package zstandard.",
        "- A row of a bucket or window carries its start, and tells of [start, end); all of them are aligned to `run_start`.",
        f"  Their widths: {times['observation_bucket_seconds']} s, of rewards {times['reward_bucket_seconds']} s,",
        f"  of traces {times['trace_aggregation_seconds']} s, of log patterns and error summaries {times['log_pattern_window_seconds']} s.",
        "- Null is unknown, and 0 is a measured zero. `coverage` in a row is the share of its expected readings that arrived.",
        "- `visibility` of a row: public (a policy could know it) or truth (only in hindsight: what was injected, labels).",
        "- `standing` of a column, in its metadata:",
        "",
        "| standing | means |",
        "|---|---|",
        *(f"| {standing} | {meaning} |" for standing, meaning in STANDINGS.items()),
        "",
        "A model's input mustn't hold anything that is truth: `ground_truth` in `metadata.json` lists columns, files and keys.",
        "What came of an action (status, effective, evidence) is an outcome: it wasn't known when the action was requested.",
    )


def _answers() -> Iterator[str]:
    yield from ("", "## Where is", "", "| question | answer |", "|---|---|")
    for question, answer in _ANSWERS.items():
        yield f"| {question} | {answer} |"


def _rewards(metadata: dict[str, Any]) -> Iterator[str]:
    weights = metadata["effective_configuration"]["reward"]["weights"]
    yield from (
        "",
        "## Components of the reward",
        "",
        "`value` is the sum of weight x component; a component of weight 0 is stored, too.",
        "",
        "| component | unit | weight | meaning, per reward bucket |",
        "|---|---|---|---|",
    )
    for name, component in COMPONENTS.items():
        yield f"| `{name}` | {component.unit} | {weights.get(name, 0.0):g} | {component.meaning} |"


def _keys() -> Iterator[str]:
    schema = json_schema("metadata.json")
    definitions = schema["$defs"]
    properties = definitions[schema["$ref"].rpartition("/")[2]]["properties"]
    yield from ("", "## Keys of metadata.json", "", "| key | meaning |", "|---|---|")
    for key, rule in properties.items():
        described = rule.get("description") or definitions[rule["$ref"].rpartition("/")[2]]["description"]
        yield f"| `{key}` | {described} |"
