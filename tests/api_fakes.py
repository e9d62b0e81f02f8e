"""What the API stands on, in memory, for its tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from api.app import Parts, make_app
from api.bodies import EventRecord
from api.clients import ApiKeys, new_api_key
from api.idempotency import Claim, Misused, Repeat, Running
from api.kafka import Headers, KafkaAway
from api.operations import ApiMetrics
from api.ratelimit import Allowance
from api.settings import IngestSettings
from api.stores import StoreAway
from schemas.codec import Codec
from schemas.topics import RAW

EVENT: dict[str, Any] = {
    "event_id": "evt-1", "user_id": "user-1", "device_id": "tv-1", "content_id": "movie-1", "event_type": "PLAY", "timestamp": "2026-01-16T12:34:56Z",
    "region": "NL", "is_eu": True, "has_consent": True, "ip_address": "203.0.113.10", "extra_metadata": {"app": {"version": "1.2.3"}},
}  # fmt: skip
KEY, DIGEST = new_api_key()


def events(count: int) -> list[dict[str, Any]]:
    """So many events with ids of their own."""
    return [EVENT | {"event_id": f"evt-{number}", "user_id": f"user-{number % 7}"} for number in range(count)]


@dataclass
class Log:
    """A producer that remembers, fails or waits as told."""

    records: list[EventRecord] = field(default_factory=list)
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    error: Exception | None = None
    gate: asyncio.Event | None = None

    async def publish(self, records: Sequence[EventRecord], headers: Headers) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.records.extend(records)
        self.headers = list(headers)


@dataclass
class Counts:
    """A rate limit that never gives anything back."""

    used: dict[str, int] = field(default_factory=dict)
    away: bool = False

    async def take(self, client: str, events: int, limit: int) -> Allowance:
        if self.away:
            raise StoreAway("away")
        used = self.used.get(client, 0)
        if used + events > limit:
            return Allowance(False, limit, limit - used, 60, 17)
        self.used[client] = used + events
        return Allowance(True, limit, limit - used - events, 60)


@dataclass
class Memory:
    """Idempotency keys in a dict."""

    kept: dict[tuple[str, str], tuple[bytes, bool]] = field(default_factory=dict)
    away: bool = False
    away_at_end: bool = False

    async def begin(self, client: str, key: str, fingerprint: bytes) -> Claim | Repeat | Running | Misused:
        if self.away:
            raise StoreAway("away")
        found = self.kept.get((client, key))
        if found is None:
            self.kept[client, key] = (fingerprint, False)
            return Claim(f"{client} {key}", b"", fingerprint)
        if found[0] != fingerprint:
            return Misused()
        return Repeat() if found[1] else Running()

    async def settle(self, claim: Claim) -> None:
        if self.away_at_end:
            raise StoreAway("away")
        client, key = claim.key.split(" ")
        self.kept[client, key] = (claim.fingerprint, True)

    async def release(self, claim: Claim) -> None:
        client, key = claim.key.split(" ")
        del self.kept[client, key]


@dataclass
class Served:
    """An application with its fakes and a client that has a key."""

    http: httpx.AsyncClient
    log: Log
    counts: Counts
    memory: Memory
    metrics: ApiMetrics
    codec: Codec

    async def send(self, body: Any, **headers: str) -> httpx.Response:
        """Posts JSON, or bytes as they are; header names with `_` for `-`."""
        given = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, bytes):
            return await self.http.post("/v1/events", content=body, headers=given)
        return await self.http.post("/v1/events", json=body, headers=given)

    def counted(self, name: str, **labels: str) -> float:
        """A counter's value."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def decoded(self) -> list[Any]:
        """The records that are in the log."""
        return [self.codec.decode(record.value, RAW.record) for record in self.log.records]


@asynccontextmanager
async def served(settings: IngestSettings | None = None, keys: str = f"gateway {DIGEST}", **parts: Any) -> AsyncIterator[Served]:
    """The application on fakes."""
    log, counts, memory, metrics, codec = Log(), Counts(), Memory(), ApiMetrics(), Codec()
    made = replace(Parts(log, codec, (ApiKeys(keys),), counts, memory), **parts)
    app = make_app(made, settings or IngestSettings(), metrics=metrics)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://usher.test", headers={"X-API-Key": KEY}) as http:
        yield Served(http, log, counts, memory, metrics, codec)


def away(message: str = "no broker") -> KafkaAway:
    """What a producer raises."""
    return KafkaAway(message)
