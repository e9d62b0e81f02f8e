"""Redis as the API uses it: short time-outs, and left alone for a moment after it failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log: Final = structlog.get_logger("usher.api")

REST_S: Final = 1.0
"""How long a Redis that failed is left alone, so that a slow one costs one time-out a second and not one a request."""
MAX_CONNECTIONS: Final = 32

Answer = TypeVar("Answer")


class StoreAway(Exception):
    """Redis did not answer, or is being left alone because it just did not."""


def connect(url: str, timeout_s: float = 0.25) -> Redis:
    """A client whose every wait ends within `timeout_s`; tries once more on a connection that went stale."""
    pool = BlockingConnectionPool.from_url(
        url, max_connections=MAX_CONNECTIONS, timeout=timeout_s, socket_timeout=timeout_s, socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 1),
    )  # fmt: skip
    return Redis(connection_pool=pool)


class Store:
    """Asks Redis, and says at once that it is away while it rests.

    Args:
        client: from `connect`.
        clock: monotonic seconds.
    """

    def __init__(self, client: Redis, clock: Callable[[], float]) -> None:
        self.client = client
        self._clock = clock
        self._rests_until_s = 0.0

    async def ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """Redis's answer.

        Raises:
            StoreAway: it has none, or rests.
        """
        if self._clock() < self._rests_until_s:
            raise StoreAway("Redis failed a moment ago")
        try:
            return await question()
        except (RedisError, OSError, TimeoutError) as error:
            self._rests_until_s = self._clock() + REST_S
            log.warning("redis does not answer", error=type(error).__name__)
            raise StoreAway(type(error).__name__) from error

    async def check(self) -> str:
        """`ok`, or what is wrong."""
        try:
            await self.ask(self.client.ping)
        except StoreAway as error:
            return f"away: {error}"
        return "ok"
