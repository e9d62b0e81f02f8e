"""Watches processes and topics while something runs."""

from __future__ import annotations

import contextlib
import os
import platform as machine
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psutil
import psycopg

from streams.admin import end_offsets
from streams.store import read_status


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a run stood at one moment: events done and CPU seconds the watched processes had used."""

    at_s: float
    done: int
    cpu_s: float


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system seconds of the processes and their children so far."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = one.cpu_times()
                    total += times.user + times.system
    return total


def rss_mb(pids: Sequence[int]) -> float:
    """Resident memory of the processes, MB."""
    total = 0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += psutil.Process(pid).memory_info().rss
    return total / 1e6


def records_in(bootstrap: str, topic: str) -> int:
    """Records ever written to a topic (without transactions, its end offsets)."""
    return sum(end_offsets(bootstrap, [topic]).values())


def decisions_in(dsn: str) -> int:
    """Rows of decisions in Postgres; 0 while the database is not ready."""
    try:
        return read_status(dsn).decisions
    except psycopg.Error:
        return 0


def watch(done: Callable[[], int], pids: Sequence[int], total: int, timeout_s: float, every_s: float = 0.2) -> Iterator[Mark]:
    """Marks until `total` is done.

    Raises:
        TimeoutError: it was not done in time; says how far it came.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        count = done()
        yield Mark(time.monotonic(), count, cpu_seconds(pids))
        if count >= total:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} of {total} after {timeout_s:.0f} s")
        time.sleep(every_s)


def between(marks: Sequence[Mark], first: int, last: int) -> tuple[float, float]:
    """(events a second, CPU µs an event) between the marks nearest to `first` and `last` events done."""
    start = min(marks, key=lambda mark: abs(mark.done - first))
    end = min(marks, key=lambda mark: (abs(mark.done - last), mark.at_s))
    events = max(1, end.done - start.done)
    return events / max(1e-9, end.at_s - start.at_s), (end.cpu_s - start.cpu_s) / events * 1e6


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def this_machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": machine.python_version(),
        "cpu": _cpu_model(),
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return machine.processor()
