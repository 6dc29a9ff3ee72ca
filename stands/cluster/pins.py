"""Which versions a stand is made of: `deploy/pins.yaml`, read and checked.

In: that file. Out: `Pins`. Whatever needs a version asks here; nobody else writes one down.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

__all__ = ("Chart", "Image", "Pins", "Program", "minor_version", "pins")


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts: a key that isn't known is a mistake."""


class Chart(_Part, frozen=True, kw_only=True):
    """A Helm chart."""

    repository: str
    version: str
    application: str  #: version of what it installs
    source: str  #: where that was read
    digest: str = ""  #: SHA-256 of the archive; empty: it isn't known


Runner = Literal["demo", "chaos-mesh", "coroot", "gym", "campaigns", "cluster"]


class Image(_Part, frozen=True, kw_only=True):
    """An image that a stand, a campaign or a cluster for them runs."""

    name: str  #: the full reference
    part: Runner  #: what runs it
    source: str
    service: str = (
        ""  #: of the demo that alone runs it; `*`: each that has no image of its own, whose name ends the tag
    )


class Program(_Part, frozen=True, kw_only=True):
    """What a stand needs and doesn't bring."""

    oldest: str  #: version that will do, as `1.33`


class Pins(_Part, frozen=True, kw_only=True):
    """All versions."""

    kubernetes: Program  #: that a stand runs on
    helm: Program  #: that installs one
    charts: dict[str, Chart]
    images: dict[str, Image]

    def image(self, name: str) -> str:
        """Return the full reference of an image."""
        return self.images[name].name


@cache
def pins() -> Pins:
    """Return what `deploy/pins.yaml` says."""
    text = (resources.files("otel_control_gym.deploy") / "pins.yaml").read_bytes()
    return msgspec.yaml.decode(text, type=Pins)


def minor_version(text: str) -> tuple[int, int] | None:
    """Return the major and minor number of the first version that a text names, with or without a `v`; None if it names none."""
    match = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None
