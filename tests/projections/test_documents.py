"""The JSON files keep their JSON Schemas, by an implementation that isn't ours; and the schemas say all there is to say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import zstandard

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.events import Recorded
from otel_control_gym.engine.run_documents import read_metadata
from otel_control_gym.projections import data_dictionary, json_schema, write_dataset
from otel_control_gym.projections.documents import DOCUMENTS

KEPT = next((Path(__file__).parents[1] / "contract" / "version_1").glob("campaign=*/service_config=*/run_*"))


@pytest.fixture(scope="module")
def run(eventful: list[Recorded], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "run_01TEST"
    write_dataset(eventful, directory)
    return directory


def instances(directory: Path, file: str) -> list[Any]:
    """Return what the schema is about: the content of a file, or each of its lines."""
    content = (directory / file).read_bytes()
    if not DOCUMENTS[file].lines:
        return [json.loads(content)]
    lines = zstandard.ZstdDecompressor().decompressobj().decompress(content).decode().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("file", DOCUMENTS)
def test_a_schema_is_one_of_draft_2020_12(file: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema(file))
    assert json_schema(file)["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]


@pytest.mark.parametrize("file", DOCUMENTS)
def test_what_is_written_keeps_its_schema(run: Path, file: str) -> None:
    validator = jsonschema.Draft202012Validator(json_schema(file))
    found = instances(run, file)
    assert found
    for instance in found:
        validator.validate(instance)


def completed(written: Any, today: Any) -> Any:
    """Return what an earlier version wrote with the keys that came later, at every depth."""
    if not isinstance(written, dict) or not isinstance(today, dict):
        return written
    return today | {key: completed(value, today.get(key)) for key, value in written.items() if value is not None}


def test_what_version_1_wrote_keeps_it_as_it_is_read_but_for_keys_that_came_later(run: Path) -> None:
    for file in DOCUMENTS:
        validator, today = jsonschema.Draft202012Validator(json_schema(file)), instances(run, file)[0]
        written = instances(KEPT, file) if file != "metadata.json" else [read_metadata(KEPT / file)]
        for instance in written:
            validator.validate(completed(instance, today))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("metadata.json", {"surprise": 1}),
        ("metadata.json", {"status": "fine"}),
        ("metadata.json", {"run_start": "yesterday"}),
        ("metadata.json", {"hashes": {}}),
        ("graph.json", {"edges": [{"source": "cart"}]}),
        ("coroot_findings.json", {"confidence": 2}),
        ("logs.jsonl.zst", {"visibility": "secret"}),
        ("k8s_events.jsonl.zst", {"count": "many"}),
    ],
)
def test_a_schema_refuses_what_breaks_it(run: Path, file: str, change: dict[str, Any]) -> None:
    instance = instances(run, file)[0]
    broken = [instance[0] | change] if isinstance(instance, list) else instance | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json_schema(file)).validate(broken)


def test_every_field_says_what_it_is(run: Path) -> None:
    for file in DOCUMENTS:
        for name, record in json_schema(file)["$defs"].items():
            for field, rule in record["properties"].items():
                assert "$ref" in rule or rule["description"], f"{file}: {name}.{field}"


def test_every_field_that_is_written_is_in_the_dictionary(run: Path) -> None:
    page = data_dictionary()
    for file in DOCUMENTS:
        for instance in instances(run, file):
            for record in instance if isinstance(instance, list) else [instance]:
                missing = [key for key in record if f"| `{key}` |" not in page]
                assert not missing, file


def test_a_file_without_a_schema_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'metadata\.json'"):
        json_schema("metadata.jsn")
