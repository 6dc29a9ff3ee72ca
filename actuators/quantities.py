"""Kubernetes quantities ⇄ numbers: `200m` ⇄ 0.2 cores, `128Mi` ⇄ 134217728 bytes."""

from __future__ import annotations

__all__ = ("bytes_quantity", "cores_quantity", "parse_quantity")

_SUFFIXES = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip


def parse_quantity(text: str) -> float:
    """Return a quantity as a number of its base unit.

    Raises: ValueError: not a quantity.
    """
    for length in (2, 1):
        factor = _SUFFIXES.get(text[-length:])
        if factor is not None:
            return float(text[:-length]) * factor
    return float(text)


def cores_quantity(cores: float) -> str:
    """Return cores in the form to which an API server brings them: whole cores or millicores."""
    thousandths = round(cores * 1000)
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def bytes_quantity(count: int) -> str:
    """Return bytes with the largest binary suffix that is exact."""
    for suffix, factor in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if count % factor == 0:
            return f"{count // factor}{suffix}"
    return str(count)
