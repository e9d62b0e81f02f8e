"""From Kafka into Postgres and Redis, while stores and workers come and go: nothing lost, nothing twice."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import CollectorRegistry

from schemas.codec import Codec
from schemas.topics import Topic
from streams.publish import producer_config
from streams.sinks.base import Sink
from streams.sinks.bury import bury_with
from streams.sinks.cache import Cache, connect
from streams.sinks.consumer import consumer_config
from streams.sinks.metrics import SinkMetrics
from streams.sinks.postgres import PostgresSink
from streams.sinks.redis import RedisSink
from streams.sinks.runner import SinkRunner
from streams.store import read_status
from tests.sink_samples import decision
from tests.sink_stores import fresh_database, redis_database, rows

pytestmark = pytest.mark.integration

CODEC = Codec()
PARTITIONS = 4


@dataclass
class Stream:
    """A decisions topic of its own with its dead letters, and the sink database behind it."""

    topic: Topic
    servers: str
    dsn: str
    producer: Producer

    def produce(self, start: int, stop: int, make: Callable[[int], bytes | None] | None = None) -> None:
        """Produces the decisions start … stop - 1, or what `make` gives for them."""
        producer = self.producer
        for number in range(start, stop):
            value = make(number) if make else CODEC.encode_case(decision(number), "ott.Decision")
            producer.produce(self.topic.name, value, f"u-{number % 50}".encode())
        assert producer.flush(30) == 0

    def counts(self) -> tuple[int, int]:
        """Rows and distinct event ids in decisions."""
        return rows(self.dsn, "SELECT count(*), count(DISTINCT event_id) FROM usher.decisions")[0]  # type: ignore[return-value]

    def runner(self, sink: Sink, stop: Callable[[], bool]) -> SinkRunner:
        sink.topics = (self.topic,)  # type: ignore[misc]
        config = consumer_config(self.servers, f"{sink.name}-{self.topic.name}", session_timeout_s=6.0, heartbeat_s=2.0)
        bury = bury_with(self.producer, 30.0)
        return SinkRunner(sink, Consumer(config), Codec(), [self.topic], bury, SinkMetrics(CollectorRegistry()), stop)

    @contextmanager
    def running(self, sink: Sink) -> Iterator[SinkRunner]:
        """A runner in a thread; stopped and waited for at the end."""
        stop = threading.Event()
        runner = self.runner(sink, stop.is_set)
        failures: list[BaseException] = []

        def run() -> None:
            try:
                runner.run()
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield runner
        finally:
            stop.set()
            thread.join(60)
        assert not thread.is_alive()
        assert failures == []


@pytest.fixture
def stream(platform: Any) -> Iterator[Stream]:
    topic = Topic(f"test.decisions.{uuid.uuid4().hex[:8]}.v1", "ott.Decision", "user_id")
    admin = AdminClient({"bootstrap.servers": platform.bootstrap_servers})
    for future in admin.create_topics([NewTopic(topic.name, PARTITIONS, 1), NewTopic(topic.dead, 1, 1)]).values():
        future.result(30)
    with fresh_database(platform.postgres_dsn) as dsn:
        yield Stream(topic, platform.bootstrap_servers, dsn, Producer(producer_config(platform.bootstrap_servers)))


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def test_what_is_produced_is_stored_and_what_is_poison_is_a_dead_letter_in_both_places(stream: Stream) -> None:
    good = CODEC.encode_case(decision(1), "ott.Decision")
    poison = {
        100: None,
        200: b"",
        300: good[:50],
        400: b"\x07" + good[1:],
        500: b"\x00\x7f\x7f\x7f\x7f",
        600: good + b"x",
        700: b"\xff" * 900_000,
    }
    encoded = {number: poison.get(number, CODEC.encode_case(decision(number), "ott.Decision")) for number in range(1_000)}
    stream.produce(0, 1_000, encoded.__getitem__)
    with stream.running(PostgresSink(stream.dsn)):
        until(lambda: stream.counts() == (993, 993) and read_status(stream.dsn).dead_letters == 7)
    found = rows(stream.dsn, "SELECT reasons[1], size_bytes, stage, source_topic FROM usher.dead_letters")
    assert sorted((code, size) for code, size, _, _ in found) == sorted(
        [
            ("empty-value", 0),
            ("empty-value", 0),
            ("truncated", 50),
            ("bad-magic", len(good)),
            ("unknown-schema-id", 5),
            ("trailing-bytes", len(good) + 1),
            ("bad-magic", 900_000),
        ]
    )
    assert {(stage, topic) for _, _, stage, topic in found} == {("sink-postgres", stream.topic.name)}
    assert sorted(dead_values(stream, 7), key=str) == sorted(poison.values(), key=str)


def dead_values(stream: Stream, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": stream.servers, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"})
    consumer.subscribe([stream.topic.dead])
    found: list[bytes | None] = []
    until(lambda: found.extend(one.value() for one in consumer.consume(100, 0.2)) or len(found) >= count)
    consumer.close()
    return found


def test_postgres_killed_under_load_loses_nothing_and_the_consumer_keeps_its_place(stream: Stream, platform: Any) -> None:
    with stream.running(PostgresSink(stream.dsn)) as runner:
        stream.produce(0, 1_000)
        until(lambda: stream.counts()[0] == 1_000)
        platform.kill("postgres")
        try:
            stream.produce(1_000, 3_000)
            until(lambda: runner.away != "")
            time.sleep(7.0)  # longer than the session: only polling and heartbeats keep the partitions
            assert len(runner._consumer.assignment()) == PARTITIONS + 1
        finally:
            platform.restart("postgres")
        until(lambda: stream.counts() == (3_000, 3_000))
        until(lambda: runner.away == "")
    assert read_status(stream.dsn).decisions == 3_000


def test_postgres_that_hangs_is_waited_for(stream: Stream, platform: Any) -> None:
    with stream.running(PostgresSink(stream.dsn)):
        stream.produce(0, 500)
        until(lambda: stream.counts()[0] == 500)
        platform.pause("postgres")
        try:
            stream.produce(500, 1_500)
            time.sleep(2.0)
        finally:
            platform.resume("postgres")
        until(lambda: stream.counts() == (1_500, 1_500))


def test_kafka_that_is_gone_shows_and_its_return_too(stream: Stream, platform: Any) -> None:
    with stream.running(PostgresSink(stream.dsn)) as runner:
        stream.produce(0, 100)
        until(lambda: stream.counts()[0] == 100 and runner.kafka_away == "")
        platform.kill("kafka")
        try:
            until(lambda: runner.kafka_away != "")
            assert runner.away == ""
        finally:
            platform.restart("kafka")
        stream.produce(100, 200)
        until(lambda: stream.counts() == (200, 200) and runner.kafka_away == "")


def test_an_idle_sink_shows_that_its_store_is_gone(stream: Stream, platform: Any) -> None:
    with stream.running(PostgresSink(stream.dsn)) as runner:
        until(lambda: runner.kafka_away == "" and runner.away == "")
        platform.kill("postgres")
        try:
            until(lambda: runner.away != "")
        finally:
            platform.restart("postgres")
        until(lambda: runner.away == "")


def test_redis_killed_under_load_is_filled_when_it_is_back(stream: Stream, platform: Any) -> None:
    url = redis_database(platform.redis_url, 7)
    with stream.running(RedisSink(url, keep=1_000)) as runner:
        stream.produce(0, 200)
        until(lambda: len(Cache(connect(url, 1.0)).tail("0", 10_000)) == 200)
        platform.kill("valkey")
        try:
            stream.produce(200, 1_000)
            until(lambda: runner.away != "")
        finally:
            platform.restart("valkey")
        missed = {f"e-{number:032x}" for number in range(200, 1_000)}
        until(lambda: missed <= {one.event_id for _, one in Cache(connect(url, 1.0)).tail("0", 10_000)})


def test_workers_that_join_and_leave_make_each_row_once(stream: Stream) -> None:
    stop = threading.Event()

    def feed() -> None:
        for start in range(0, 4_000, 100):
            stream.produce(start, start + 100)
            stop.wait(0.05)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with stream.running(PostgresSink(stream.dsn)):
        time.sleep(1.0)
        with stream.running(PostgresSink(stream.dsn)):
            time.sleep(3.0)
        feeder.join()
        until(lambda: stream.counts() == (4_000, 4_000))
    assert read_status(stream.dsn).decisions == 4_000


def test_a_clean_stop_leaves_nothing_to_repeat(stream: Stream) -> None:
    stream.produce(0, 500)
    with stream.running(PostgresSink(stream.dsn)):
        until(lambda: stream.counts()[0] == 500)
    rows(stream.dsn, "TRUNCATE usher.decisions")
    stream.produce(500, 600)
    with stream.running(PostgresSink(stream.dsn)):
        until(lambda: stream.counts()[0] >= 100)
    assert stream.counts() == (100, 100)
