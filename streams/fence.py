"""Ends the process when going on could do harm: a zombie must not write, a broken hop must not sit there idle.

A worker that was frozen for longer than its session (SIGSTOP, a stalled machine) has lost its partitions to another one and does not
know it. Half a session of silence is therefore the end: nothing more is written or acked, and the supervisor starts anew.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import Final, NoReturn

import structlog

log: Final = structlog.get_logger("usher.fence")

EXIT_BUG: Final = 70
"""Exit status when a batch or a hop failed for a reason that is no record's fault."""
EXIT_FENCED: Final = 75
"""Exit status when the process was silent for so long that another worker may own its partitions."""


def end_process(status: int, reason: str, **facts: object) -> NoReturn:
    """Ends the process at once, so that nothing more is written or acked."""
    log.error("worker ends at once", reason=reason, **facts)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class Fence:
    """Knows how long this process has been silent.

    Args:
        limit_s: longest silence, half the session timeout.
        clock: monotonic seconds.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_s = limit_s
        self.clock = clock
        self._last_s: float | None = None

    def check(self, began_s: float) -> None:
        """Ends the process when the work that began at `began_s` took too long, or the process was frozen meanwhile."""
        now_s = self.clock()
        if now_s - began_s > self.limit_s:
            end_process(EXIT_FENCED, "a batch took longer than half the session timeout", elapsed_s=round(now_s - began_s, 1))
        self._check_silence(now_s)

    def _check_silence(self, now_s: float) -> None:
        if self._last_s is not None and now_s - self._last_s > self.limit_s:
            end_process(
                EXIT_FENCED, "the process stood still for longer than half the session timeout", silent_s=round(now_s - self._last_s, 1)
            )

    async def watch(self) -> None:
        """Ticks for ever. Whichever comes first after a freeze, the tick or a check, ends the process."""
        while True:
            now_s = self.clock()
            self._check_silence(now_s)
            self._last_s = now_s
            await asyncio.sleep(self.limit_s / 8)
