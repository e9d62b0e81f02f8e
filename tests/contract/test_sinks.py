"""The contract of `streams.sinks.base.Sink`, held by every sink on its real store."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from schemas.topics import ALERTS, DECISIONS, RAW
from streams.sinks.base import Sink, StoreAway
from streams.sinks.cache import PREFIX, TAIL_KEY, Cache
from streams.sinks.memory import MemorySink
from streams.sinks.postgres import PostgresSink
from streams.sinks.redis import RedisSink
from tests.sink_samples import alert, decision, decisions, record
from tests.sink_stores import fresh_database, redis_database, rows


@dataclass
class Stored:
    """A sink, and the event ids of the decisions in its store, each as often as it is there."""

    sink: Sink
    event_ids: Callable[[], list[str]]

    def ids(self) -> Counter[str]:
        return Counter(self.event_ids())


@pytest.fixture(scope="module")
def database(platform: Any) -> Iterator[str]:
    with fresh_database(platform.postgres_dsn) as dsn:
        yield dsn


@pytest.fixture(
    params=["memory", pytest.param("postgres", marks=pytest.mark.integration), pytest.param("redis", marks=pytest.mark.integration)]
)
def stored(request: pytest.FixtureRequest) -> Iterator[Stored]:
    if request.param == "memory":
        memory = MemorySink()
        yield Stored(memory, lambda: [key[1] for key in memory.rows.get("decisions", {})])
        return
    platform = request.getfixturevalue("platform")
    sink: Sink
    if request.param == "postgres":
        dsn = request.getfixturevalue("database")
        sink = PostgresSink(dsn)
        yield Stored(sink, lambda: [row[0] for row in rows(dsn, "SELECT event_id FROM usher.decisions")])
        rows(dsn, "TRUNCATE usher.events, usher.decisions, usher.alerts")
    else:
        url = redis_database(platform.redis_url, 9)
        client = redis.Redis.from_url(url)
        client.flushdb()
        sink = RedisSink(url)
        cache = Cache(client)
        yield Stored(sink, lambda: [one.event_id for _, one in cache.tail("0", 100_000)])
        lists = sum(client.zcard(key) for key in client.scan_iter(f"{PREFIX}user:*"))
        assert lists == client.xlen(TAIL_KEY), "the users' lists and the tail hold the same decisions"
    sink.close()


def ids_of(batch: list[Any]) -> Counter[str]:
    return Counter({one.value.event.event_id for one in batch})


def test_a_batch_is_stored_when_write_returns(stored: Stored) -> None:
    batch = decisions(0, 25)
    stored.sink.write(batch)
    assert stored.ids() == ids_of(batch)


def test_writing_a_batch_again_changes_nothing(stored: Stored) -> None:
    batch = decisions(0, 25)
    for _ in range(3):
        stored.sink.write(batch)
    assert stored.ids() == ids_of(batch)


def test_an_event_decided_again_upstream_stays_one_row(stored: Stored) -> None:
    stored.sink.write(decisions(0, 10))
    stored.sink.write([record(decision(number, decided_at=1_900_000_000_000), 100 + number) for number in range(10)])
    assert stored.ids() == ids_of(decisions(0, 10))


def test_a_repeat_within_one_batch_stays_one_row(stored: Stored) -> None:
    stored.sink.write([*decisions(0, 10), *decisions(5, 15), *decisions(0, 3)])
    assert stored.ids() == ids_of(decisions(0, 15))


@pytest.mark.parametrize("seed", range(5))
def test_any_cut_with_any_rewinds_gives_the_same_rows(stored: Stored, seed: int) -> None:
    chance = random.Random(seed)
    log, at = decisions(0, 120), 0
    while at < len(log):
        size = chance.randint(1, 40)
        stored.sink.write(log[at : at + size])
        at += size
        if chance.random() < 0.3:
            at = max(0, at - chance.randint(1, 60))  # a crash before the commit
    assert stored.ids() == ids_of(log)


def test_an_empty_batch_is_fine(stored: Stored) -> None:
    stored.sink.write([])
    assert not stored.ids()


def test_tombstones_and_foreign_records_are_skipped(stored: Stored) -> None:
    foreign = [record(None, 0), record(decision(1).event, 1, topic=RAW.name), record(alert(1), 2, topic=ALERTS.name)]
    stored.sink.write([*foreign, *decisions(5, 6)])
    assert stored.ids() == ids_of(decisions(5, 6))


@pytest.mark.parametrize(
    "text", ["\0", "\\N", "a\tb\nc\rd\\", "'; DROP TABLE usher.decisions; --", "\u2028😀\ufeff", '{"a": [1, "\\u0000"]}', "x" * 100_000]
)
def test_no_text_is_refused(stored: Stored, text: str) -> None:
    batch = [record(decision(number, text=text), number) for number in range(3)]
    stored.sink.write(batch)
    assert stored.ids() == ids_of(batch)


def test_users_with_strange_names_are_kept_apart(stored: Stored) -> None:
    names = ["u:1", "u", "1:u", "u*", "u\n", "日本", "u\x1f1"]
    stored.sink.write([record(decision(number, user=name), number) for number, name in enumerate(names)])
    assert len(stored.ids()) == len(names)


def test_close_keeps_nothing_back_and_a_later_write_opens_again(stored: Stored) -> None:
    stored.sink.write(decisions(0, 5))
    stored.sink.close()
    stored.sink.close()
    assert stored.ids() == ids_of(decisions(0, 5))
    stored.sink.write(decisions(3, 8))
    assert stored.ids() == ids_of(decisions(0, 8))


def test_a_store_that_is_there_answers_before_and_after_writes(stored: Stored) -> None:
    stored.sink.ping()
    stored.sink.write(decisions(0, 3))
    stored.sink.ping()
    stored.sink.close()
    stored.sink.ping()
    assert stored.ids() == ids_of(decisions(0, 3))


@pytest.mark.parametrize(
    "sink", [PostgresSink("postgresql://127.0.0.1:1/usher"), RedisSink("redis://127.0.0.1:1/0")], ids=lambda one: one.name
)
def test_a_store_that_is_gone_says_so_when_asked(sink: Sink) -> None:
    for _ in range(2):
        with pytest.raises(StoreAway):
            sink.ping()


def test_a_sink_names_its_topics(stored: Stored) -> None:
    assert DECISIONS in stored.sink.topics
    assert stored.sink.name.isidentifier()
    assert isinstance(stored.sink.takes_dead_letters, bool)
