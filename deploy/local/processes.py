"""Starts processes that cannot outlive their owner, and finds what an earlier owner could not end.

Three nets: `ProcessManager.close` on an orderly way out; the watchdog (`watchdog.py`) when the owner dies in any other way; and
files with the process ids, read at the next start, for the case that the watchdog was killed too.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from deploy.local.errors import PlatformError
from deploy.local.lock import take
from deploy.local.logs import rotate
from deploy.local.watchdog import end_group, family, same, signal_all, stop_family, wait_gone

KEPT_OUTPUT_LINES = 40


@dataclass(frozen=True, slots=True)
class Account:
    """The user of the operating system a process runs as, where it is not ours."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Launch:
    """One process to start.

    Attributes:
        name: unique in the data folder; names the log file and the process id file.
        argv: the program and its arguments.
        env: variables set on top of our own environment.
        cwd: working directory (None: ours).
        account: the user to run as (None: ours). Only root can choose.
        stop_signal: what asks it to stop.
        stop_timeout_s: how long it may take to stop before it is killed (> 0).
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    account: Account | None = None
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Completed:
    """A process that ran to its end: its exit code (negative: minus the signal that ended it) and its last lines of output."""

    exit_code: int
    output: str


def _popen(launch: Launch, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
    account = launch.account
    # A session of its own: Ctrl-C at the terminal reaches only the owner, who stops things in order.
    return subprocess.Popen(
        launch.argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, **launch.env},
        cwd=launch.cwd,
        start_new_session=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


class ManagedProcess:
    """A running process of a `ProcessManager`. Made by `ProcessManager.spawn` only; safe to use from several threads."""

    def __init__(self, launch: Launch, popen: subprocess.Popen[bytes], forget: Callable[[ManagedProcess], None]) -> None:
        self.launch = launch
        self.pid = popen.pid
        self._popen = popen
        self._forget = forget

    @property
    def exit_code(self) -> int | None:
        """None while it runs; else its exit code, negative for the signal that ended it."""
        return self._popen.poll()

    @property
    def alive(self) -> bool:
        """Whether it runs. A paused process does."""
        return self.exit_code is None

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Asks it to stop; kills it with all descendants after its time, or as soon as `hurry` says. True: it stopped in time."""
        if not self.alive:
            end_group(self.pid)
            self._forget(self)
            return True
        in_time = stop_family(self.pid, self.launch.stop_signal, self.launch.stop_timeout_s, hurry)
        self._popen.wait()
        self._forget(self)
        return in_time

    def kill(self) -> None:
        """SIGKILL, as a crash would; the descendants of a crashed server end too. Returns once it is gone."""
        members = family(self.pid) if self.alive else []
        signal_all(members[:1], signal.SIGKILL)
        self._popen.wait()
        # Postgres' back ends see their parent die and end by themselves; what does not is killed.
        signal_all(wait_gone(members, timeout_s=1.0), signal.SIGKILL)
        wait_gone(members, timeout_s=5.0)
        end_group(self.pid)
        self._forget(self)

    def pause(self) -> None:
        """SIGSTOP to it and every descendant: it keeps its connections and answers nothing."""
        if self.alive:
            signal_all(family(self.pid), signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to it and every descendant."""
        if self.alive:
            signal_all(family(self.pid), signal.SIGCONT)


class ProcessManager:
    """Everything one owner has started, in order.

    Args:
        data_dir: `run/` (process ids, lock) and `logs/` are made in it. One owner at a time: `open` takes a lock.

    Blocking: `spawn` does not wait for the program to be ready; `run` waits for its end. Thread-safe. After `close` (or while it
    runs) `spawn` and `run` raise PlatformError, so that threads which were starting things give up.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._run_dir = data_dir / "run"
        self._log_dir = data_dir / "logs"
        self._guard = threading.Lock()
        self._processes: list[ManagedProcess] = []
        self._lock_file: IO[str] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    def log_path(self, name: str) -> Path:
        """Where the output of the process of this name goes."""
        return self._log_dir / f"{name}.log"

    @property
    def is_open(self) -> bool:
        """Whether things can be started."""
        return self._watchdog is not None

    def open(self) -> list[str]:
        """Takes the data folder, ends what an earlier owner left running, starts the watchdog.

        Returns:
            The names of the leftovers that were ended.

        Raises:
            PlatformError: another owner has the data folder.
        """
        self._run_dir.mkdir(parents=True, exist_ok=True)
        self._log_dir.mkdir(exist_ok=True)
        self._lock_file = take(self.data_dir)
        ended = self._end_leftovers()
        watchdog = Path(__file__).with_name("watchdog.py")
        # -P: without it this folder would come first on the path and hide modules of the standard library.
        self._watchdog = subprocess.Popen(
            [sys.executable, "-P", str(watchdog)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        return ended

    def spawn(self, launch: Launch) -> ManagedProcess:
        """Starts the process, its output appended to its log file.

        Raises:
            PlatformError: this manager is closed, or the program cannot be run.
        """
        path = self.log_path(launch.name)
        rotate(path)
        with open(path, "ab") as log:
            return self._start(launch, log)

    def run(self, launch: Launch, timeout_s: float, on_line: Callable[[str], None] = lambda line: None) -> Completed:
        """Runs the process to its end, its output going line by line to `on_line` and to its log file.

        Raises:
            PlatformError: it took longer than `timeout_s`, cannot be run, or this manager is closed.
        """
        lines: deque[str] = deque(maxlen=KEPT_OUTPUT_LINES)
        process = self._start(launch, subprocess.PIPE)
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(timeout_s, give_up)
        timer.start()
        try:
            with open(self.log_path(launch.name), "a") as log:
                for raw in process._popen.stdout or ():
                    line = raw.decode(errors="replace").rstrip()
                    lines.append(line)
                    log.write(line + "\n")
                    on_line(line)
            exit_code = process._popen.wait()
        finally:
            timer.cancel()
            process.stop()
        if late.is_set():
            raise PlatformError(f"{launch.name} took longer than {timeout_s:.0f} s", f"see {self.log_path(launch.name)}")
        return Completed(exit_code, "\n".join(lines))

    def close(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stops everything in the reverse order of its start, then gives the data folder back. Safe to call twice."""
        with self._guard:
            watchdog, self._watchdog = self._watchdog, None
            processes = list(reversed(self._processes))
        for process in processes:
            process.stop(hurry)
        if watchdog is not None and watchdog.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                watchdog.stdin.close()
            watchdog.wait()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def _start(self, launch: Launch, output: IO[bytes] | int) -> ManagedProcess:
        with self._guard:
            if self._watchdog is None:
                raise PlatformError(f"{launch.name} is not started: everything is being stopped")
            if any(process.launch.name == launch.name and process.alive for process in self._processes):
                raise PlatformError(f"{launch.name} runs already")
            try:
                popen = _popen(launch, output)
            except OSError as error:
                raise PlatformError(f"{launch.argv[0]} cannot be run: {error.strerror}") from error
            process = ManagedProcess(launch, popen, self._forget)
            self._processes.append(process)
            try:
                started_s = psutil.Process(popen.pid).create_time()
            except psutil.NoSuchProcess:
                return process
            self._tell_watchdog(f"watch {popen.pid} {started_s} {int(launch.stop_signal)} {launch.stop_timeout_s}")
            record = {"pid": popen.pid, "started_s": started_s, "stop_signal": int(launch.stop_signal)}
            self._pid_file(launch.name).write_text(json.dumps(record))
        return process

    def _forget(self, process: ManagedProcess) -> None:
        with self._guard:
            if process in self._processes:
                self._processes.remove(process)
                self._pid_file(process.launch.name).unlink(missing_ok=True)
                self._tell_watchdog(f"forget {process.pid}")

    def _tell_watchdog(self, line: str) -> None:
        if self._watchdog is not None and self._watchdog.stdin is not None:
            # A watchdog that was killed is one net fewer, not a reason to stop working.
            with contextlib.suppress(BrokenPipeError):
                self._watchdog.stdin.write(line.encode() + b"\n")
                self._watchdog.stdin.flush()

    def _pid_file(self, name: str) -> Path:
        return self._run_dir / f"{name}.pid"

    def _end_leftovers(self) -> list[str]:
        ended = []
        for path in sorted(self._run_dir.glob("*.pid")):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = json.loads(path.read_text())
                if same(record["pid"], record["started_s"]) is not None:
                    stop_family(record["pid"], record["stop_signal"], grace_s=5.0)
                    ended.append(path.stem)
            path.unlink(missing_ok=True)
        return ended


def wait_until(ready: Callable[[], bool], process: ManagedProcess, timeout_s: float, interval_s: float = 0.05) -> bool:
    """Asks `ready` until it says so. False when the process has ended or `timeout_s` have passed."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not process.alive:
            return False
        if ready():
            return True
        time.sleep(interval_s)
    return False
