"""The ingest API as it is served: uvicorn, real Kafka, real Valkey; and what it does while they are away."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from confluent_kafka import Producer

from api.app import Parts, make_app
from api.clients import ApiKeys
from api.idempotency import Claim, Misused, RedisReplies, Repeat, Running
from api.kafka import AckedProducer
from api.operations import Check
from api.ratelimit import RedisRateLimiter
from api.settings import IngestSettings
from api.stores import REST_S, Store, StoreAway, connect
from schemas.codec import Codec
from schemas.topics import RAW
from streams.admin import create_topics, read_all, wanted_topics
from streams.publish import producer_config
from streams.settings import Settings
from streams.topology import make_topology
from tests.api_fakes import DIGEST, EVENT, KEY
from tests.sink_stores import redis_database

pytestmark = pytest.mark.integration

CODEC = Codec()
SETTINGS = IngestSettings(ack_timeout_s=4.0, events_per_window=1_000_000)


@pytest.fixture(scope="module")
def kafka(platform: Any) -> str:
    create_topics(platform.bootstrap_servers, wanted_topics(make_topology(Settings(partitions=2)), (RAW,), 2, 1))
    found: str = platform.bootstrap_servers
    return found


@pytest.fixture
async def store(platform: Any) -> AsyncIterator[Store]:
    client = connect(redis_database(platform.redis_url, 9), timeout_s=5.0)  # a busy machine is not what these tests are about
    await client.flushdb()
    yield Store(client, time.monotonic)
    await client.aclose()


@dataclass
class Replica:
    """One API process's worth of application, served on a port of its own."""

    http: httpx.AsyncClient
    producer: AckedProducer

    async def send(self, body: Any, **headers: str) -> httpx.Response:
        """Posts events as JSON."""
        given = {"X-API-Key": KEY} | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post("/v1/events", json=body, headers=given)


@asynccontextmanager
async def replica(platform: Any, settings: IngestSettings = SETTINGS, bootstrap: str | None = None) -> AsyncIterator[Replica]:
    config = producer_config(bootstrap or platform.bootstrap_servers, **{"message.timeout.ms": 3_000, "linger.ms": 2, "log_level": 0})
    producer = AckedProducer(Producer(config), RAW.name, settings.ack_timeout_s)
    store = Store(connect(redis_database(platform.redis_url, 9)), time.monotonic)
    parts = Parts(
        producer,
        CODEC,
        (ApiKeys(f"gateway {DIGEST}"),),
        RedisRateLimiter(store, settings.window_s),
        RedisReplies(store, settings.idempotency_ttl_s, settings.idempotency_lease_s),
        checks=(Check("kafka", producer.check), Check("redis", store.check, needed=False)),
        fatal=lambda: producer.fatal,
        pending=lambda: producer.pending,
        close=(producer.close, store.client.aclose),
    )
    config_ = uvicorn.Config(make_app(parts, settings), host="127.0.0.1", port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config_)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        assert not task.done()
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        try:
            yield Replica(http, producer)
        finally:
            server.should_exit = True
            await task


def batch(count: int, mark: str) -> list[dict[str, Any]]:
    return [EVENT | {"event_id": f"{mark}-{number}", "user_id": f"user-{number % 13}"} for number in range(count)]


def in_kafka(bootstrap: str, mark: str) -> list[tuple[bytes, str, str]]:
    """(key, user, event id) of the events with this mark."""
    found = []
    for message in read_all(bootstrap, RAW.name):
        event: Any = CODEC.decode(message.value(), RAW.record)
        if event.event_id.startswith(mark):
            found.append((message.key(), event.user_id, event.event_id))
    return found


def mark() -> str:
    return uuid.uuid4().hex


async def test_what_is_accepted_is_in_kafka_under_its_user(platform: Any, kafka: str, store: Store) -> None:
    own = mark()
    async with replica(platform) as api:
        answers = await asyncio.gather(*(api.send(batch(500, f"{own}-{number}")) for number in range(8)))
        assert {answer.status_code for answer in answers} == {202}
        ids = [event_id for answer in answers for event_id in answer.json()["event_ids"]]
        assert api.producer.pending == 0
        ready = await api.http.get("/health/ready")
        assert (ready.status_code, ready.json()) == (200, {"status": "ok", "parts": {"kafka": "ok", "redis": "ok"}})
        assert 'usher_api_events_accepted_total 4000.0' in (await api.http.get("/metrics")).text  # fmt: skip
    stored = in_kafka(kafka, own)
    assert sorted(event_id for _, _, event_id in stored) == sorted(ids)
    assert all(key == user.encode() for key, user, _ in stored)


async def test_many_single_events_at_once(platform: Any, kafka: str, store: Store) -> None:
    own = mark()
    async with replica(platform) as api:
        answers = await asyncio.gather(*(api.send(one) for one in batch(200, own)))
    assert {answer.status_code for answer in answers} == {202}
    assert len(in_kafka(kafka, own)) == 200


async def test_replicas_share_the_limit_and_the_keys(platform: Any, kafka: str, store: Store) -> None:
    settings = IngestSettings(events_per_window=100, window_s=60.0)
    own = mark()
    async with replica(platform, settings) as one, replica(platform, settings) as two:
        assert (await one.send(batch(60, own), Idempotency_Key=own)).headers["ratelimit-remaining"] == "40"
        refused = await two.send(batch(41, own))
        assert refused.status_code == 429
        assert 59 <= int(refused.headers["retry-after"]) <= 61
        again = await two.send(batch(40, own), Idempotency_Key=own)
        assert again.status_code == 422
        assert (await two.send({})).status_code == 429  # what is no event costs one too
    assert len(in_kafka(kafka, own)) == 60


async def test_a_repeat_at_another_replica_is_answered_and_not_produced(platform: Any, kafka: str, store: Store) -> None:
    own = mark()
    async with replica(platform) as one, replica(platform) as two:
        first = await one.send(batch(5, own), Idempotency_Key=own)
        again = await two.send(batch(5, own), Idempotency_Key=own)
    assert (again.status_code, again.content, again.headers["idempotency-replayed"]) == (202, first.content, "true")
    assert len(in_kafka(kafka, own)) == 5


async def test_without_kafka_the_wait_is_bounded(platform: Any, store: Store) -> None:
    async with replica(platform, bootstrap="127.0.0.1:1") as api:
        began = time.monotonic()
        answer = await api.send(EVENT)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:usher:problem:kafka-away")
        assert time.monotonic() - began < SETTINGS.ack_timeout_s + 2
        ready = await api.http.get("/health/ready")
        assert (ready.status_code, ready.json()["parts"]["redis"]) == (503, "ok")
        assert (await api.http.get("/health/live")).status_code == 200
        assert api.producer.pending == 0


async def test_kafka_that_comes_back_takes_events_again(platform: Any, kafka: str, store: Store) -> None:
    own = mark()
    async with replica(platform) as api:
        assert (await api.send(batch(1, own))).status_code == 202
        platform.pause("kafka")
        try:
            assert (await api.send(batch(3, own), Idempotency_Key=own)).status_code == 503
        finally:
            platform.resume("kafka")
        for _ in range(40):
            answer = await api.send(batch(3, own), Idempotency_Key=own)
            if answer.status_code == 202:
                break
            await asyncio.sleep(0.25)
        assert answer.status_code == 202
        assert "idempotency-replayed" not in answer.headers
        assert (await api.http.get("/health/live")).status_code == 200
    assert {event_id for _, _, event_id in in_kafka(kafka, own)} == {f"{own}-{number}" for number in range(3)}


@pytest.mark.parametrize("opens", [True, False])
async def test_without_redis_it_is_as_set(platform: Any, kafka: str, store: Store, opens: bool) -> None:
    settings = IngestSettings(rate_limit_fails_open=opens, idempotency_fails_open=opens)
    async with replica(platform, settings) as api:
        assert (await api.send(EVENT)).status_code == 202
        platform.kill("valkey")
        try:
            answer = await api.send(EVENT, Idempotency_Key="k")
            assert answer.status_code == (202 if opens else 503)
            ready = await api.http.get("/health/ready")
            assert ready.status_code == 200
        finally:
            platform.restart("valkey")
        await asyncio.sleep(REST_S)
        assert (await api.send(EVENT)).headers["ratelimit-limit"] == "10000"


async def test_a_redis_that_hangs_costs_one_time_out_a_second(platform: Any, kafka: str, store: Store) -> None:
    async with replica(platform) as api:
        assert (await api.send(EVENT)).status_code == 202
        platform.pause("valkey")
        try:
            began = time.monotonic()
            answers = [await api.send(EVENT) for _ in range(20)]
            assert {answer.status_code for answer in answers} == {202}
            assert time.monotonic() - began < 5.0
        finally:
            platform.resume("valkey")


async def test_no_window_holds_more_than_the_limit_and_what_is_told_to_wait_suffices(store: Store) -> None:
    limiter = RedisRateLimiter(store, 1.2)
    first = await limiter.take("c", 70, 100)
    assert (first.taken, first.remaining, first.reset_s) == (True, 30, 2)
    await asyncio.sleep(0.3)
    assert (await limiter.take("c", 30, 100)).remaining == 0
    refused = await limiter.take("c", 70, 100)
    assert (refused.taken, refused.remaining, refused.retry_after_s) == (False, 0, 1)
    assert (await limiter.take("other", 100, 100)).taken
    await asyncio.sleep(refused.retry_after_s)
    assert (await limiter.take("c", 70, 100)).taken
    assert not (await limiter.take("c", 31, 100)).taken
    assert await store.client.pttl("usher:api:rate:20:c") > 0


async def test_takes_at_the_same_time_never_exceed_the_limit(store: Store) -> None:
    limiters = [RedisRateLimiter(store, 60), RedisRateLimiter(store, 60)]
    taken = await asyncio.gather(*(limiters[number % 2].take("c", 7, 1_000) for number in range(200)))
    assert sum(one.taken for one in taken) == 1_000 // 7


async def test_a_key_is_claimed_settled_and_released(store: Store) -> None:
    replies = RedisReplies(store, 100, 10)
    one, two = b"1" * 32, b"2" * 32
    claim = await replies.begin("c", "k", one)
    assert isinstance(claim, Claim)
    assert isinstance(await replies.begin("c", "k", one), Running)
    assert isinstance(await replies.begin("c", "k", two), Misused)
    assert isinstance(await replies.begin("d", "k", two), Claim)
    await replies.release(claim)
    again = await replies.begin("c", "k", one)
    assert isinstance(again, Claim)
    await replies.release(claim)  # the first claim's lease ended meanwhile: it has no say any more
    assert isinstance(await replies.begin("c", "k", one), Running)
    await replies.settle(again)
    assert isinstance(await replies.begin("c", "k", one), Repeat)
    assert isinstance(await replies.begin("c", "k", two), Misused)
    assert 90_000 < await store.client.pttl(again.key) <= 100_000


async def test_a_store_that_failed_rests(platform: Any) -> None:
    now = [10.0]
    store = Store(connect("redis://127.0.0.1:1/0"), lambda: now[0])
    assert (await store.check()).startswith("away")
    calls = 0

    async def question() -> int:
        nonlocal calls
        calls += 1
        return calls

    with pytest.raises(StoreAway):
        await store.ask(question)
    now[0] += REST_S
    assert await store.ask(question) == 1
