"""The progress of `ocg campaign run`: runs done, failed, retried; speed, time left. On standard error.

Where that is no terminal, it tells of troubles with stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from otel_control_gym.engine.clock import wall_timer
from otel_control_gym.engine.command_line.progress import clock_text

if TYPE_CHECKING:
    from otel_control_gym.engine.campaigns.record import CampaignState, StandTroubled

__all__ = ("CampaignProgress",)


class CampaignProgress:
    """A bar over the runs of a campaign, and a line per stratum."""

    def __init__(self, console: Console, runs: int) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description:<20}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._all = self._bar.add_task("all runs", total=runs, note="")
        self._strata: dict[str, TaskID] = {}
        self._began: tuple[float, int] | None = None
        self._told: dict[str, StandTroubled] = {}

    def __enter__(self) -> CampaignProgress:
        """Show the bars."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bars away."""
        self._bar.stop()

    def show(self, state: CampaignState) -> None:
        """Show where the campaign is."""
        self._tell_troubles(state.troubles)
        done = state.count("completed")
        if self._began is None:
            self._began = (wall_timer(), done)
        self._bar.update(self._all, completed=done, total=len(state.keys), note=self._note(state, done))
        planned: dict[str, list[int]] = {}
        for found in state.keys.values():
            counts = planned.setdefault(found.stratum, [0, 0])
            counts[0] += 1
            counts[1] += found.status == "completed"
        for stratum, (total, completed) in sorted(planned.items()):
            if stratum not in self._strata:
                self._strata[stratum] = self._bar.add_task(f"  {stratum}", total=total, note="")
            self._bar.update(self._strata[stratum], completed=completed, total=total)

    def _tell_troubles(self, troubles: Mapping[str, StandTroubled]) -> None:
        for stand, trouble in troubles.items():
            if self._told.get(stand) != trouble:
                verdict = "is left out" if trouble.left_out else "can't be played on now"
                self._bar.console.print(
                    f"stand {stand} {verdict}: {trouble.reason}", markup=False, highlight=False, soft_wrap=True
                )
        self._told = dict(troubles)

    def _note(self, state: CampaignState, done: int) -> str:
        assert self._began is not None
        seconds, since = wall_timer() - self._began[0], done - self._began[1]
        left = ""
        if since > 0:
            rest = (len(state.keys) - done - state.count("failed")) * seconds / since
            left = f"{since / seconds * 60:.1f} runs/min, {clock_text(rest)} left"
        troubles = [
            f"{count} {word}"
            for word, count in (("failed", state.count("failed")), ("retried", state.retried))
            if count
        ]
        return "  ".join([left, *troubles]).strip()
