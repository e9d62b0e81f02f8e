"""Ends what its owner started, once the owner is gone: by Ctrl-C, SIGTERM, an exception or kill -9.

`deploy.local.processes` runs this file as a process of its own, in a session of its own, with one end of a pipe as standard
input. Each line is `watch PID STARTED STOP_SIGNAL GRACE_S` or `forget PID`. The pipe closes when the owner dies, whatever it
dies of; then everything still watched is ended, the last started first.

A pipe and not PR_SET_PDEATHSIG, because that signal is sent when the *thread* that started the child ends, exists on Linux only
and is lost when the child changes its user, as Postgres has to.

This file imports nothing of ours: it is run by its path.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable

import psutil

POLL_S = 0.02
ORPHANED_CHECK_S = 1.0
# psutil derives the time a process started from clock ticks since boot; a process id is reused much later than this.
SAME_START_S = 2.0


def gone(process: psutil.Process) -> bool:
    """Whether the process has ended. A zombie has: it only waits for its parent to read the exit code."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def same(pid: int, started_s: float) -> psutil.Process | None:
    """The running process of this id that started at `started_s` (Unix time), or None if it ended or the id is another's now."""
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - started_s) > SAME_START_S or gone(process):
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def family(pid: int) -> list[psutil.Process]:
    """The process and all its descendants, the process first. Empty when it is gone."""
    try:
        leader = psutil.Process(pid)
        return [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def signal_all(processes: Iterable[psutil.Process], number: int) -> None:
    """Sends the signal to each that still exists."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            process.send_signal(number)


def wait_gone(processes: Iterable[psutil.Process], timeout_s: float, hurry: Callable[[], bool] = lambda: False) -> list[psutil.Process]:
    """Waits until all are gone, `timeout_s` have passed or `hurry` says so; returns those still there."""
    deadline = time.monotonic() + timeout_s
    left = [process for process in processes if not gone(process)]
    while left and time.monotonic() < deadline and not hurry():
        time.sleep(POLL_S)
        left = [process for process in left if not gone(process)]
    return left


def end_group(leader: int) -> None:
    """Kills what a process that has ended left in its group. Does nothing when the id belongs to a new process by now."""
    # An id is not given out again as long as it names a group that has members.
    if not psutil.pid_exists(leader):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def kill_family(members: Iterable[psutil.Process], group: int) -> None:
    """Kills the members and whatever is left in the process group, and waits until they are gone (at most 5 s)."""
    everyone = list(members)
    signal_all(everyone, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    wait_gone(everyone, timeout_s=5.0)


def stop_family(pid: int, stop_signal: int, grace_s: float, hurry: Callable[[], bool] = lambda: False) -> bool:
    """Asks the process to stop, waits up to `grace_s`, then kills it and every descendant still there.

    The signal goes to the process alone, which knows best how to end its children. A paused one is woken first.

    Returns:
        Whether it stopped by itself in time.
    """
    members = family(pid)
    leader = members[:1]
    signal_all(members, signal.SIGCONT)
    signal_all(leader, stop_signal)
    in_time = not wait_gone(leader, grace_s, hurry)
    kill_family([*members, *family(pid)], group=pid)
    return in_time


def main() -> None:
    """Reads the owner's lines until the owner is gone, then ends what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    owner = os.getppid()
    watched: dict[int, tuple[float, int, float]] = {}
    pending = b""
    # A child that the owner forked without exec holds the pipe open too, so the parent's id is looked at as well.
    while os.getppid() == owner:
        if not select.select([sys.stdin.fileno()], [], [], ORPHANED_CHECK_S)[0]:
            continue
        chunk = os.read(sys.stdin.fileno(), 65536)
        if not chunk:
            break
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            match line.split():
                case [b"watch", pid, started_s, stop_signal, grace_s]:
                    watched[int(pid)] = (float(started_s), int(stop_signal), float(grace_s))
                case [b"forget", pid]:
                    watched.pop(int(pid), None)
    for leader, (began_s, ending, patience_s) in reversed(watched.items()):
        if same(leader, began_s) is not None:
            stop_family(leader, ending, patience_s)
        else:
            end_group(leader)


if __name__ == "__main__":
    main()
