"""Episodes with degraded telemetry, through the public face: reproducible, observed as tabled, and clean again on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.archive import read_archive
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.events import CleanSamples, CollectorGap
from otel_control_gym.engine.rebuild import rebuild
from otel_control_gym.engine.settings import RunConfig


def short(telemetry: str | None = None, **distortion: Any) -> RunConfig:
    """A minute and a half of control; `distortion` replaces fields of the packaged telemetry's."""
    config = ocg.resolve("small-core", workload="steady", telemetry=telemetry, seed=7)
    record = config.public.telemetry
    changed = msgspec.convert(msgspec.to_builtins(record.distortion) | distortion, type(record.distortion))
    public = msgspec.structs.replace(
        config.public, horizon_seconds=90, telemetry=msgspec.structs.replace(record, distortion=changed)
    )
    return msgspec.structs.replace(config, public=public)


async def played(config: RunConfig, data_dir: Path, action: dict[str, Any] | None = None) -> tuple[Path, Any]:
    """Play an episode and return its directory and its last observation."""
    async with ocg.make(config, data_dir=data_dir) as env:
        await env.reset()
        await env.step(action or {"type": "noop"})
        observation, _, _, _ = await env.step({"type": "noop"}, dt=60)
    return env.run_dir, observation


def columns(directory: Path, table: str = "node_features") -> Any:
    return pq.read_table(directory / f"{table}.parquet").drop(["run_id"])


def metadata(directory: Path) -> Any:
    return json.loads((directory / "metadata.json").read_text())


LOSSES = {
    "scrapes": {"share": 0.2, "burst": 2.0},
    "targets": {"share": 0.2, "burst": 2.0},
    "silences": {"spans": {"share": 0.5, "seconds": 20.0}, "workload": {"share": 0.3, "seconds": 20.0}},
    "noise": {"factors": {"node.cpu_seconds": 0.1}},
}


async def test_the_clean_tables_are_those_of_the_run_without_distortion(tmp_path: Path) -> None:
    plain, _ = await played(short(), tmp_path)
    lossy, _ = await played(short("lossy", **LOSSES), tmp_path)
    clean = rebuild(lossy, clean=True)
    for table in ("node_features", "edge_features", "rewards", "spans", "control_inputs", "weak_labels"):
        assert columns(clean, table).equals(columns(plain, table)), table
    assert not columns(lossy).equals(columns(plain))
    assert (metadata(clean)["clean"], metadata(lossy)["clean"]) == (True, False)
    assert metadata(lossy)["distortion"]["scrapes"] == LOSSES["scrapes"]
    assert metadata(plain)["distortion"] is None
    with pytest.raises(UsageError, match="keeps no clean telemetry"):
        rebuild(plain, clean=True)
    assert not plain.with_name(f"clean_rebuilt_of_{plain.name}").exists()


async def test_the_same_seed_gives_the_same_log_and_the_observation_is_the_table(tmp_path: Path) -> None:
    one, observation = await played(short("lossy", **LOSSES), tmp_path)
    other, _ = await played(short("lossy", **LOSSES), tmp_path)
    assert metadata(one)["content_digest"] == metadata(other)["content_digest"]
    table = columns(one)
    starts = [moment * 1000 for moment in table["time"].cast("int64").to_pylist()]
    cells = {(start, row["service"]): row for start, row in zip(starts, table.to_pylist(), strict=True)}
    masked = 0
    for t, n, f in np.ndindex(observation.nodes.shape):
        row = cells.get((int(observation.time[t]), observation.node_names[n]))
        if observation.node_mask[t, n, f]:
            assert row is not None
            assert row[observation.node_features[f]] == observation.nodes[t, n, f]
        elif row is not None:
            assert row[observation.node_features[f]] is None
            masked += 1
    assert masked > 100
    gaps = [entry.event for entry in read_archive(one / "event_log.zst") if isinstance(entry.event, CollectorGap)]
    assert {gap.source for gap in gaps} == {"metrics", "spans", "workload"}
    assert any(gap.services for gap in gaps)


async def test_an_action_on_a_hidden_service_takes_effect_unseen(tmp_path: Path) -> None:
    config = short("partial")
    async with ocg.make(config, data_dir=tmp_path) as env:
        observation = await env.reset()
        _, _, _, info = await env.step({"type": "scale", "target": "currency", "replicas": 2})
        observation, _, _, after = await env.step({"type": "noop"})
    settled = [info["action"], *info["settled"], *after["settled"]]
    assert any(record is not None and record.status == "applied" and record.effective is not None for record in settled)
    node = list(observation.node_names).index("currency")
    numbers = [place for place, name in enumerate(observation.node_features) if name != "coverage"]
    assert np.isnan(observation.nodes[:, node][:, numbers]).all()
    entries = list(read_archive(env.run_dir / "event_log.zst"))
    assert any(isinstance(entry.event, CleanSamples) and entry.truth for entry in entries)
    clean = columns(rebuild(env.run_dir, clean=True))
    ready = [
        row["replicas_ready"]
        for row in clean.select(["service", "replicas_ready"]).to_pylist()
        if row["service"] == "currency"
    ]
    assert ready[0] == 1
    assert 2 in ready
