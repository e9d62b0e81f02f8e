"""Shows a person how far the start of the platform is: moving lines on a terminal, plain ones elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Phase(StrEnum):
    """What a service is at."""

    PREPARING = "preparing"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of one service: what it does now, in words, and how long the start has taken so far (s)."""

    service: str
    phase: Phase
    detail: str
    elapsed_s: float


Report = Callable[[Progress], None]


def silent(step: Progress) -> None:
    """Shows nothing."""


@contextmanager
def shown(console: Console | None = None) -> Iterator[Report]:
    """A `Report` that shows steps on the console (standard error by default) until the block ends.

    On a terminal each service has a line that changes; elsewhere each change of phase is one line. Called from any thread.
    """
    console = console or Console(file=sys.stderr)
    if not console.is_terminal:
        yield _plain(console)
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.fields[service]:<9}"),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=console) as bars:

        def report(step: Progress) -> None:
            if step.service not in tasks:
                tasks[step.service] = bars.add_task("", total=1, service=step.service)
            over = step.phase in (Phase.READY, Phase.STOPPED, Phase.FAILED)
            bars.update(tasks[step.service], description=words(step), completed=1 if over else 0)

        yield report


def words(step: Progress) -> str:
    """`ready: 127.0.0.1:9092`, or only the phase where there is nothing to add."""
    return f"{step.phase}: {step.detail}" if step.detail else str(step.phase)


def _plain(console: Console) -> Report:
    latest: dict[str, tuple[Phase, float]] = {}

    def report(step: Progress) -> None:
        phase, shown_s = latest.get(step.service, (None, 0.0))
        now_s = time.monotonic()
        # Downloads report each file: every two seconds is enough for a log.
        if phase == step.phase and now_s - shown_s < 2.0:
            return
        latest[step.service] = (step.phase, now_s)
        console.print(f"{step.elapsed_s:6.1f} s  {step.service:<9} {words(step)}", highlight=False, markup=False, soft_wrap=True)

    return report
