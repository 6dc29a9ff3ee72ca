"""Which pods a chaos object hits: its selector and mode ➜ pods, chosen once.

In: a selector, a mode, the pods that exist. Out: the chosen ones, by name.

The real controller draws `one` and the like from the system's randomness; here the draw is keyed by the object's name, so that a run
can be repeated.
"""

from __future__ import annotations

from otel_control_gym.engine.randomness import derive_seed, draw_bits
from otel_control_gym.stands.twin.objects import Object
from otel_control_gym.stands.twin.selectors import field_value

__all__ = ("choose", "matches")


def matches(selector: Object, pod: Object) -> bool:
    """Return whether a pod fulfils a chaos selector."""
    metadata = pod["metadata"]
    if selector.get("pods"):  # then every other field is ignored
        return metadata["name"] in selector["pods"].get(metadata["namespace"], ())
    labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
    node, nodes = pod["spec"].get("nodeName", ""), selector.get("nodes")
    return bool(
        metadata["namespace"] in selector["namespaces"]
        and all(labels.get(key) == value for key, value in (selector.get("labelSelectors") or {}).items())
        and all(annotations.get(key) == value for key, value in (selector.get("annotationSelectors") or {}).items())
        and all(field_value(pod, key) == value for key, value in (selector.get("fieldSelectors") or {}).items())
        and all(_fulfils(expression, labels) for expression in selector.get("expressionSelectors") or ())
        and _phase(selector.get("podPhaseSelectors") or (), pod["status"]["phase"])
        and (not nodes or node in nodes)
    )


def choose(selection: Object, pods: list[Object], *, seed: int, entity: str) -> list[Object]:
    """Return the pods that a selection (selector, mode, value) picks, by name.

    Args:
        selection: the spec, or its `target`.
        pods: candidates.
        seed: of the run.
        entity: whose draw it is: the chaos object and the selector's key.
    """
    found = sorted(
        (pod for pod in pods if matches(selection["selector"], pod)), key=lambda pod: pod["metadata"]["name"]
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


def _phase(wanted: list[str] | tuple[str, ...], phase: str) -> bool:
    included = [item for item in wanted if not item.startswith("!")]
    return f"!{phase}" not in wanted and (not included or phase in included)
