"""Bodies that kubectl (1.32 and later) sends as Protocol Buffers: the same objects as in JSON.

In: the bytes of a body. Out: the object as JSON would have it, or None for a kind that isn't read here.

A body is four magic bytes and a `runtime.Unknown`, whose type says how its raw part is to be read. kubectl falls back to nothing when
such a body is refused, so what it sends for kinds that can be created here is read: a ConfigMap (`create configmap`), an autoscaler of
either version (`autoscale`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError

from otel_control_gym.stands.twin.objects import Object

__all__ = ("MAGIC", "decode")

MAGIC = b"k8s\0"
_PACKAGE = "twin.kubernetes"
# Message -> (number, name, type): a scalar, a message of this table, `[it]` for several, or `map` and `data` (values are text, or bytes).
_MESSAGES: dict[str, tuple[tuple[int, str, str], ...]] = {
    "TypeMeta": ((1, "apiVersion", "string"), (2, "kind", "string")),
    "Unknown": ((1, "typeMeta", "TypeMeta"), (2, "raw", "bytes")),
    "ObjectMeta": (
        (1, "name", "string"),
        (2, "generateName", "string"),
        (3, "namespace", "string"),
        (5, "uid", "string"),
        (6, "resourceVersion", "string"),
        (11, "labels", "map"),
        (12, "annotations", "map"),
    ),
    "CrossVersionObjectReference": ((1, "kind", "string"), (2, "name", "string"), (3, "apiVersion", "string")),
    "Quantity": ((1, "string", "string"),),
    "MetricTarget": (
        (1, "type", "string"),
        (2, "value", "Quantity"),
        (3, "averageValue", "Quantity"),
        (4, "averageUtilization", "int32"),
    ),
    "ResourceMetricSource": ((1, "name", "string"), (2, "target", "MetricTarget")),
    "ContainerResourceMetricSource": ((1, "name", "string"), (2, "target", "MetricTarget"), (3, "container", "string")),
    "MetricSpec": (
        (1, "type", "string"),
        (4, "resource", "ResourceMetricSource"),
        (7, "containerResource", "ContainerResourceMetricSource"),
    ),
    "HPAScalingPolicy": ((1, "type", "string"), (2, "value", "int32"), (3, "periodSeconds", "int32")),
    "HPAScalingRules": (
        (1, "selectPolicy", "string"),
        (2, "policies", "[HPAScalingPolicy]"),
        (3, "stabilizationWindowSeconds", "int32"),
        (4, "tolerance", "Quantity"),
    ),
    "HorizontalPodAutoscalerBehavior": ((1, "scaleUp", "HPAScalingRules"), (2, "scaleDown", "HPAScalingRules")),
    "HorizontalPodAutoscalerSpec": (
        (1, "scaleTargetRef", "CrossVersionObjectReference"),
        (2, "minReplicas", "int32"),
        (3, "maxReplicas", "int32"),
        (4, "metrics", "[MetricSpec]"),
        (5, "behavior", "HorizontalPodAutoscalerBehavior"),
    ),
    "HorizontalPodAutoscaler": ((1, "metadata", "ObjectMeta"), (2, "spec", "HorizontalPodAutoscalerSpec")),
    "HorizontalPodAutoscalerSpecV1": (
        (1, "scaleTargetRef", "CrossVersionObjectReference"),
        (2, "minReplicas", "int32"),
        (3, "maxReplicas", "int32"),
        (4, "targetCPUUtilizationPercentage", "int32"),
    ),
    "HorizontalPodAutoscalerV1": ((1, "metadata", "ObjectMeta"), (2, "spec", "HorizontalPodAutoscalerSpecV1")),
    "ConfigMap": (
        (1, "metadata", "ObjectMeta"),
        (2, "data", "map"),
        (3, "binaryData", "data"),
        (4, "immutable", "bool"),
    ),
}
_READ = {
    ("v1", "ConfigMap"): "ConfigMap",
    ("autoscaling/v1", "HorizontalPodAutoscaler"): "HorizontalPodAutoscalerV1",
    ("autoscaling/v2", "HorizontalPodAutoscaler"): "HorizontalPodAutoscaler",
}  #: the type of a body -> its message


def decode(body: bytes) -> Object | None:
    """Return the object of a body that begins with `MAGIC`; None: its kind isn't read here.

    Raises: ValueError: it is malformed.
    """
    classes = _classes()
    try:
        envelope = classes["Unknown"].FromString(body.removeprefix(MAGIC))
        api_version, kind = envelope.typeMeta.apiVersion, envelope.typeMeta.kind
        if (api_version, kind) not in _READ:
            return None
        message = classes[_READ[api_version, kind]].FromString(envelope.raw)
        item = json_format.MessageToDict(message, preserving_proto_field_name=True)
    except (DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    item = _plain(item)
    metadata = {key: value for key, value in item.get("metadata", {}).items() if value}  # Go writes empty texts
    return {"apiVersion": api_version, "kind": kind, **item, "metadata": metadata}


def _plain(value: Any) -> Any:
    """Return a value with its quantities as texts: a Quantity is a message of one text, which alone is called `string`."""
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"string"}:
        return value["string"]
    return {key: _plain(entry) for key, entry in value.items()}


@cache
def _classes() -> dict[str, Any]:
    """Return the classes of the messages, by name."""
    file = descriptor_pb2.FileDescriptorProto(name="twin/kubernetes.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, type_ in fields:
            _add_field(message, number, field, type_)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


def _add_field(message: Any, number: int, name: str, type_: str) -> None:
    kinds = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=number, label=kinds.LABEL_OPTIONAL)
    if type_.startswith("["):
        field.label, type_ = kinds.LABEL_REPEATED, type_[1:-1]
    if type_ in ("map", "data"):
        entry = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
        entry.options.map_entry = True
        _add_field(entry, 1, "key", "string")
        _add_field(entry, 2, "value", "string" if type_ == "map" else "bytes")
        field.label = kinds.LABEL_REPEATED
        type_ = f"{message.name}.{entry.name}"
    if type_[0].isupper():
        field.type, field.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{type_}"
    else:
        field.type = getattr(kinds, f"TYPE_{type_.upper()}")
