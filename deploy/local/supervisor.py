"""Keeps programs running: restarts what dies, with growing pauses, and stops everything in reverse order at the end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from deploy.local.errors import PlatformError
from deploy.local.logs import last_lines, rotate
from deploy.local.platform import LocalPlatform
from deploy.local.processes import Launch, ManagedProcess, ProcessManager

POLL_S = 0.2
ROTATE_EVERY_S = 30.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Program:
    """Something to keep running.

    Attributes:
        name: unique; names the log file `logs/<name>.log`.
        argv: the program and its arguments.
        env: variables on top of our own environment.
        cwd: working directory (None: ours).
        restart: whether it is started again when it ends. False: a job that runs once.
        stop_timeout_s: how long it may take to stop after `stop_signal` before it is killed (> 0).
        stop_signal: what asks it to stop.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    restart: bool = True
    stop_timeout_s: float = 10.0
    stop_signal: int = signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a restart: doubling from `first_s` to `longest_s` with each death in a row.

    A life of at least `steady_s` ends the row.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    steady_s: float = 20.0

    def row(self, row: int, lived_s: float) -> int:
        """The number of deaths in a row after one more, following a life of `lived_s`. At least 1."""
        return 1 if lived_s >= self.steady_s else row + 1

    def pause_s(self, row: int) -> float:
        """The pause after `row` deaths in a row (>= 1)."""
        # The exponent is bounded, or a week of crashes would overflow.
        return min(self.longest_s, self.first_s * 2.0 ** min(row - 1, 30))


@dataclass(frozen=True, slots=True)
class Status:
    """What a supervised program is at: its process id (None: not running) and how often it was started again."""

    name: str
    pid: int | None
    restarts: int


class _Unit:
    """One program and its record of deaths. Times are monotonic seconds."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: ManagedProcess | None = None
        self.started_s = 0.0
        self.row = 0
        self.restarts = 0
        self.due_s: float | None = None


class Supervisor:
    """Runs programs until told to stop.

    Args:
        programs: started in this order and stopped in reverse.
        processes: who starts them. A platform's (`platform.processes`) makes them stop before its servers even when this process
            is killed.
        platform: its servers are restarted too when they die (None: there is none, or it needs no care).
        backoff: the pauses before restarts.
        notify: told in one line what happened.

    `run` blocks and belongs in the main thread, where it takes SIGINT, SIGTERM and SIGHUP: the first stops everything in order, a
    second one kills. `stop` may be called from any thread.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        processes: ProcessManager,
        *,
        platform: LocalPlatform | None = None,
        backoff: Backoff | None = None,
        notify: Callable[[str], None] = print,
    ) -> None:
        names = [program.name for program in programs]
        if len(set(names)) != len(names):
            raise ValueError(f"names are not unique: {names}")
        self._units = [_Unit(program) for program in programs]
        self._processes = processes
        self._platform = platform
        self._backoff = backoff or Backoff()
        self._notify = notify
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._healers: dict[str, threading.Thread] = {}

    def stop(self) -> None:
        """Asks `run` to stop everything; asked again, to kill everything."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def status(self) -> list[Status]:
        """What each program is at."""
        return [
            Status(unit.program.name, unit.process.pid if unit.process is not None and unit.process.alive else None, unit.restarts)
            for unit in self._units
        ]

    def run(self) -> int:
        """Starts the programs and keeps them running until `stop`, a signal, or the end of the last one that is not restarted.

        Returns:
            0, or the exit code of the last failed program when there was nothing left to run.

        Raises:
            PlatformError: a program cannot be started at all. What was started has been stopped.
        """
        before = self._take_signals()
        code = 0
        try:
            for unit in self._units:
                self._start(unit)
            rotated_s = time.monotonic()
            while not self._stopping.wait(POLL_S):
                now_s = time.monotonic()
                code = self._look_after(now_s) or code
                self._heal_platform()
                if now_s - rotated_s > ROTATE_EVERY_S:
                    rotated_s = now_s
                    self._rotate_logs()
                if all(unit.process is None and unit.due_s is None for unit in self._units):
                    return code
            return 0
        finally:
            self._stopping.set()
            self._stop_all()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take_signals(self) -> Mapping[int, Callable[[int, FrameType | None], object] | int | None]:
        if threading.current_thread() is not threading.main_thread():
            return {}

        def asked(number: int, frame: FrameType | None) -> None:
            self.stop()

        return {number: signal.signal(number, asked) for number in STOP_SIGNALS}

    def _start(self, unit: _Unit) -> None:
        program = unit.program
        launch = Launch(
            program.name, program.argv, program.env, program.cwd, stop_signal=program.stop_signal, stop_timeout_s=program.stop_timeout_s
        )
        unit.process = self._processes.spawn(launch)
        unit.started_s = time.monotonic()
        unit.due_s = None

    def _look_after(self, now_s: float) -> int:
        """Notes deaths and starts what is due; returns the exit code of a job that failed, else 0."""
        failed = 0
        for unit in self._units:
            process = unit.process
            if process is not None and process.exit_code is not None:
                # Its children, if it left any, go with it.
                process.stop()
                unit.process = None
                if unit.program.restart:
                    self._plan_restart(unit, process.exit_code, now_s)
                else:
                    failed = process.exit_code or failed
                    self._notify(f"{unit.program.name} is done (exit code {process.exit_code})")
            if unit.due_s is not None and now_s >= unit.due_s and not self._stopping.is_set():
                self._start_again(unit, now_s)
        return failed

    def _plan_restart(self, unit: _Unit, exit_code: int, now_s: float) -> None:
        lived_s = now_s - unit.started_s
        unit.row = self._backoff.row(unit.row, lived_s)
        pause_s = self._backoff.pause_s(unit.row)
        unit.due_s = now_s + pause_s
        log = self._processes.log_path(unit.program.name)
        last = last_lines(log, count=1)[:200]
        self._notify(f"{unit.program.name} ended ({_how(exit_code)}) after {lived_s:.0f} s; again in {pause_s:g} s. {log}: {last}")

    def _start_again(self, unit: _Unit, now_s: float) -> None:
        try:
            self._start(unit)
        except PlatformError as error:
            # Its file may be gone while it is being replaced: try later.
            unit.row += 1
            unit.due_s = now_s + self._backoff.pause_s(unit.row)
            self._notify(f"{unit.program.name}: {error.message}")
        else:
            unit.restarts += 1
            self._notify(f"{unit.program.name} is running again")

    def _heal_platform(self) -> None:
        """Restarts servers that died, each in a thread, because that takes seconds."""
        if self._platform is None:
            return
        for name in self._platform.dead():
            healer = self._healers.get(name)
            if healer is None or not healer.is_alive():
                self._notify(f"{name} ended; it is started again")
                self._healers[name] = threading.Thread(target=self._heal, args=(self._platform, name), name=f"heal-{name}", daemon=True)
                self._healers[name].start()

    def _heal(self, platform: LocalPlatform, name: str) -> None:
        try:
            platform.restart(name)
        except PlatformError as error:
            if not self._stopping.is_set():
                self._notify(f"{name}: {error.message}")
                # Not at once again: it failed for a reason that seldom goes away by itself.
                self._stopping.wait(self._backoff.longest_s / 6)
        else:
            self._notify(f"{name} serves again")

    def _rotate_logs(self) -> None:
        names = [unit.program.name for unit in self._units] + list(self._platform.services if self._platform else ())
        for name in names:
            rotate(self._processes.log_path(name))

    def _stop_all(self) -> None:
        for unit in reversed(self._units):
            if unit.process is not None:
                in_time = unit.process.stop(self._hurry.is_set)
                if not in_time and not self._hurry.is_set():
                    self._notify(f"{unit.program.name} did not stop within {unit.program.stop_timeout_s:g} s and was killed")
                unit.process = None


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"
