"""The crash loop: how long the kubelet waits before it starts a container that died once more.

In: the moments at which a container's runs ended; pulls that failed. Out: seconds to wait, counted from that end, and how the status
tells of it.

The first restart comes at once, the next ones after 10 s, 20 s, ... up to 300 s. A run that ended more than 600 s after the last entry into
the back-off begins the series anew. No jitter, as in Kubernetes (`flowcontrol.Backoff` with the kubelet's constants).
An image that can't be pulled waits from the first time on.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.objects import Object

__all__ = ("PullBackoff", "RestartBackoff", "go_seconds", "last_state")

_FIRST_SECONDS = 10
_LONGEST_SECONDS = 300
_RESET_SECONDS = 2 * _LONGEST_SECONDS


class RestartBackoff(msgspec.Struct):
    """The back-off of one container."""

    wait: int = 0  #: seconds that the last end was answered with
    _next: int = 0
    _entered: int = 0

    def next_wait(self, ended: int) -> int:
        """Return the seconds between an end [ns] and the next start."""
        if self._next == 0 or ended - self._entered > _RESET_SECONDS * SECOND:
            self.wait, self._next = 0, _FIRST_SECONDS
        else:
            self.wait, self._next = self._next, min(2 * self._next, _LONGEST_SECONDS)
        self._entered = ended + self.wait * SECOND
        return self.wait


class PullBackoff(msgspec.Struct):
    """The back-off of one container's image."""

    _next: int = _FIRST_SECONDS

    def next_wait(self) -> int:
        """Return the seconds between a failed pull and the next try."""
        wait, self._next = self._next, min(2 * self._next, _LONGEST_SECONDS)
        return wait


def go_seconds(count: int) -> str:
    """Return whole seconds as Go prints a duration: `20s`, `1m20s`, `5m0s`."""
    minutes, rest = divmod(count, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def last_state(status: Object) -> Object:
    """Return the `lastState` of a container that is about to leave its state: how its last run ended."""
    state: Object = status["state"]
    return state if "terminated" in state else dict(status["lastState"])
