"""How many bytes a real Prometheus needs on disk for the samples of a generated log.

The samples are written as OpenMetrics text, and `promtool` (Debian: prometheus) makes blocks of them, index included: what Prometheus
itself comes to after compaction.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from synthetic_log import LogSize, events, series_labels

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import SamplesCollected

__all__ = ("prometheus_bytes",)


def prometheus_bytes(size: LogSize) -> int | None:
    """Return the bytes of the blocks; None where `promtool` isn't on the path."""
    promtool = shutil.which("promtool")
    if promtool is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        text, blocks = Path(directory) / "samples.txt", Path(directory) / "blocks"
        with text.open("w", encoding="ascii") as file:
            file.writelines(_lines(size))
        command = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(text), str(blocks)]
        subprocess.run(command, check=True, capture_output=True)
        return sum(path.stat().st_size for path in blocks.rglob("*") if path.is_file())


def _lines(size: LogSize) -> Iterator[str]:
    """Yield the samples as OpenMetrics wants them: metric by metric, series by series, in the order of time."""
    described = series_labels(size)
    batches = [event for event in events(size) if isinstance(event, SamplesCollected)]
    values = np.concatenate([batch.values.reshape(len(described), -1) for batch in batches], axis=1)
    times = np.concatenate([batch.times[: batch.times.size // len(described)] for batch in batches])
    seconds = [str(time // SECOND) for time in times.tolist()]
    named = sorted(enumerate(described), key=lambda pair: (pair[1]["__name__"], pair[0]))
    for number, labels in named:
        inside = ",".join(f'{name}="{value}"' for name, value in labels.items() if name != "__name__")
        head = f"{labels['__name__']}{{{inside}}} "
        for value, second in zip(values[number].tolist(), seconds, strict=True):
            yield f"{head}{value!r} {second}\n"
    yield "# EOF\n"
