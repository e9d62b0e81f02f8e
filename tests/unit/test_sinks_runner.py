"""The runner against a consumer and a store that do what the test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from prometheus_client import CollectorRegistry

from schemas.codec import Codec, SchemaIds
from schemas.topics import ALL, DECISIONS, RAW, USER_RINGS
from streams.registry import RegistryAway
from streams.sinks.base import Refused, SinkRecord, StoreAway
from streams.sinks.bury import BuryFailed, Unwritable
from streams.sinks.consumer import consumer_config
from streams.sinks.memory import MemorySink
from streams.sinks.metrics import SinkMetrics
from streams.sinks.runner import PING_EVERY_S, SinkRunner
from streams.sinks.service import states
from streams.sinks.watch import QUIET_S, KafkaWatch
from tests.sink_samples import NOON_MS, decision

CODEC = Codec()


class FakeMessage:
    def __init__(self, topic: str, partition: int, offset: int, value: bytes | None, error: Any = None) -> None:
        self._parts = (topic, partition, offset, value, error)

    def topic(self) -> str:
        return self._parts[0]

    def partition(self) -> int:
        return self._parts[1]

    def offset(self) -> int:
        return self._parts[2]

    def value(self) -> bytes | None:
        return self._parts[3]

    def error(self) -> Any:
        return self._parts[4]

    def key(self) -> bytes:
        return b"u-1"

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, NOON_MS


class FakeConsumer:
    """Gives the batches in turn; while polled with paused partitions it does what `while_paused` says, one action a poll."""

    def __init__(self, batches: Sequence[Sequence[FakeMessage]]) -> None:
        self.batches = list(batches)
        self.commits: dict[tuple[str, int], int] = {}
        self.paused = False
        self.closed = False
        self.polls = 0
        self.while_paused: list[Callable[[], Any]] = []
        self.callbacks: dict[str, Any] = {}
        self.silent = False

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self.topics, self.callbacks = topics, callbacks
        callbacks["on_assign"](self, self.assignment())

    def consume(self, num_messages: int, timeout: float) -> list[FakeMessage]:
        assert not self.paused
        return list(self.batches.pop(0)) if self.batches else []

    def poll(self, timeout: float) -> Any:
        assert self.paused, "a held batch means paused partitions"
        self.polls += 1
        return self.while_paused.pop(0)() if self.while_paused else None

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self.commits |= {(one.topic, one.partition): one.offset for one in offsets}

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.silent:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return partitions

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(DECISIONS.name, 0), TopicPartition(DECISIONS.name, 1)]

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused = True

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused = False

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(one.topic, one.partition, 7) for one in partitions]

    def get_watermark_offsets(self, partition: TopicPartition, *, cached: bool) -> tuple[int, int]:
        return 0, 10

    def close(self) -> None:
        self.closed = True


class ScriptedSink(MemorySink):
    """A memory sink whose writes fail as told: one error a write, then none; `poison` event ids are always refused."""

    def __init__(self, failures: Sequence[Exception] = (), poison: set[str] | None = None) -> None:
        super().__init__()
        self.failures = list(failures)
        self.poison = poison or set()
        self.closed = False
        self.ping_failures: list[Exception] = []
        self.pings = 0

    def ping(self) -> None:
        self.pings += 1
        if self.ping_failures:
            raise self.ping_failures.pop(0)

    def write(self, batch: Sequence[SinkRecord]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        if any(getattr(getattr(one.value, "event", None), "event_id", None) in self.poison for one in batch):
            raise Refused("DataError (22003)")
        super().write(batch)

    def close(self) -> None:
        self.closed = True


class Grave:
    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.letters: list[Unwritable] = []

    def __call__(self, letters: Sequence[Unwritable]) -> None:
        if self.failures:
            self.failures -= 1
            raise BuryFailed("no broker")
        self.letters += letters


class Clock:
    """Every look takes 50 ms, so that nothing has to wait."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.05
        return self.now


class Bench:
    def __init__(
        self,
        batches: Sequence[Sequence[FakeMessage]],
        sink: ScriptedSink | None = None,
        grave: Grave | None = None,
        codec: Codec = CODEC,
    ) -> None:
        self.consumer = FakeConsumer(batches)
        self.sink = sink or ScriptedSink()
        self.grave = grave or Grave()
        self.registry = CollectorRegistry()
        self.stopped = False
        self.clock = Clock()
        self.runner = SinkRunner(self.sink, self.consumer, codec, ALL, self.grave, SinkMetrics(self.registry), self.stop, self.clock)

    def stop(self) -> bool:
        return self.stopped or (not self.consumer.batches and not self.consumer.paused)

    def run(self) -> Bench:
        self.runner.run()
        return self

    def stored(self) -> set[str]:
        return {key[1] for key in self.sink.rows.get("decisions", {})}

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"sink": "memory", **labels})


def messages(start: int, stop: int, partition: int = 0) -> list[FakeMessage]:
    return [
        FakeMessage(DECISIONS.name, partition, number, CODEC.encode_case(decision(number), DECISIONS.record))
        for number in range(start, stop)
    ]


def event_ids(start: int, stop: int) -> set[str]:
    return {f"e-{number:032x}" for number in range(start, stop)}


def test_what_is_written_is_committed() -> None:
    bench = Bench([messages(0, 10), messages(10, 15), messages(50, 53, partition=1)]).run()
    assert bench.stored() == event_ids(0, 15) | event_ids(50, 53)
    assert bench.consumer.commits == {(DECISIONS.name, 0): 15, (DECISIONS.name, 1): 53}
    assert bench.consumer.closed
    assert bench.sink.closed
    assert bench.metric("usher_sink_rows_total", topic=DECISIONS.name) == 18
    assert bench.metric("usher_sink_lag_records", topic=DECISIONS.name, partition="0") == 3


def test_it_reads_dead_letter_topics_only_for_sinks_that_take_them() -> None:
    bench = Bench([])
    assert RAW.dead in bench.runner.subscription
    bench.sink.takes_dead_letters = False  # type: ignore[misc]
    runner = SinkRunner(bench.sink, bench.consumer, CODEC, ALL, bench.grave, SinkMetrics(CollectorRegistry()), bench.stop)
    assert not any(name.endswith(".dlq") for name in runner.subscription)


def test_nothing_is_committed_before_the_store_has_it_and_polling_goes_on() -> None:
    bench = Bench([messages(0, 10)], ScriptedSink([StoreAway("gone")] * 6))
    seen: list[Any] = []
    bench.consumer.while_paused = [lambda: seen.append((dict(bench.consumer.commits), bench.runner.away)) for _ in range(3)]
    bench.run()
    assert seen == [({}, "gone")] * 3
    assert bench.consumer.polls > 10
    assert not bench.consumer.paused
    assert bench.stored() == event_ids(0, 10)
    assert bench.consumer.commits == {(DECISIONS.name, 0): 10}
    assert bench.metric("usher_sink_retries_total") == 6
    assert bench.metric("usher_sink_store_away") == 0
    assert bench.runner.away == ""


def test_told_to_stop_while_the_store_is_away_it_commits_nothing() -> None:
    bench = Bench([messages(0, 10)], ScriptedSink([StoreAway("gone")] * 100))
    bench.consumer.while_paused = [lambda: setattr(bench, "stopped", True)]
    bench.run()
    assert bench.consumer.commits == {}
    assert bench.consumer.closed


def test_a_revoked_partition_is_let_go_of_while_the_store_is_away() -> None:
    bench = Bench([[*messages(0, 5), *messages(50, 55, partition=1)]], ScriptedSink([StoreAway("gone")]))
    revoked = [TopicPartition(DECISIONS.name, 1)]
    bench.consumer.while_paused = [lambda: bench.consumer.callbacks["on_revoke"](bench.consumer, revoked)]
    bench.run()
    assert bench.stored() == event_ids(0, 5)
    assert bench.consumer.commits == {(DECISIONS.name, 0): 5}


def test_a_whole_batch_may_be_lost_to_another_member() -> None:
    bench = Bench([messages(0, 5)], ScriptedSink([StoreAway("gone")]))
    bench.consumer.while_paused = [lambda: bench.consumer.callbacks["on_lost"](bench.consumer, bench.consumer.assignment())]
    bench.run()
    assert bench.stored() == set()
    assert bench.consumer.commits == {}
    assert not bench.consumer.paused


def test_a_message_that_comes_while_holding_joins_the_batch() -> None:
    bench = Bench([messages(0, 5)], ScriptedSink([StoreAway("gone")]))
    bench.consumer.while_paused = [lambda: messages(50, 51, partition=1)[0]]
    bench.run()
    assert bench.stored() == event_ids(0, 5) | event_ids(50, 51)
    assert bench.consumer.commits == {(DECISIONS.name, 0): 5, (DECISIONS.name, 1): 51}


@pytest.mark.parametrize(
    ("value", "code"),
    [(None, "empty-value"), (b"", "empty-value"), (b"\x07junk-junk", "bad-magic"), (b"\x00\x00\x0f\x00\x00", "unknown-schema-id")],
)
def test_what_cannot_be_decoded_is_buried_as_it_came_and_committed(value: bytes | None, code: str) -> None:
    bench = Bench([[*messages(0, 2), FakeMessage(DECISIONS.name, 0, 2, value), *messages(3, 5)]]).run()
    (letter,) = bench.grave.letters
    assert (letter.record.raw, letter.record.key, letter.record.offset) == (value, b"u-1", 2)
    assert (letter.stage, letter.fault.code) == ("sink-memory", code)
    assert len(bench.stored()) == 4
    assert bench.consumer.commits == {(DECISIONS.name, 0): 5}


def test_a_batch_of_nothing_but_undecodable_records_is_committed() -> None:
    bench = Bench([[FakeMessage(DECISIONS.name, 0, 9, b"junk")]]).run()
    assert len(bench.grave.letters) == 1
    assert bench.consumer.commits == {(DECISIONS.name, 0): 10}


def test_refused_records_are_found_and_buried_the_others_stored() -> None:
    poison = {f"e-{number:032x}" for number in (0, 7, 8, 99)}
    bench = Bench([messages(0, 100)], ScriptedSink(poison=poison)).run()
    assert {letter.record.offset for letter in bench.grave.letters} == {0, 7, 8, 99}
    assert {letter.fault.code for letter in bench.grave.letters} == {"sink-refused"}
    assert bench.stored() == event_ids(0, 100) - poison
    assert bench.consumer.commits == {(DECISIONS.name, 0): 100}
    assert bench.metric("usher_sink_rows_total", topic=DECISIONS.name) == 96
    assert bench.metric("usher_sink_dead_letters_total") == 4


def test_a_failed_burial_commits_nothing_and_is_repeated() -> None:
    bench = Bench([[FakeMessage(DECISIONS.name, 0, 0, b"junk"), *messages(1, 3)]], grave=Grave(failures=2))
    seen: list[Any] = []
    bench.consumer.while_paused = [lambda: seen.append(dict(bench.consumer.commits))]
    bench.run()
    assert seen == [{}]
    assert len(bench.grave.letters) == 1
    assert bench.consumer.commits == {(DECISIONS.name, 0): 3}


def test_dead_letters_need_not_be_readable_and_are_never_buried_again() -> None:
    class Picky(ScriptedSink):
        def write(self, batch: Sequence[SinkRecord]) -> None:
            if any(one.offset == 1 for one in batch):
                raise Refused("DataError (22021)")
            super().write(batch)

    bench = Bench([[FakeMessage(RAW.dead, 0, offset, value) for offset, value in enumerate([b"junk", b"junk", None])]], Picky()).run()
    assert bench.grave.letters == []
    assert len(bench.sink.rows["dead_letters"]) == 2
    assert bench.consumer.commits == {(RAW.dead, 0): 3}


def test_a_tombstone_of_a_compacted_topic_is_no_fault() -> None:
    bench = Bench([[FakeMessage(USER_RINGS.name, 0, 4, None)]]).run()
    assert bench.grave.letters == []
    assert bench.consumer.commits == {(USER_RINGS.name, 0): 5}


def test_a_passing_kafka_error_is_counted_and_a_fatal_one_ends_the_run() -> None:
    passing = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    bench = Bench([[FakeMessage("x", 0, 0, None, passing), *messages(0, 1)]] * 2).run()
    assert bench.stored() == event_ids(0, 1)
    assert bench.metric("usher_sink_kafka_errors_total") == 2
    broken = Bench([[FakeMessage("x", 0, 0, None, KafkaError(KafkaError._FATAL, "fenced", True))]])
    with pytest.raises(KafkaException):
        broken.run()
    assert broken.consumer.closed
    assert broken.sink.closed


class AwayIds(SchemaIds):
    """A registry that does not answer `failures` times."""

    def __init__(self, failures: int) -> None:
        super().__init__(CODEC.ids.by_id.values())
        self.failures = failures

    def find(self, schema_id: int) -> Any:
        if self.failures:
            self.failures -= 1
            raise RegistryAway("GET /schemas/ids/9: ConnectError")
        return super().find(schema_id)


def test_a_registry_that_is_away_makes_no_dead_letters_but_holds_the_batch() -> None:
    bench = Bench([[*messages(0, 3), FakeMessage(DECISIONS.name, 0, 3, b"junk"), *messages(4, 6)]], codec=Codec(AwayIds(3)))
    seen: list[Any] = []
    bench.consumer.while_paused = [lambda: seen.append((dict(bench.consumer.commits), bench.runner.away))]
    bench.run()
    assert seen == [({}, "GET /schemas/ids/9: ConnectError")]
    assert bench.stored() == event_ids(0, 3) | event_ids(4, 6)
    assert [letter.record.offset for letter in bench.grave.letters] == [3]
    assert bench.consumer.commits == {(DECISIONS.name, 0): 6}
    assert bench.runner.away == ""


def test_what_waits_for_the_registry_is_let_go_of_with_its_partition() -> None:
    bench = Bench([[*messages(0, 5), *messages(50, 55, partition=1)]], codec=Codec(AwayIds(1)))
    revoked = [TopicPartition(DECISIONS.name, 1)]
    bench.consumer.while_paused = [lambda: bench.consumer.callbacks["on_revoke"](bench.consumer, revoked)]
    bench.run()
    assert bench.stored() == event_ids(0, 5)
    assert bench.consumer.commits == {(DECISIONS.name, 0): 5}


def test_a_dead_letter_waits_for_the_registry_too() -> None:
    value = CODEC.encode_case(decision(1), DECISIONS.record)
    bench = Bench([[FakeMessage(RAW.dead, 0, 0, value)]], codec=Codec(AwayIds(1))).run()
    (kept,) = bench.sink.rows["dead_letters"].values()
    assert isinstance(kept, SinkRecord)
    assert kept.value is not None


def test_a_store_without_anything_to_write_is_asked_now_and_then() -> None:
    bench = Bench([[]] * 1_000)
    bench.sink.ping_failures = [StoreAway("gone"), StoreAway("still gone")]
    said: list[str] = []
    ping = bench.sink.ping

    def watched() -> None:
        said.append(bench.runner.away)
        ping()

    bench.sink.ping = watched  # type: ignore[method-assign]
    bench.run()
    assert said[:4] == ["", "gone", "still gone", ""]
    assert bench.sink.pings == pytest.approx(bench.clock.now / PING_EVERY_S, abs=2)
    assert bench.runner.away == ""
    assert bench.metric("usher_sink_store_away") == 0


def test_a_store_that_is_written_to_is_not_asked() -> None:
    bench = Bench([messages(number, number + 1) for number in range(100)]).run()
    assert bench.sink.pings == 0


def test_kafka_that_is_silent_longer_than_the_session_is_away_until_it_answers() -> None:
    bench = Bench([[]] * 2_000)
    seen: list[tuple[float, str]] = []
    committed = bench.consumer.committed

    def watched(partitions: list[TopicPartition], timeout: float) -> Any:
        seen.append((bench.clock.now, bench.runner.kafka_away))
        bench.consumer.silent = 20.0 < bench.clock.now < 50.0
        return committed(partitions, timeout)

    bench.consumer.committed = watched  # type: ignore[method-assign]
    bench.run()
    assert {away for now, away in seen if now < 25.0} == {""}
    assert {away for now, away in seen if 35.0 < now < 50.0} == {"Kafka does not answer: _TIMED_OUT"}
    assert {away for now, away in seen if now > 53.0} == {""}
    assert seen[-1][0] > 60.0


def test_a_sink_is_ready_when_it_has_joined_and_not_while_it_has_lost_its_partitions() -> None:
    bench = Bench([[]])
    assert states({"m": bench.runner}) == {"m": "ok", "m-kafka": "joining the group"}
    bench.run()
    assert states({"m": bench.runner}) == {"m": "ok", "m-kafka": "ok"}
    bench.consumer.callbacks["on_lost"](bench.consumer, bench.consumer.assignment())
    assert "lost" in states({"m": bench.runner})["m-kafka"]
    bench.consumer.callbacks["on_assign"](bench.consumer, [])
    bench.runner.away = "gone"
    assert states({"m": bench.runner}) == {"m": "gone", "m-kafka": "ok"}


def test_kafka_is_watched_while_the_store_is_away() -> None:
    bench = Bench([messages(0, 3)], ScriptedSink([StoreAway("gone")] * 30))
    bench.consumer.silent = True
    seen: list[str] = []
    bench.consumer.while_paused = [lambda: seen.append(bench.runner.kafka_away)] * 300
    bench.run()
    assert seen[0] == ""
    assert seen[-1] == "Kafka does not answer: _TIMED_OUT"


def test_a_complaint_is_logged_once_a_minute_for_each_topic_and_code() -> None:
    clock = Clock()
    watch = KafkaWatch("memory", FakeConsumer([]), "t", 10.0, clock)
    with structlog.testing.capture_logs() as logs:
        for number in range(1_000):
            watch.complain("t", KafkaError(KafkaError._TRANSPORT, f"failed after {number}ms"))
        watch.complain("u", KafkaError(KafkaError._TRANSPORT, "failed after 9ms"))
        watch.complain(None, KafkaError(KafkaError._TIMED_OUT, "timed out"))
        clock.now += QUIET_S
        watch.complain("t", KafkaError(KafkaError._TRANSPORT, "failed again"))
    assert [(one["about"], one["code"], one["cause"]) for one in logs] == [
        ("t", "_TRANSPORT", "failed after 0ms"),
        ("u", "_TRANSPORT", "failed after 9ms"),
        (None, "_TIMED_OUT", "timed out"),
        ("t", "_TRANSPORT", "failed again"),
    ]
    assert len(watch._logged) == 3


def test_a_bug_in_a_sink_ends_the_run_without_a_commit() -> None:
    bench = Bench([messages(0, 3)], ScriptedSink([ZeroDivisionError()]))
    with pytest.raises(ZeroDivisionError):
        bench.run()
    assert bench.consumer.commits == {}
    assert bench.sink.closed


def test_a_failed_commit_does_not_end_the_run() -> None:
    bench = Bench([messages(0, 3), messages(3, 5)])

    def fail(**_: Any) -> None:
        raise KafkaException(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))

    bench.consumer.commit = fail  # type: ignore[method-assign]
    bench.run()
    assert bench.stored() == event_ids(0, 5)


def test_the_group_is_named_after_the_sink_and_commits_are_its_own_business() -> None:
    config = consumer_config("127.0.0.1:9092", "postgres")
    assert config["group.id"] == "usher-sink-postgres"
    assert config["enable.auto.commit"] is False
