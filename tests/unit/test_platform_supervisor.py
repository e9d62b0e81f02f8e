"""The supervisor: restarts with growing pauses, stops in reverse order, leaves nothing behind."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local import Backoff, PlatformError, Program, Supervisor
from deploy.local.processes import ProcessManager
from deploy.local.watchdog import gone

SERVE = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('up', flush=True); signal.pause()"
QUICK = Backoff(first_s=0.01, longest_s=0.02)
WAIT_S = 20.0


@given(row=st.integers(1, 10_000), first_s=st.floats(0.01, 5.0), longest_s=st.floats(5.0, 600.0))
def test_pauses_grow_up_to_the_longest(row: int, first_s: float, longest_s: float) -> None:
    backoff = Backoff(first_s, longest_s)
    assert first_s <= backoff.pause_s(row) <= backoff.pause_s(row + 1) <= longest_s


def test_the_pause_doubles() -> None:
    backoff = Backoff(first_s=0.5, longest_s=30.0)
    assert [backoff.pause_s(row) for row in range(1, 9)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_steady_life_ends_the_row() -> None:
    backoff = Backoff(steady_s=20.0)
    assert backoff.row(5, lived_s=19.9) == 6
    assert backoff.row(5, lived_s=20.0) == 1


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ProcessManager]:
    processes = ProcessManager(tmp_path / "data")
    processes.open()
    yield processes
    processes.close()


def _program(name: str, code: str, *, restart: bool = True) -> Program:
    return Program(name, (sys.executable, "-c", code), restart=restart)


class _Running:
    """A supervisor in a thread, and what it says."""

    def __init__(self, processes: ProcessManager, *programs: Program) -> None:
        self.said: queue.Queue[str] = queue.Queue()
        self.supervisor = Supervisor(programs, processes, backoff=QUICK, notify=self.said.put)
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.code = self.supervisor.run()

    def hear(self, word: str) -> str:
        while True:
            line = self.said.get(timeout=WAIT_S)
            if word in line:
                return line

    def end(self) -> int | None:
        self.supervisor.stop()
        self._thread.join(WAIT_S)
        return self.code

    def join(self) -> int | None:
        self._thread.join(WAIT_S)
        return self.code


def test_what_dies_is_started_again(processes: ProcessManager) -> None:
    running = _Running(processes, _program("worker", "print('that was it'); raise SystemExit(7)"))
    line = running.hear("worker ended")
    assert "exit code 7" in line
    assert "that was it" in line
    running.hear("worker is running again")
    running.hear("worker is running again")
    assert running.supervisor.status()[0].restarts >= 2
    assert running.end() == 0


def test_what_is_killed_is_started_again(processes: ProcessManager) -> None:
    running = _Running(processes, _program("a", SERVE), _program("b", SERVE))
    while (before := running.supervisor.status()[0].pid) is None:
        time.sleep(0.01)
    os.kill(before, signal.SIGKILL)
    assert "SIGKILL" in running.hear("a ended")
    running.hear("a is running again")
    first, second = running.supervisor.status()
    assert first.pid not in (None, before)
    assert (first.restarts, second.restarts) == (1, 0)
    assert running.end() == 0
    assert [status.pid for status in running.supervisor.status()] == [None, None]


def test_jobs_that_run_once_end_the_run_with_their_code(processes: ProcessManager) -> None:
    running = _Running(processes, _program("good", "pass", restart=False), _program("bad", "raise SystemExit(3)", restart=False))
    assert running.join() == 3


def test_a_program_that_cannot_start_stops_those_that_did(processes: ProcessManager) -> None:
    programs = [_program("a", SERVE), Program("none", ("/no/such/program",))]
    with pytest.raises(PlatformError, match="cannot be run"):
        Supervisor(programs, processes, notify=lambda line: None).run()
    assert list((processes.data_dir / "run").glob("*.pid")) == []


def test_names_are_unique(processes: ProcessManager) -> None:
    with pytest.raises(ValueError, match="not unique"):
        Supervisor([_program("a", SERVE), _program("a", SERVE)], processes)


def test_one_that_does_not_stop_is_killed_and_named(processes: ProcessManager) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    running = _Running(processes, replace(_program("stubborn", stubborn), stop_timeout_s=0.1))
    log = processes.log_path("stubborn")
    while not log.exists() or "up" not in log.read_text():
        time.sleep(0.01)
    assert running.end() == 0
    running.hear("stubborn did not stop within 0.1 s")


MAIN = f"""
import sys
from pathlib import Path
from deploy.local import Program, Supervisor
from deploy.local.processes import ProcessManager
processes = ProcessManager(Path(sys.argv[1]))
processes.open()
code = {SERVE!r}
supervisor = Supervisor([Program(name, (sys.executable, "-c", code)) for name in "ab"], processes)
import threading, time
def say():
    while any(status.pid is None for status in supervisor.status()):
        time.sleep(0.01)
    print(*[status.pid for status in supervisor.status()], flush=True)
threading.Thread(target=say, daemon=True).start()
exit_code = supervisor.run()
processes.close()
sys.exit(exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_ends_it_with_everything_it_started(tmp_path: Path, number: signal.Signals) -> None:
    root = Path(__file__).parents[2]
    main = subprocess.Popen(
        [sys.executable, "-c", MAIN, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert main.stdout is not None
    pids = [int(word) for word in main.stdout.readline().split()]
    assert len(pids) == 2
    children = [psutil.Process(pid) for pid in pids]
    main.send_signal(number)
    assert main.wait(WAIT_S) == (0 if number != signal.SIGKILL else -signal.SIGKILL)
    while not all(gone(child) for child in children):
        time.sleep(0.01)
