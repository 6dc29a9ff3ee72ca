"""The progress bar of `ocg run`: episode time, step, reward, speed. On standard error; silent where that is no terminal."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from otel_control_gym.engine.clock import wall_timer
from otel_control_gym.engine.settings import RunSettings

if TYPE_CHECKING:
    from otel_control_gym.policies import Beat

__all__ = ("EpisodeProgress", "clock_text")


def clock_text(seconds: float) -> str:
    """Return a time span as people write it: `5:30`, `1:05:30`, `-0:30`."""
    whole = round(abs(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    sign = "-" if seconds < 0 and whole else ""
    return f"{sign}{hours}:{minutes:02}:{rest:02}" if hours else f"{sign}{minutes}:{rest:02}"


class EpisodeProgress:
    """A bar over the control time of one episode; with `lines`, one line a step besides."""

    def __init__(self, console: Console, settings: RunSettings, *, lines: bool) -> None:
        self._console, self._lines = console, lines
        self._horizon = settings.horizon_seconds
        self._steps = settings.horizon_seconds // settings.granularity.control_step_seconds
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[phase]}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[time]}  step {task.fields[step]}"),
            TextColumn("reward {task.fields[reward]}"),
            TextColumn("[cyan]{task.fields[speed]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            "", total=self._horizon, phase="starting", time=self._time(0), step=f"0/{self._steps}", reward="-", speed=""
        )
        self._began = 0.0

    def __enter__(self) -> EpisodeProgress:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._bar.stop()

    def phase(self, name: str) -> None:
        """Say what is going on; the speed is measured from the phase `control`."""
        self._began = wall_timer()
        self._bar.update(self._task, phase=name)

    def beat(self, beat: Beat) -> None:
        """Show a step that is over."""
        elapsed = max(wall_timer() - self._began, 1e-6)
        self._bar.update(
            self._task,
            completed=beat.seconds,
            phase="control",
            time=self._time(beat.seconds),
            step=f"{beat.step + 1}/{self._steps}",
            reward=f"{beat.reward:+.3f} (sum {beat.reward_total:+.2f})",
            speed=f"{beat.seconds / elapsed:,.0f} x real time",
        )
        if self._lines:
            self._console.print(self._line(beat), markup=False, soft_wrap=True)

    def _time(self, seconds: int) -> str:
        return f"{clock_text(seconds)} of {clock_text(self._horizon)}"

    def _line(self, beat: Beat) -> str:
        record = beat.info["action"]
        action = record.action if record is not None else {}
        details = " ".join(f"{key}={value}" for key, value in action.items() if key != "type")
        status = f"{record.status}" if record is not None else ""
        return (
            f"{clock_text(beat.seconds):>8}  step {beat.step:3}  reward {beat.reward:+8.3f}  "
            f"{action.get('type', '')} {details}  {status}"
        ).rstrip()
