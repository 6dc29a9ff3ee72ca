"""`make bench`: every benchmark in one run; prints each figure beside its floor and writes `benchmarks/results/<time>.json`.

`--small` runs the small sizes, as the test suite does, so that benchmarks don't rot.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

import anyio
import applications
import campaign
import folds
import kernel
import log
import telemetry
from episode import episode_at_load, log_appends, step_at_zero_load
from result import Measurement, Result, from_figures, machine
from rich.console import Console
from rich.table import Table

__all__ = ("main", "measure")


async def measure(*, small: bool) -> Result:
    """Run every benchmark and return what was measured."""
    measurements: list[Measurement] = []
    measurements += await step_at_zero_load(steps=3 if small else 40)
    measurements += await episode_at_load(seconds=60 if small else 600)
    measurements += await log_appends(publishes=50 if small else 1_000)
    measurements += from_figures("log", await log.measure(small=small))
    measurements += from_figures("telemetry", await telemetry.measure(small=small))
    measurements += await folds.folds(folds.SMALL if small else folds.LARGE)
    measurements += from_figures("kernel", kernel.measure(small=small))
    measurements += await applications.speeds(small=small)
    measurements += applications.growth(small=small)
    measurements += await campaign.measure(small=small)
    return Result(machine=machine(), measurements=tuple(measurements))


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="small sizes, a quick check that every benchmark works")
    parser.add_argument("--out", type=Path, help="file of the JSON result")
    arguments = parser.parse_args()
    result = anyio.run(lambda: measure(small=arguments.small), backend_options={"use_uvloop": True})
    target = arguments.out or Path(__file__).parent / "results" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    result.write(target)
    table = Table(title=f"benchmarks on {result.machine['processors']} processors, Python {result.machine['python']}")
    for heading in ("what", "measured", "floor in the same run", "aim"):
        table.add_column(heading, overflow="fold")
    for measurement in result.measurements:
        floor = (
            ""
            if measurement.floor is None
            else f"{measurement.floor:,.3g} {measurement.unit} ({measurement.floor_name})"
        )
        table.add_row(measurement.name, f"{measurement.value:,.3g} {measurement.unit}", floor, measurement.aim)
    console = Console()
    console.print(table)
    console.print(f"written to {target}")


if __name__ == "__main__":
    main()
