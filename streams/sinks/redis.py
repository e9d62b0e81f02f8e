"""Keeps the latest decisions in Redis: some of each user, and of all users for whoever watches.

One Lua script stores a chunk of a batch: a decision that its user's list already holds is left out of the tail as well, so a
repeat changes nothing (except for decisions that have already left the list). Not for Redis Cluster: the tail and the lists are different slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import redis

from schemas.codec import Case
from schemas.topics import DECISIONS, Topic
from streams.sinks.base import SinkRecord, StoreAway
from streams.sinks.cache import TAIL_KEY, RecentDecision, connect, user_decisions_key

WRITE_TIMEOUT_S: Final = 5.0
_CHUNK: Final = 200
"""Decisions a script call stores: about 2 ms in which Redis does nothing else."""

_STORE: Final = """
local keep, ttl, tail = tonumber(ARGV[1]), ARGV[2], ARGV[3]
for i = 2, #KEYS do
  local at, body = ARGV[2 * i], ARGV[2 * i + 1]
  if redis.call('ZADD', KEYS[i], 'NX', at, body) == 1 then
    redis.call('ZREMRANGEBYRANK', KEYS[i], 0, -keep - 1)
    redis.call('EXPIRE', KEYS[i], ttl)
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', tail, '*', 'decision', body)
  end
end
"""


class RedisSink:
    """Stores the latest decisions.

    Args:
        url: Redis or Valkey URL.
        keep: most decisions kept of a user.
        ttl_s: how long a user's decisions are kept after the latest one (seconds).
        tail: about how many decisions of all users are kept.
    """

    name: Final = "redis"
    topics: Final[tuple[Topic, ...]] = (DECISIONS,)
    takes_dead_letters: Final = False

    def __init__(self, url: str, *, keep: int = 50, ttl_s: int = 86_400, tail: int = 10_000) -> None:
        self._url = url
        self._limits = (keep, ttl_s, tail)
        self._client: Any = None
        self._script: Any = None

    def write(self, batch: Sequence[SinkRecord]) -> None:
        """Stores a batch; see `Sink.write`. A write that was cut short is completed by its repeat.

        Raises:
            StoreAway: Redis is away, loading, full or slower than the time-out.
        """
        cases = [record.value for record in batch if isinstance(record.value, Case) and record.value.verdict is not None]
        if not cases:
            return
        try:
            self._open()
            for start in range(0, len(cases), _CHUNK):
                keys: list[str] = [TAIL_KEY]
                values: list[Any] = list(self._limits)
                for case in cases[start : start + _CHUNK]:
                    keys.append(user_decisions_key(case.event.tenant_id, case.event.user_id))
                    values += (case.event.timestamp, msgspec.json.encode(recent_decision(case)))
                self._script(keys, values)
        except redis.RedisError as error:
            raise self._away(error) from error

    def ping(self) -> None:
        """Sends PING; see `Sink.ping`.

        Raises:
            StoreAway: Redis is away, loading or slower than the time-out.
        """
        try:
            self._open().ping()
        except redis.RedisError as error:
            raise self._away(error) from error

    def _open(self) -> Any:
        if self._client is None:
            self._client = connect(self._url, WRITE_TIMEOUT_S)
            self._script = self._client.register_script(_STORE)
        return self._client

    def _away(self, error: redis.RedisError) -> StoreAway:
        self.close()
        return StoreAway(f"Redis: {type(error).__name__}: {str(error)[:200]}")

    def close(self) -> None:
        """Closes the connections. Never raises."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def recent_decision(case: Case) -> RecentDecision:
    """What the cache keeps of a decided case.

    Raises:
        ValueError: the case is not decided.
    """
    event, verdict, score, compliance, network = case.event, case.verdict, case.score, case.compliance, case.network
    if verdict is None or score is None or compliance is None or network is None:
        raise ValueError("the case is not decided")
    return RecentDecision(
        event_id=event.event_id,
        tenant_id=event.tenant_id,
        user_id=event.user_id,
        event_type=event.event_type,
        region=event.region,
        event_time=event.timestamp,
        outcome=verdict.outcome,
        severity=verdict.severity,
        risk=verdict.risk,
        reasons=tuple(reason.code for reason in verdict.reasons),
        segment=score.segment,
        breaches=tuple(f"{breach.law}/{breach.rule}" for breach in compliance.breaches),
        ring_id=network.ring_id,
        ring_size=network.ring_size,
    )
