"""Idempotency-Key: a request that is sent again under the same key has its effect once (draft-ietf-httpapi-idempotency-key-header).

A key is remembered with a fingerprint of the request, not with the response: the response to events that were taken follows from
the request alone (their ids), so 50 bytes of Redis stand for 40 kB of ids. Only a request that was taken is remembered; one that
failed frees its key.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final, Protocol

from api.stores import Store

PREFIX: Final = "usher:api:idempotency:"
_RUNNING: Final = b"?"
_DONE: Final = b"="
_TOKEN_BYTES: Final = 16
_FINGERPRINT_BYTES: Final = 32
_KEY: Final = re.compile(r'"?([\x21\x23-\x5b\x5d-\x7e]{1,255})"?', re.ASCII)

BEGIN: Final = """
local found = redis.call('GET', KEYS[1])
if found then return found end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
SETTLE: Final = """
local found = redis.call('GET', KEYS[1])
if found == ARGV[1] or not found then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
"""
RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """The key is ours until it is settled, released or its lease ends."""

    key: str
    mark: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same request was taken before."""


@dataclass(frozen=True, slots=True)
class Running:
    """The same request is being worked on."""


@dataclass(frozen=True, slots=True)
class Misused:
    """The key was used for another request."""


class Replies(Protocol):
    """Remembers which requests were taken. Each method raises `StoreAway` where it cannot."""

    async def begin(self, client: str, key: str, fingerprint: bytes) -> Claim | Repeat | Running | Misused:
        """Claims a client's key for a request with this fingerprint (32 bytes)."""
        ...

    async def settle(self, claim: Claim) -> None:
        """Remembers that the request was taken."""
        ...

    async def release(self, claim: Claim) -> None:
        """Forgets the request, so that it can be sent again."""
        ...


def parse_key(header: str) -> str | None:
    """The key in an Idempotency-Key header: 1 to 255 visible ASCII characters, in quotes or not; None: it is not of this form."""
    found = _KEY.fullmatch(header.strip())
    return found.group(1) if found else None


def fingerprint(media_type: str, body: bytes) -> bytes:
    """32 bytes that stand for a request."""
    return hashlib.sha256(media_type.encode() + b"\n" + body).digest()


class RedisReplies:
    """Keys that all replicas share.

    Args:
        store: Redis.
        ttl_s: how long a request that was taken is remembered.
        lease_s: how long one that is being worked on keeps its key if its server dies.
    """

    def __init__(self, store: Store, ttl_s: float, lease_s: float) -> None:
        self._store = store
        self._ttl_ms, self._lease_ms = int(ttl_s * 1000), int(lease_s * 1000)
        self._begin, self._settle, self._release = (store.client.register_script(one) for one in (BEGIN, SETTLE, RELEASE))

    async def begin(self, client: str, key: str, fingerprint: bytes) -> Claim | Repeat | Running | Misused:
        """As `Replies.begin`."""
        place = f"{PREFIX}{client}:{hashlib.sha256(key.encode()).hexdigest()}"
        mark = _RUNNING + secrets.token_bytes(_TOKEN_BYTES) + fingerprint
        found = await self._store.ask(lambda: self._begin(keys=[place], args=[mark, self._lease_ms]))
        if found is None:
            return Claim(place, mark, fingerprint)
        if found[-_FINGERPRINT_BYTES:] != fingerprint:
            return Misused()
        return Repeat() if found[:1] == _DONE else Running()

    async def settle(self, claim: Claim) -> None:
        """As `Replies.settle`."""
        await self._store.ask(lambda: self._settle(keys=[claim.key], args=[claim.mark, _DONE + claim.fingerprint, self._ttl_ms]))

    async def release(self, claim: Claim) -> None:
        """As `Replies.release`."""
        await self._store.ask(lambda: self._release(keys=[claim.key], args=[claim.mark]))
