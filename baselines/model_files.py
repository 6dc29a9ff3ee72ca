"""A trained model as files: `model.joblib`, and `metadata.json`, which says what it is and how it came about.

In: a model of plain structs, arrays and scikit-learn's estimators. Out: a directory; written under another name first and then renamed. A
model file is a program (joblib reads pickles): it is loaded only if its digest is the one in its metadata, and only files of your own
should be.

Blocking.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib  # scikit-learn's own
import msgspec

from otel_control_gym.baselines.evaluations import Task
from otel_control_gym.engine.errors import DatasetError, UsageError
from otel_control_gym.engine.run_collections import open_runs
from otel_control_gym.projections import CONTRACT_VERSION

__all__ = ("ModelMetadata", "campaign_digest", "load_model", "metadata_of", "model_metadata", "save_model")

_MODEL, _METADATA = "model.joblib", "metadata.json"
_LIBRARIES = ("joblib", "numpy", "scikit-learn", "scipy")


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept about a model."""

    baseline: str
    campaign: str
    campaign_digest: str  #: of the content of the runs that there were
    split: str
    split_digest: str  #: empty: `crossed`, which follows from the families
    seeds: tuple[int, ...]
    features: tuple[str, ...]  #: what it reads
    contract_version: int  #: of the data
    gym_version: str
    libraries: dict[str, str]
    model_sha256: str = ""


def metadata_of(name: str, task: Task, *, features: Sequence[str]) -> ModelMetadata:
    """Return what is kept about a model that was trained by a task."""
    path = task.directory / "splits" / f"{task.split}.json"
    split = msgspec.json.decode(path.read_bytes()) if path.is_file() else {}
    return model_metadata(
        name,
        campaign=task.directory.name.removeprefix("campaign="),
        campaign_digest=campaign_digest(task.directory),
        split=task.split,
        split_digest=split.get("digest", ""),
        seeds=task.seeds,
        features=features,
    )


def model_metadata(
    name: str,
    *,
    campaign: str,
    campaign_digest: str,
    split: str,
    split_digest: str,
    seeds: Sequence[int],
    features: Sequence[str],
) -> ModelMetadata:
    """Return what is kept about a model, with the versions of what made it; for the arguments see `ModelMetadata`."""
    return ModelMetadata(
        baseline=name,
        campaign=campaign,
        campaign_digest=campaign_digest,
        split=split,
        split_digest=split_digest,
        seeds=tuple(seeds),
        features=tuple(features),
        contract_version=CONTRACT_VERSION,
        gym_version=version("otel-control-gym"),
        libraries={library: version(library) for library in _LIBRARIES},
    )


def campaign_digest(directory: Path) -> str:
    """Return a digest of all that was recorded in a campaign's runs, void ones left out."""
    digests = sorted(run.content_digest for run in open_runs(directory))
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def save_model(directory: Path, model: Any, metadata: ModelMetadata) -> ModelMetadata:
    """Write a model into a directory, in the place of what was there, and return its metadata with the digest."""
    draft = directory.with_name(f".{directory.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    joblib.dump(model, draft / _MODEL, compress=3)
    digest = hashlib.sha256((draft / _MODEL).read_bytes()).hexdigest()
    metadata = msgspec.structs.replace(metadata, model_sha256=digest)
    (draft / _METADATA).write_bytes(msgspec.json.format(msgspec.json.encode(metadata), indent=1) + b"\n")
    shutil.rmtree(directory, ignore_errors=True)
    draft.replace(directory)
    return metadata


def load_model(directory: Path, task: Task | None = None) -> tuple[Any, ModelMetadata]:
    """Return a model and what is kept about it; with a task, only if it was trained on that campaign's split.

    Raises: DatasetError: a file is missing or was changed. UsageError: the split has changed since.
    """
    try:
        metadata = msgspec.json.decode((directory / _METADATA).read_bytes(), type=ModelMetadata)
        content = (directory / _MODEL).read_bytes()
    except (OSError, msgspec.MsgspecError) as error:
        raise DatasetError(
            f"{directory} holds no model that can be read: {error}\n  `ocg baseline train` makes one"
        ) from error
    if hashlib.sha256(content).hexdigest() != metadata.model_sha256:
        raise DatasetError(
            f"{directory / _MODEL} isn't what its metadata says\n  `ocg baseline train {metadata.baseline}` makes it anew"
        )
    if task is not None:
        now = metadata_of(metadata.baseline, task, features=())
        if now.split_digest != metadata.split_digest:
            raise UsageError(
                f"{directory}: trained on another version of split {metadata.split!r}: it may have seen what it would be scored on\n"
                f"  `ocg baseline train {metadata.baseline}` trains it anew"
            )
    return joblib.load(directory / _MODEL), metadata
