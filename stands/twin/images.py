"""Container images: which build of a service an image is, and what the kubelet says of one that doesn't exist.

In: the application, an image as a pod's spec names it. Out: a key of `Service.versions`, the words of a failed pull. Pure.

The registry of the twin holds what the configuration knows: for each service the demo's build (`<repository>:<demo_version>-<service>`) and
one for each of its `versions` (their key instead of the demo's version). All of them lie on the node already; pulling is about
those that aren't anywhere.
"""

from __future__ import annotations

from otel_control_gym.engine.settings import ServiceConfiguration

__all__ = ("PAUSE_IMAGE", "WAIT_IMAGE", "image_of", "pull_error", "version_of")

_REPOSITORY = "ghcr.io/open-telemetry/demo"
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"  #: a process that does nothing
WAIT_IMAGE = "busybox:latest"  #: of the chart's init containers


def image_of(application: ServiceConfiguration, service: str, version: str = "") -> str:
    """Return the image of a service's build; no version: the one that the configuration describes."""
    return f"{_REPOSITORY}:{version or application.demo_version}-{service}"


def version_of(application: ServiceConfiguration, service: str, image: str) -> str | None:
    """Return which build of a service an image is ("": the configuration's own), or None: there is no such image."""
    repository, _, tag = image.rpartition(":")
    version = tag.removesuffix(f"-{service}")
    if repository != _REPOSITORY or version == tag:
        return None
    if version == application.demo_version:
        return ""
    return version if version in application.services[service].versions else None


def pull_error(image: str) -> str:
    """Return what the container runtime says of an image that its registry doesn't have."""
    return (
        f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": '
        f"unexpected status from HEAD request: {image}: not found"
    )
