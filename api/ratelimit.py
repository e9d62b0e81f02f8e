"""At most so many events of a client in any window, counted in Redis by all replicas together.

Events are counted by the sixtieth of a window in which they came (by Redis's clock, which all replicas share) and leave the count
when the last moment of that sixtieth has left the window. So no window of any position holds more than the limit, and a client
may find it up to a sixtieth of a window late in letting it go on. A refused request costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

from api.stores import Store

SLOTS: Final = 60
PREFIX: Final = "usher:api:rate:"

TAKE: Final = """
local now_us = redis.call('TIME')
local now_ms = now_us[1] * 1000 + math.floor(now_us[2] / 1000)
local cost, limit, slot_ms, slots = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local slot = math.floor(now_ms / slot_ms)
local stored = redis.call('HGETALL', KEYS[1])
local used, kept, gone = 0, {}, {}
for i = 1, #stored, 2 do
  local at, count = tonumber(stored[i]), tonumber(stored[i + 1])
  if at < slot - slots then
    gone[#gone + 1] = stored[i]
  else
    used = used + count
    kept[#kept + 1] = {at, count}
  end
end
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
local wait_ms = 0
local newest = slot
if used + cost <= limit then
  redis.call('HINCRBY', KEYS[1], slot, cost)
  redis.call('PEXPIRE', KEYS[1], (slots + 1) * slot_ms)
  used = used + cost
else
  table.sort(kept, function(a, b) return a[1] < b[1] end)
  local needed, freed = used + cost - limit, 0
  for _, one in ipairs(kept) do
    freed = freed + one[2]
    if freed >= needed then
      wait_ms = (one[1] + slots + 1) * slot_ms - now_ms
      break
    end
  end
  newest = kept[#kept][1]
end
return {wait_ms, math.max(0, limit - used), (newest + slots + 1) * slot_ms - now_ms}
"""
"""Takes `cost` from the window, or says after how many ms it fits. Gives that (0: taken), what is left, and ms until all is free."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the limit says to a request.

    Attributes:
        taken: whether the events are within the limit and have been counted.
        limit: events in any window.
        remaining: events that fit now.
        reset_s: seconds until the whole limit is free if nothing more comes; rounded up.
        retry_after_s: seconds until these events fit if nothing else comes; 0 where taken, else at least 1.
    """

    taken: bool
    limit: int
    remaining: int
    reset_s: int
    retry_after_s: int = 0

    def headers(self, window_s: float) -> dict[str, str]:
        """Response headers: the IETF draft's (draft-ietf-httpapi-ratelimit-headers-10) and the three that went before it."""
        found = {
            "RateLimit-Policy": f'"events";q={self.limit};w={math.ceil(window_s)}',
            "RateLimit": f'"events";r={self.remaining};t={self.reset_s}',
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }
        if self.retry_after_s:
            found["Retry-After"] = str(self.retry_after_s)
        return found


class RateLimiter(Protocol):
    """Counts the events of clients."""

    async def take(self, client: str, events: int, limit: int) -> Allowance:
        """Counts events if they fit.

        Args:
            client: whose events.
            events: how many, 1 to `limit`.
            limit: how many this client may send in any window.

        Raises:
            StoreAway: it cannot be known.
        """
        ...


class RedisRateLimiter:
    """The limit that all replicas share.

    Args:
        store: Redis.
        window_s: length of the window, at least 0.06.
    """

    def __init__(self, store: Store, window_s: float) -> None:
        self._store = store
        self._slot_ms = max(1, math.ceil(window_s * 1000 / SLOTS))
        self._take = store.client.register_script(TAKE)

    async def take(self, client: str, events: int, limit: int) -> Allowance:
        """As `RateLimiter.take`, in one round trip."""
        wait_ms, remaining, reset_ms = await self._store.ask(
            lambda: self._take(keys=[f"{PREFIX}{self._slot_ms}:{client}"], args=[events, limit, self._slot_ms, SLOTS])
        )
        retry_after_s = max(1, math.ceil(wait_ms / 1000)) if wait_ms else 0
        return Allowance(not wait_ms, limit, int(remaining), math.ceil(reset_ms / 1000), retry_after_s)
