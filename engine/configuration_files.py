"""YAML file ➜ settings record, with errors that say where.

In: a kind (`workloads`) and a name or path. Out: the record and the label of the file that it came from. msgspec knows what was
expected and where (`$.services[...].replicas`); what it leaves out is put back here from the document and the type: which key the
`...` was, what stood there, and what would have been accepted. `engine.configuration` puts records together and checks them.

A name is looked for beside the scenario that mentions it (`<its folder>/workloads/<name>.yaml`), then among the packaged ones. A service
configuration may say `extends: NAME`: `engine.configuration_layers` puts it on top of what it extends. Where its `flags` are a name, those
of that file (`configs/flags/`) are taken, as if it extended it in this one key.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
import yaml
from msgspec import inspect

from otel_control_gym.engine.configuration_layers import EXTENDS, Layer, Layers, dotted
from otel_control_gym.engine.errors import ConfigurationError, UsageError, nearest
from otel_control_gym.engine.settings import ServiceConfiguration
from otel_control_gym.engine.synthetic import is_synthetic, synthetic_services

__all__ = ("Kind", "find", "is_path", "label_of", "load", "load_services", "packaged_names", "read")

Kind = Literal[
    "campaigns",
    "effects",
    "episodes",
    "evaluations",
    "flags",
    "granularity",
    "metrics",
    "rewards",
    "scenarios",
    "services",
    "telemetry",
    "workloads",
]
RecordType = TypeVar("RecordType", bound=msgspec.Struct)

_FLAGS: Final = "flags"  #: key of a service configuration, and a kind of file
_SEGMENT = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_SUFFIXES = (".yaml", ".yml")


def is_path(reference: str) -> bool:
    """Return whether a reference is meant as a path (it has a folder or a YAML suffix) and not as a name."""
    return "/" in reference or reference.endswith(_SUFFIXES)


def packaged_names(kind: Kind) -> tuple[str, ...]:
    """Return the names of the packaged files of a kind, sorted."""
    folder = _packaged() / kind
    found = (entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return tuple(sorted(found))


def load(
    kind: Kind, reference: str | Path, record: type[RecordType], *, beside: Path | None = None
) -> tuple[RecordType, str]:
    """Return the record that a name or path stands for, and the label of its file for messages.

    Args:
        beside: folder of the file that mentions the reference; paths are relative to it, names are looked for in it first.

    Raises:
        UsageError: there is no such file.
        ConfigurationError: the file isn't YAML, or doesn't fit the record.
    """
    file = find(kind, str(reference), beside)
    return read(file, record), label_of(file)


def load_services(reference: str, *, beside: Path | None = None) -> tuple[ServiceConfiguration, Layers]:
    """Return the service configuration that a name or path stands for, complete, and the files that it was made of.

    Raises:
        UsageError: there is no such file.
        ConfigurationError: a file isn't YAML or doesn't fit the record, or extends itself or what isn't there.
    """
    if is_synthetic(reference):
        layers = Layers([_synthetic_layer(reference)])
    else:
        layers = Layers(_extended(find("services", reference, beside), ()))
    try:
        return _converted(layers.label, layers.document, ServiceConfiguration), layers
    except ConfigurationError as error:
        raise layers.relocated(error) from error


def read(file: Path | Traversable, record: type[RecordType]) -> RecordType:
    """Return the record in a YAML file.

    Raises:
        UsageError: the file can't be read.
        ConfigurationError: it isn't YAML, or doesn't fit the record.
    """
    return _converted(label_of(file), _document(file), record)


def find(kind: Kind, reference: str, beside: Path | None) -> Path | Traversable:
    """Return the file that a name or path stands for; only what a name stands for is known to exist."""
    if is_path(reference):
        return (beside or Path()) / reference
    for folder in _folders(beside):
        path = folder / kind / f"{reference}.yaml"
        if path.is_file():
            return path
    return _packaged_file(kind, reference)


def _packaged_file(kind: Kind, name: str) -> Traversable:
    if name not in packaged_names(kind):
        raise UsageError(
            f"no file {name!r} in {kind}\n  {nearest(name, packaged_names(kind))}; or give the path of a YAML file"
        )
    return _packaged() / kind / f"{name}.yaml"


def label_of(file: Path | Traversable) -> str:
    """Return what a message calls a file; a packaged one is called as in the repository."""
    path, root = str(file), str(_packaged())
    return f"configs{path.removeprefix(root)}" if path.startswith(root) else path


def _document(file: Path | Traversable) -> Any:
    """Return what a YAML file holds."""
    label = label_of(file)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{label}: can't be read: {reason}\n  give the path of a readable YAML file") from error
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise _unreadable(label, text, error) from error


def _converted(label: str, document: Any, record: type[RecordType]) -> RecordType:
    try:
        return msgspec.convert(document, record)
    except msgspec.ValidationError as error:
        raise _precise(label, document, record, str(error)) from error


def _extended(file: Path | Traversable, extending: tuple[str, ...]) -> list[Layer]:
    """Return the documents of a service configuration and of all that it extends, itself first."""
    label, document = label_of(file), _document(file)
    flags = _flags(file, document)
    if not isinstance(document, dict) or EXTENDS not in document:
        return [Layer(label, document), *flags]
    reference, chain = document.pop(EXTENDS), (*extending, label)
    if is_synthetic(reference):
        return [Layer(label, document), *flags, _synthetic_layer(reference)]
    base = _base(file, str(reference))
    if base is None:
        problem, remedy = "no service configuration is called so", nearest(str(reference), packaged_names("services"))
        raise ConfigurationError(file=label, key=EXTENDS, found=reference, problem=problem, remedy=remedy)
    if label_of(base) in chain:
        problem = f"extends itself: {' -> '.join((*chain, label_of(base)))}"
        raise ConfigurationError(file=label, key=EXTENDS, found=reference, problem=problem, remedy="break the circle")
    return [Layer(label, document), *flags, *_extended(base, chain)]


def _flags(file: Path | Traversable, document: Any) -> list[Layer]:
    """Return the layer of the flags that a service configuration names, and take the name away; nothing if it names none."""
    if not isinstance(document, dict) or not isinstance(document.get(_FLAGS), str):
        return []
    reference = document.pop(_FLAGS)
    beside = None
    if isinstance(file, Path):
        beside = file.parent.parent if file.parent.name == "services" else file.parent
    try:
        found = find(_FLAGS, reference, beside)
        named = _document(found)
    except UsageError as error:
        label = label_of(file)
        problem, remedy = "no file of flags is called so", nearest(reference, packaged_names(_FLAGS))
        raise ConfigurationError(file=label, key=_FLAGS, found=reference, problem=problem, remedy=remedy) from error
    if not isinstance(named, dict) or not isinstance(named.get(_FLAGS), dict):
        problem, remedy = "doesn't hold flags", "write a mapping of flags under the key `flags`"
        raise ConfigurationError(file=label_of(found), key=_FLAGS, found=named, problem=problem, remedy=remedy)
    return [Layer(label_of(found), {_FLAGS: named[_FLAGS]})]


def _base(file: Path | Traversable, reference: str) -> Path | Traversable | None:
    """Return the file that another one extends: in its folder, else the packaged one of that name (also for its namesake)."""
    if isinstance(file, Path):
        if is_path(reference):
            return file.parent / reference
        neighbour = file.parent / f"{reference}.yaml"
        if neighbour.is_file() and (neighbour != file or reference not in packaged_names("services")):
            return neighbour
    return _packaged_file("services", reference) if reference in packaged_names("services") else None


def _synthetic_layer(reference: str) -> Layer:
    return Layer(reference, msgspec.to_builtins(synthetic_services(reference)))


class _UniqueKeyLoader(yaml.CSafeLoader):
    """Refuses a mapping that holds a key twice; YAML's rule is to keep the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping whose keys are all different."""
        seen: list[Any] = []
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    "while reading a mapping", node.start_mark, f"the key {key!r} occurs twice", key_node.start_mark
                )
            seen.append(key)
        return super().construct_mapping(node, deep)


def _packaged() -> Traversable:
    return resources.files("otel_control_gym.configs")


def _folders(beside: Path | None) -> tuple[Path, ...]:
    """Return where names are looked for before the packaged files; a user's tree may have the layout of `configs/`."""
    if beside is None:
        return ()
    return (beside, beside.parent) if beside.name == "scenarios" else (beside,)


def _unreadable(label: str, text: str, error: yaml.YAMLError) -> ConfigurationError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    lines = text.splitlines()
    shown = lines[min(mark.line, len(lines) - 1)].strip() if mark is not None and lines else ""
    return ConfigurationError(
        file=label,
        key="the text" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}",
        found=shown,
        problem=f"not YAML: {problem}",
        remedy="the mistake is there or on the line before",
    )


# --- where msgspec's message points -----------------------------------------------------------------------------------------


def _precise(label: str, document: Any, record: type[msgspec.Struct], message: str) -> ConfigurationError:
    problem, _, path = message.partition(" - at `")
    found, keys = document, _keys(document, record, path.rstrip("`"), message)
    for key in keys:
        found = found[key]
    declared = _type_at(inspect.type_info(record), document, keys)
    accepted = _chosen(declared, found, None)
    field = re.search(r"(?:unknown|required) field `([^`]+)`", problem)
    if field and "unknown" in problem and isinstance(accepted, inspect.StructType):
        keys, found = [*keys, field[1]], found[field[1]]
        problem, remedy = "unknown key", nearest(field[1], (entry.encode_name for entry in accepted.fields))
    elif field:
        tags = _chosen(declared, found, field[1])
        keys, found = [*keys, field[1]], None
        problem, remedy = "missing", "add this key"
        if isinstance(tags, inspect.DictType):
            remedy = _remedy(tags.value_type, found)
    else:
        problem, remedy = problem[:1].lower() + problem[1:], _remedy(accepted, found)
    return ConfigurationError(file=label, key=dotted(keys), found=found, problem=problem, remedy=remedy)


def _keys(document: Any, record: type[msgspec.Struct], path: str, message: str) -> list[str | int]:
    """Return msgspec's path as keys of the document; the name behind a `[...]` is the one whose value alone fails the same way."""
    keys: list[str | int] = []
    for attribute, index in _SEGMENT.findall(path):
        if index == "...":
            keys.append(_culprit(document, record, keys, message))
        else:
            keys.append(int(index) if index else attribute)
    return keys


def _culprit(document: Any, record: type[msgspec.Struct], keys: list[str | int], message: str) -> str:
    names: list[str] = list(_at(document, keys))
    for name in names:
        single = copy.deepcopy(document)
        holder = _at(single, keys)
        for other in names:
            if other != name:
                del holder[other]
        try:
            msgspec.convert(single, record)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return name
    return names[0]


def _at(document: Any, keys: Iterable[str | int]) -> Any:
    for key in keys:
        document = document[key]
    return document


def _type_at(kind: inspect.Type, document: Any, keys: Iterable[str | int]) -> inspect.Type:
    for key in keys:
        kind = _descend(_chosen(kind, document, key), key)
        document = document[key]
    return kind


def _chosen(kind: inspect.Type, found: Any, key: str | int | None) -> inspect.Type:
    """Return which option of a union a value is meant to be: the record that its tag names. The tag itself may be that of any."""
    if not isinstance(kind, inspect.UnionType):
        return kind
    options = [option for option in kind.types if not isinstance(option, inspect.NoneType)]
    tagged = [option for option in options if isinstance(option, inspect.StructType) and option.tag_field is not None]
    if not tagged:
        return kind if key is None else options[0]
    if key == tagged[0].tag_field:
        tags = inspect.LiteralType(values=tuple(str(option.tag) for option in tagged))
        return inspect.DictType(key_type=inspect.StrType(), value_type=tags)
    if not isinstance(found, dict):
        return kind
    return next((option for option in tagged if option.tag == found.get(option.tag_field)), tagged[0])


def _descend(kind: inspect.Type, key: str | int) -> inspect.Type:
    match kind:
        case inspect.StructType():
            return next(field.type for field in kind.fields if field.encode_name == key)
        case inspect.DictType():
            return kind.value_type
        case inspect.VarTupleType():
            return kind.item_type
        case inspect.TupleType():
            return kind.item_types[int(key)]
        case _:
            return inspect.AnyType()


def _remedy(kind: inspect.Type, found: object) -> str:
    match kind:
        case inspect.LiteralType():
            return nearest(str(found), map(str, kind.values))
        case inspect.UnionType():
            return "use " + " or ".join(dict.fromkeys(_name(option) for option in kind.types))
        case _:
            return f"use {_name(kind)}"


def _name(kind: inspect.Type) -> str:
    names: Mapping[type[inspect.Type], str] = {
        inspect.IntType: "a whole number",
        inspect.FloatType: "a number",
        inspect.StrType: "text",
        inspect.BoolType: "true or false",
        inspect.NoneType: "null",
        inspect.DictType: "a mapping",
        inspect.StructType: "a mapping",
        inspect.VarTupleType: "a list",
    }
    if isinstance(kind, inspect.TupleType):
        return f"a list of {len(kind.item_types)} values"
    return names.get(type(kind), "another value")
