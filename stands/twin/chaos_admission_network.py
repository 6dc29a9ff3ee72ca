"""Chaos Mesh's webhook for NetworkChaos.

In: the spec of a NetworkChaos. Out: the spec with defaults, or an `ApiError`.

Accepted is what the simulated network can do: delay, loss, corruption (a corrupted packet is a lost one to TCP, which checks sums),
any of them together (`netem`), and partition. Duplication (TCP drops the second packet unseen, so there would be no effect to see),
reordering, rates and bandwidth are denied with that reason. A netem action without a block passes, as at the real webhook, and
fails when it is applied.
"""

from __future__ import annotations

from collections.abc import Callable

from otel_control_gym.stands.twin.api_errors import invalid
from otel_control_gym.stands.twin.chaos_quantities import LATENCY, share
from otel_control_gym.stands.twin.chaos_refusals import check_fields, check_type, denied, unmodelled, unsupported
from otel_control_gym.stands.twin.objects import NETWORK_CHAOS, Object

__all__ = ("admit_network",)

_ACTIONS = ("netem", "delay", "loss", "duplicate", "corrupt", "partition", "bandwidth")
_DIRECTIONS = ("to", "from", "both")
_UNMODELLED = {
    "duplicate": "duplicate packets: TCP drops them unseen",
    "rate": "rates of a network interface",
    "bandwidth": "the bandwidth of a network interface",
}


def admit_network(name: str, spec: Object, admit_selection: Callable[[str, Object], None]) -> None:
    """Fill in defaults, and check.

    Args:
        name: of the object.
        spec: its spec, changed in place.
        admit_selection: checks a selector with its mode at a path.

    Raises: ApiError: the schema or the webhook refuses it.
    """
    action = spec.get("action")
    if action not in _ACTIONS:
        raise unsupported(NETWORK_CHAOS, name, "spec.action", action, _ACTIONS)
    for block, what in _UNMODELLED.items():
        if action == block or spec.get(block):
            raise unmodelled(NETWORK_CHAOS, name, what)
    direction = spec.setdefault("direction", "to")
    if direction not in _DIRECTIONS:
        raise unsupported(NETWORK_CHAOS, name, "spec.direction", direction, _DIRECTIONS)
    target, external = spec.get("target"), spec.get("externalTargets") or []
    if target is not None:
        check_type(NETWORK_CHAOS, name, "spec.target", target, dict)
        admit_selection("spec.target", target)
    check_type(NETWORK_CHAOS, name, "spec.externalTargets", external, list)
    for index, entry in enumerate(external):
        check_type(NETWORK_CHAOS, name, f"spec.externalTargets[{index}]", entry, str)
    if action != "partition" and direction != "to":
        if external:
            problem = "external targets cannot be used with `from` and `both` direction in netem action yet"
            raise denied(NETWORK_CHAOS, name, "Spec.Direction", direction, problem)
        if target is None:
            problem = "`from` and `both` direction cannot be used when targets is empty in netem action"
            raise denied(NETWORK_CHAOS, name, "Spec.Direction", direction, problem)
    if spec.get("delay") is not None:
        _admit_delay(name, spec["delay"])
    for block in ("loss", "corrupt"):
        if spec.get(block) is not None:
            _admit_share(name, block, spec[block])


def _admit_delay(name: str, delay: Object) -> None:
    check_type(NETWORK_CHAOS, name, "spec.delay", delay, dict)
    check_fields("spec.delay", delay, ("latency", "jitter", "correlation", "reorder"))
    if delay.get("reorder"):
        raise unmodelled(NETWORK_CHAOS, name, "reordering")
    delay |= {"jitter": delay.get("jitter", "0ms"), "correlation": delay.get("correlation", "0")}
    for key in ("latency", "jitter"):
        if not isinstance(delay.get(key), str) or LATENCY.fullmatch(delay[key]) is None:
            problem = f"Invalid value: \"{delay.get(key)}\": should match '^[0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h)$'"
            raise invalid(NETWORK_CHAOS, name, f"spec.delay.{key}", problem)
    _check_number(name, "delay", "correlation", delay["correlation"])


def _admit_share(name: str, block: str, value: Object) -> None:
    check_type(NETWORK_CHAOS, name, f"spec.{block}", value, dict)
    check_fields(f"spec.{block}", value, (block, "correlation"))
    value.setdefault("correlation", "0")
    for key in (block, "correlation"):
        check_type(NETWORK_CHAOS, name, f"spec.{block}.{key}", value.get(key), str)
        _check_number(name, block, key, value[key])


def _check_number(name: str, block: str, key: str, text: object) -> None:
    if share(text) is None:
        field = f"Spec.{block.capitalize()}.{key.capitalize()}"
        raise denied(NETWORK_CHAOS, name, field, text, f'strconv.ParseFloat: parsing "{text}": invalid syntax')
