"""Delay: when what happened at a moment arrives.

In: moments. Out: when they arrive, in their own order, as over one connection. The random part is keyed by the moment: all that a source
showed at once arrives at once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from otel_control_gym.collectors.distortion_draws import text_key, uniforms
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import Delay

__all__ = ("Transit",)

Int = npt.NDArray[np.int64]
_NEVER: Final = np.iinfo(np.int64).min


class Transit:
    """The delay of one source."""

    def __init__(self, delay: Delay, key: int, source: str) -> None:
        self._delay, self._key, self._entity = delay, key, text_key(f"delay {source}")
        self._latest = _NEVER

    @property
    def instant(self) -> bool:
        """Whether everything arrives at once."""
        return self._delay.seconds == 0 and self._delay.random_seconds == 0

    def arrivals(self, moments: Int) -> Int:
        """Return when what happened at the moments (ascending) arrives; none before what was asked for earlier.

        Without a delay everything is there when it is seen, whatever time it claims.
        """
        if self.instant or moments.size == 0:
            return np.full(moments.shape, _NEVER)
        late = self._delay.seconds + self._delay.random_seconds * uniforms(self._key, self._entity, moments)
        arrivals = np.maximum.accumulate(moments + np.rint(late * SECOND).astype(np.int64))
        arrivals = np.maximum(arrivals, self._latest)
        self._latest = int(arrivals[-1])
        return arrivals
