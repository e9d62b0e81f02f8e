"""Processes that cannot outlive their owner. Real, small processes; the waits are for events, not for time to pass."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local import lock
from deploy.local.errors import PlatformError
from deploy.local.logs import last_lines, rotate
from deploy.local.processes import Launch, ManagedProcess, ProcessManager, wait_until
from deploy.local.watchdog import gone, same

# Says that it has started, then ends at SIGTERM only, so that tests do not signal an interpreter that is still starting.
SERVE = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
PARENT = (
    "import subprocess, sys, signal\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], start_new_session=True)\n"
    "print('up', child.pid, flush=True)\n"
    "signal.pause()"
)


def _python(name: str, code: str, stop_timeout_s: float = 10.0) -> Launch:
    return Launch(name, (sys.executable, "-c", code), stop_timeout_s=stop_timeout_s)


def _eventually(condition: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def _says(manager: ProcessManager, name: str, process: ManagedProcess) -> str:
    log = manager.log_path(name)
    # The whole line: an unbuffered child (PYTHONUNBUFFERED) writes it word by word.
    assert wait_until(
        lambda: log.exists() and "up" in (text := log.read_text()) and text.endswith("\n"), process, timeout_s=15.0, interval_s=0.01
    )
    return log.read_text()


def _ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or gone(psutil.Process(pid))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ProcessManager]:
    manager = ProcessManager(tmp_path / "data")
    manager.open()
    yield manager
    manager.close()


def test_a_process_is_asked_to_stop(manager: ProcessManager) -> None:
    process = manager.spawn(_python("server", SERVE))
    _says(manager, "server", process)
    assert process.alive
    assert process.stop() is True
    assert process.exit_code == 0
    assert list((manager.data_dir / "run").glob("*.pid")) == []


def test_one_that_does_not_stop_in_time_is_killed(manager: ProcessManager) -> None:
    process = manager.spawn(_python("stubborn", STUBBORN, stop_timeout_s=0.1))
    _says(manager, "stubborn", process)
    assert process.stop() is False
    assert process.exit_code == -signal.SIGKILL


def test_hurry_does_not_wait(manager: ProcessManager) -> None:
    process = manager.spawn(_python("stubborn", STUBBORN, stop_timeout_s=600.0))
    _says(manager, "stubborn", process)
    assert process.stop(hurry=lambda: True) is False


def test_children_in_sessions_of_their_own_end_too(manager: ProcessManager) -> None:
    for end in (ManagedProcess.stop, ManagedProcess.kill):
        manager.log_path("parent").unlink(missing_ok=True)
        process = manager.spawn(_python("parent", PARENT))
        child = int(_says(manager, "parent", process).split()[1])
        end(process)
        assert _ended(child)


def test_a_paused_process_can_be_resumed_and_stopped(manager: ProcessManager) -> None:
    process = manager.spawn(_python("server", SERVE))
    _says(manager, "server", process)
    process.pause()
    assert _eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    process.resume()
    assert _eventually(lambda: psutil.Process(process.pid).status() != psutil.STATUS_STOPPED)
    process.pause()
    assert process.stop() is True


def test_close_stops_in_reverse_order_and_refuses_new_processes(tmp_path: Path) -> None:
    manager = ProcessManager(tmp_path)
    manager.open()
    order = tmp_path / "order"
    code = f"import signal, sys\ndef end(*_):\n    open({str(order)!r}, 'a').write(sys.argv[1])\n    sys.exit(0)\n"
    code += "signal.signal(signal.SIGTERM, end); print('up', flush=True); signal.pause()"
    for name in "abc":
        process = manager.spawn(Launch(name, (sys.executable, "-c", code, name)))
        _says(manager, name, process)
    manager.close()
    assert order.read_text() == "cba"
    with pytest.raises(PlatformError, match="being stopped"):
        manager.spawn(_python("late", SERVE))
    manager.close()


def test_the_same_name_twice_is_refused(manager: ProcessManager) -> None:
    manager.spawn(_python("server", SERVE))
    with pytest.raises(PlatformError, match="runs already"):
        manager.spawn(_python("server", SERVE))


def test_a_program_that_does_not_exist_is_said(manager: ProcessManager) -> None:
    with pytest.raises(PlatformError, match="cannot be run"):
        manager.spawn(Launch("none", ("/no/such/program",)))


def test_run_gives_the_exit_code_and_the_lines(manager: ProcessManager) -> None:
    lines: list[str] = []
    done = manager.run(_python("job", "print('one'); print('two'); raise SystemExit(3)"), timeout_s=30.0, on_line=lines.append)
    assert (done.exit_code, done.output, lines) == (3, "one\ntwo", ["one", "two"])
    assert manager.log_path("job").read_text() == "one\ntwo\n"


def test_run_gives_up_after_its_time(manager: ProcessManager) -> None:
    with pytest.raises(PlatformError, match="took longer than"):
        manager.run(_python("slow", "import signal; signal.pause()"), timeout_s=0.05)


def test_a_second_owner_is_told_who_has_the_folder(manager: ProcessManager) -> None:
    assert lock.owner_of(manager.data_dir) == os.getpid()
    second = ProcessManager(manager.data_dir)
    with pytest.raises(PlatformError, match=f"in use by process {os.getpid()}"):
        second.open()
    second.close()
    assert lock.owner_of(manager.data_dir) == os.getpid()
    manager.close()
    assert lock.owner_of(manager.data_dir) is None


OWNER = """
import signal, sys
from pathlib import Path
from deploy.local.processes import Launch, ProcessManager
manager = ProcessManager(Path(sys.argv[1]))
manager.open()
names = sys.argv[2].split(",")
processes = [manager.spawn(Launch(name, (sys.executable, "-c", sys.argv[3]))) for name in names]
print(manager._watchdog.pid, *[process.pid for process in processes], flush=True)
signal.pause()
"""


def _owner(data_dir: Path, code: str = SERVE) -> tuple[subprocess.Popen[str], list[int]]:
    root = Path(__file__).parents[2]
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir), "a,b", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    for name in "ab":
        assert _eventually(lambda name=name: "up" in last_lines(data_dir / "logs" / f"{name}.log"))
    return owner, pids


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_outlives_an_owner_that_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    owner, pids = _owner(tmp_path)
    owner.send_signal(number)
    owner.wait()
    assert _eventually(lambda: all(_ended(pid) for pid in pids))


def test_what_outlives_both_owner_and_watchdog_is_ended_at_the_next_start(tmp_path: Path) -> None:
    owner, (watchdog, *children) = _owner(tmp_path)
    os.kill(watchdog, signal.SIGKILL)
    owner.kill()
    owner.wait()
    assert not any(_ended(pid) for pid in children)
    manager = ProcessManager(tmp_path)
    assert manager.open() == ["a", "b"]
    assert all(_ended(pid) for pid in children)
    manager.close()


def test_a_process_id_that_was_given_to_another_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    started_s = psutil.Process().create_time() - 3600.0
    (tmp_path / "run" / "kafka.pid").write_text(json.dumps({"pid": os.getpid(), "started_s": started_s, "stop_signal": 9}))
    (tmp_path / "run" / "torn.pid").write_text("{")
    manager = ProcessManager(tmp_path)
    assert manager.open() == []
    assert list((tmp_path / "run").glob("*.pid")) == []
    manager.close()


def test_a_process_is_known_by_its_id_and_its_start() -> None:
    me = psutil.Process()
    assert same(me.pid, me.create_time()) == me
    assert same(me.pid, me.create_time() + 60.0) is None


def test_a_long_log_is_moved_and_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    assert not rotate(path)
    with open(path, "ab", buffering=0) as writer:
        writer.write(b"old\n" * 10)
        assert not rotate(path, max_bytes=40)
        assert rotate(path, max_bytes=39)
        writer.write(b"new\n")
    assert path.read_bytes() == b"new\n"
    assert (tmp_path / "a.log.1").read_bytes() == b"old\n" * 10


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    assert last_lines(path) == ""
    path.write_text("".join(f"{number}\n\n" for number in range(5000)))
    assert last_lines(path, count=2) == "4998\n4999"
