"""Which versions a stand is made of: `deploy/pins.yaml`, read and checked.

In: that file. Out: `Pins`. Whatever needs a version asks here; nobody else writes one down.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

__all__ = ("Chart", "Image", "Pins", "pins")


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts: a key that isn't known is a mistake."""


class Chart(_Part, frozen=True, kw_only=True):
    """A Helm chart."""

    repository: str
    version: str
    application: str  #: version of what it installs
    source: str  #: where that was read


class Image(_Part, frozen=True, kw_only=True):
    """An image that our values or manifests name."""

    name: str  #: the full reference
    source: str


class KubernetesVersions(_Part, frozen=True, kw_only=True):
    """Which Kubernetes a stand runs on."""

    oldest: str


class HelmVersions(_Part, frozen=True, kw_only=True):
    """Which Helm installs one."""

    oldest: str


class Pins(_Part, frozen=True, kw_only=True):
    """All versions."""

    kubernetes: KubernetesVersions
    helm: HelmVersions
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
