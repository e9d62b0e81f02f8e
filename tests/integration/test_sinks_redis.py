"""The Redis sink and the cache on a real Valkey that comes and goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from streams.sinks.base import StoreAway
from streams.sinks.cache import REST_S, TAIL_KEY, Cache, connect, user_decisions_key
from streams.sinks.redis import RedisSink
from tests.sink_samples import NOON_MS, decision, decisions, record
from tests.sink_stores import redis_database

pytestmark = pytest.mark.integration


@pytest.fixture
def url(platform: Any) -> Iterator[str]:
    own = redis_database(platform.redis_url, 8)
    redis.Redis.from_url(own).flushdb()
    yield own
    redis.Redis.from_url(own).flushdb()


@pytest.fixture
def cache(url: str) -> Cache:
    return Cache(connect(url, 0.25))


def test_a_user_s_list_holds_the_newest_by_event_time(url: str, cache: Cache) -> None:
    sink = RedisSink(url, keep=5)
    shuffled = [3, 9, 1, 7, 0, 8, 2, 6, 4, 5]
    sink.write([record(decision(number, user="u", event_time=NOON_MS + number), offset) for offset, number in enumerate(shuffled)])
    recent = cache.recent("default", "u", 50)
    assert [one.event_time - NOON_MS for one in recent] == [9, 8, 7, 6, 5]
    assert [one.event_time - NOON_MS for one in cache.recent("default", "u", 2)] == [9, 8]
    assert recent[-1].outcome == "BLOCK"
    assert recent[-1].reasons == ("impossible-travel", "new-device")
    assert recent[-1].breaches == ("GDPR/consent-missing",)
    assert cache.recent("other", "u", 50) == []


def test_lists_expire_and_the_tail_is_bounded(url: str) -> None:
    sink = RedisSink(url, ttl_s=100, tail=50)
    sink.write(decisions(0, 2_000))
    client = redis.Redis.from_url(url)
    assert 0 < client.ttl(user_decisions_key("default", "u-1")) <= 100
    assert 50 <= client.xlen(TAIL_KEY) < 300  # '~' keeps whole nodes of the stream


def test_the_tail_is_read_on_from_where_one_was(url: str, cache: Cache) -> None:
    sink = RedisSink(url)
    sink.write(decisions(0, 5))
    first = cache.tail("0", 3)
    sink.write(decisions(5, 8))
    rest = cache.tail(first[-1][0], 100)
    assert [one.event_id for _, one in first + rest] == [f"e-{number:032x}" for number in range(8)]
    assert cache.tail(rest[-1][0], 100) == []


def test_many_are_set_and_got_in_order_with_misses(cache: Cache) -> None:
    assert cache.set_many({"a": b"1", "b": b"2"}, 10)
    assert cache.get_many(["b", "nothing", "a"]) == [b"2", None, b"1"]
    assert cache.set_many({}, 10)
    assert cache.get_many([]) == []
    assert (cache.counts.hits, cache.counts.misses, cache.counts.errors) == (2, 1, 0)
    assert cache.set_many({"short": b"x"}, 0.001)
    time.sleep(0.01)
    assert cache.get_many(["short"]) == [None]


def test_clear_counts_what_it_deletes_and_leaves_the_rest(url: str, cache: Cache) -> None:
    cache.set_many({f"profile:{number}": b"x" for number in range(1_700)}, 60)
    cache.set_many({"geo:1": b"y"}, 60)
    redis.Redis.from_url(url).set("someone-else", b"z")
    assert cache.clear("profile:*") == 1_700
    assert cache.clear("profile:*") == 0
    assert cache.get_many(["geo:1"]) == [b"y"]
    assert cache.clear("*") == 1
    assert redis.Redis.from_url(url).get("someone-else") == b"z"


def test_a_redis_that_forgot_everything_is_filled_again(url: str, cache: Cache) -> None:
    sink = RedisSink(url)
    sink.write(decisions(0, 5))
    redis.Redis.from_url(url).flushdb()
    redis.Redis.from_url(url).script_flush()
    assert cache.recent("default", "u-7", 5) == []
    sink.write(decisions(5, 10))
    assert len(cache.tail("0", 100)) == 5


def test_without_redis_reads_are_misses_at_once_and_writes_wait_their_turn(platform: Any, url: str, cache: Cache) -> None:
    sink = RedisSink(url)
    sink.write(decisions(0, 5))
    assert cache.set_many({"a": b"1"}, 60)
    platform.kill("valkey")
    try:
        with pytest.raises(StoreAway):
            sink.write(decisions(5, 10))
        assert cache.get_many(["a", "b"]) == [None, None]
        assert not cache.set_many({"a": b"1"}, 60)
        assert cache.recent("default", "u-1", 5) == []
        assert cache.tail("0", 5) == []
        assert cache.counts.errors == 4
        with pytest.raises(redis.RedisError):
            cache.clear("*")
    finally:
        platform.restart("valkey")
    sink.write(decisions(0, 10))
    rested = Cache(connect(url, 0.25))
    assert {f"e-{number:032x}" for number in range(5, 10)} <= {one.event_id for _, one in rested.tail("0", 100)}


def test_a_redis_that_hangs_costs_one_time_out_and_then_rest(platform: Any, url: str) -> None:
    now = [100.0]
    cache = Cache(connect(url, 0.25), clock=lambda: now[0])
    cache.set_many({"a": b"1"}, 60)
    platform.pause("valkey")
    try:
        started = time.monotonic()
        for _ in range(50):
            assert cache.get_many(["a"]) == [None]
        assert time.monotonic() - started < 5 * 0.25
    finally:
        platform.resume("valkey")
    assert cache.get_many(["a"]) == [None]
    now[0] += REST_S
    assert cache.get_many(["a"]) == [b"1"]
