"""Which pods a chaos object hits: its selector and mode ➜ pods, chosen once.

In: a selector, a mode, the pods that exist. Out: the chosen ones, by name.

The real controller draws `one` and the like from the system's randomness; here the draw is keyed by the object's name, so that a run
can be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_control_gym.engine.randomness import derive_seed, draw_bits
from otel_control_gym.stands.twin.objects import Object
from otel_control_gym.stands.twin.selectors import field_value

__all__ = ("UnknownNode", "choose", "matches")


class UnknownNode(Exception):
    """Raised when a selector names a node that isn't there."""

    def __init__(self, name: str) -> None:
        super().__init__(f'Node "{name}" not found')


def matches(selector: Object, pod: Object, nodes: Mapping[str, Mapping[str, str]]) -> bool:
    """Return whether a pod fulfils a chaos selector; `nodes` holds the labels of each node."""
    metadata = pod["metadata"]
    if selector.get("pods"):  # then every other field is ignored
        return metadata["name"] in selector["pods"].get(metadata["namespace"], ())
    labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
    return bool(
        metadata["namespace"] in selector["namespaces"]
        and all(labels.get(key) == value for key, value in (selector.get("labelSelectors") or {}).items())
        and all(annotations.get(key) == value for key, value in (selector.get("annotationSelectors") or {}).items())
        and all(field_value(pod, key) == value for key, value in (selector.get("fieldSelectors") or {}).items())
        and all(_fulfils(expression, labels) for expression in selector.get("expressionSelectors") or ())
        and _phase(selector.get("podPhaseSelectors") or (), pod["status"]["phase"])
        and _node(selector, pod["spec"].get("nodeName", ""), nodes)
    )


def choose(
    selection: Object, pods: list[Object], nodes: Mapping[str, Mapping[str, str]], *, seed: int, entity: str
) -> list[Object]:
    """Return the pods that a selection (selector, mode, value) picks, by name.

    Args:
        selection: the spec, or its `target`.
        pods: candidates.
        nodes: the labels of each node.
        seed: of the run.
        entity: whose draw it is: the chaos object and the selector's key.

    Raises: UnknownNode: the selector names one that isn't there.
    """
    for name in selection["selector"].get("nodes") or ():
        if name not in nodes:
            raise UnknownNode(name)
    found = sorted(
        (pod for pod in pods if matches(selection["selector"], pod, nodes)), key=lambda pod: pod["metadata"]["name"]
    )
    count, value = len(found), int(selection.get("value") or 0)
    draws = derive_seed(seed, f"chaos/{entity}")
    match selection["mode"]:
        case "all":
            wanted = count
        case "one":
            wanted = 1
        case "fixed":
            wanted = value
        case "fixed-percent":
            wanted = -(-count * value // 100)
        case _:  # random-max-percent: may be none
            wanted = -(-count * (draw_bits(draws, 0) % (value + 1)) // 100)
    if wanted >= count:
        return found
    order = sorted(range(count), key=lambda index: draw_bits(draws, 1, index))
    return [found[index] for index in sorted(order[:wanted])]


def _fulfils(expression: Object, labels: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels


def _node(selector: Object, name: str, nodes: Mapping[str, Mapping[str, str]]) -> bool:
    """Return whether a node is named, or has the labels asked for: names and labels are joined."""
    named, labels = selector.get("nodes") or (), selector.get("nodeSelectors") or {}
    if not named and not labels:
        return True
    found = nodes.get(name, {})
    return name in named or bool(labels and all(found.get(key) == value for key, value in labels.items()))


def _phase(wanted: list[str] | tuple[str, ...], phase: str) -> bool:
    included = [item for item in wanted if not item.startswith("!")]
    return f"!{phase}" not in wanted and (not included or phase in included)
