"""Kubernetes' quantities (`250m`, `64Mi`) ➜ numbers, and back in the canonical form in which the API server stores them.

In: the text of a quantity; a pod's spec. Out: a `Fraction` in base units (cores, bytes), canonical text, `PodResources`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from otel_control_gym.stands.twin.objects import Object
from otel_control_gym.stands.twin.runtime import PodResources

__all__ = ("canonical", "format_bytes", "format_cores", "parse", "pod_resources")

_PATTERN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E))?")
_MAX_DIGITS = 40  #: of a quantity; more would cost time, and none that is meant has them
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
}


@lru_cache(maxsize=4096)
def parse(text: str | float) -> Fraction:
    """Return a quantity's value in base units.

    Raises: ValueError: it isn't a quantity.
    """
    match = _PATTERN.fullmatch(str(text))
    if match is None:
        raise ValueError(str(text))
    number, exponent, suffix = match.groups()
    if len(number) > _MAX_DIGITS or (exponent and abs(int(exponent[1:])) > _MAX_DIGITS):
        raise ValueError(str(text))
    value = Fraction(number)
    if exponent:
        value *= Fraction(10) ** int(exponent[1:])
    if suffix:
        value *= _BINARY.get(suffix) or _DECIMAL[suffix]
    return value


def canonical(text: str | float) -> str:
    """Return a quantity as the API server stores it: no fraction, the largest suffix that allows that.

    Raises: ValueError: it isn't a quantity.
    """
    value = parse(text)
    if value and str(text).endswith("i"):
        return format_bytes(value)
    for suffix in ("E", "P", "T", "G", "M", "k", "", "m", "u"):
        scaled = value / _DECIMAL.get(suffix, Fraction(1))
        if scaled.denominator == 1:
            return f"{scaled.numerator}{suffix}" if value else "0"
    return f"{-(-value // _DECIMAL['n'])}n"  # the API server rounds up to nano


def format_cores(cores: float) -> str:
    """Return a number of cores as a quantity, in whole millicores."""
    return canonical(f"{round(cores * 1000)}m")


def format_bytes(number: Fraction | int) -> str:
    """Return a number of bytes as a quantity with the largest binary suffix that needs no fraction."""
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        scaled = Fraction(number) / _BINARY[suffix]
        if scaled.denominator == 1:
            return f"{scaled.numerator}{suffix}"
    return str(-(-Fraction(number) // 1))


def pod_resources(spec: Object) -> PodResources:
    """Return the requests and limits of a pod's first container; a limit without a request is the request, too."""
    resources = spec["containers"][0].get("resources", {})
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    cpu, memory = limits.get("cpu"), limits.get("memory")
    return PodResources(
        cpu_request_cores=float(parse(requests.get("cpu", cpu or 0))),
        cpu_limit_cores=None if cpu is None else float(parse(cpu)),
        memory_request_bytes=int(parse(requests.get("memory", memory or 0))),
        memory_limit_bytes=None if memory is None else int(parse(memory)),
    )
