"""The label by which a namespace says that it is a gym's stand: everything in there may be scaled, killed and broken at any time."""

from __future__ import annotations

__all__ = ("MARK",)

MARK = "otel-control-gym/stand"
