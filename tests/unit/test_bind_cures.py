"""Each cure for a fault of Faust's, tested at the place where it works; without the cure the test fails.

The whole is tried under kill -9, SIGTERM and SIGSTOP on a real broker in tests/faults.
"""

import asyncio
import time
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from faust.types import TP
from intervaltree import IntervalTree

from agents.step import Outputs
from schemas import topics as t
from schemas.codec import Codec
from streams import bind, fence
from streams.chain import Chain, Change, Message
from streams.flow import Stage, Table
from streams.metrics import Metrics
from streams.publish import BatchPublisher, ProduceError
from streams.settings import Settings


class Count(msgspec.Struct):
    n: int = 0


TABLE = Table("toys", Count)
VALID = TP(t.VALID.name, 3)


class Exited(BaseException):
    """Stands for os._exit, which a test cannot survive."""


class FakePublisher:
    """Acks at once, or fails when told to."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.fails = False

    async def publish(self, messages: list[Message]) -> None:
        if self.fails:
            raise ProduceError("no acks")
        self.sent += messages

    async def publish_to(self, topic: str, partition: int, values: Any) -> int:
        self.sent.append((topic, partition, dict(values)))
        return len(self.sent)


def counting_step(batch: Any, state: Any, now_ms: int, *, memory: Any = None) -> Outputs[Count]:
    return Outputs(changes={case.event.user_id: Count((state.get(case.event.user_id) or Count()).n + 1) for case in batch})


@pytest.fixture(autouse=True)
def no_exit(monkeypatch):
    monkeypatch.setattr(fence.os, "_exit", lambda status: (_ for _ in ()).throw(Exited(status)))


@pytest.fixture
def make_hop(tmp_path):
    def make(step: Any = counting_step) -> bind.Hop:
        stage = Stage("toy", "", t.VALID, step, None, table=TABLE)
        settings = Settings(data_dir=tmp_path, session_timeout_s=10)
        hop = bind.Hop(Chain([stage], Codec()), settings, FakePublisher(), Metrics(), fence.Fence(5.0), clock_ms=lambda: 9)  # type: ignore[arg-type]
        hop.released = []  # type: ignore[attr-defined]
        hop.app._consumer = SimpleNamespace(release=hop.released.append)  # type: ignore[attr-defined]
        return hop

    return make


def batch_event(*records: Any) -> Any:
    message = SimpleNamespace(topic=VALID.topic, partition=VALID.partition, offset=records[-1].offset, value=list(records), tp=VALID)
    event = SimpleNamespace(message=message, acked=False)
    event.ack = lambda: setattr(event, "acked", True)
    return event


def record(event: Any, offset: int) -> Any:
    from schemas.codec import Case

    value = Codec().encode_case(Case(event()), "ott.ValidEvent")
    return SimpleNamespace(partition=3, offset=offset, timestamp=1, key=b"u", value=value, headers=())


# 1. Recovery must not resume partitions while the flow is live (faust-streaming issue 596).


class FlowConsumer:
    def __init__(self) -> None:
        self.flow_active = True
        self.resumed_while_live: list[bool] = []

    def assignment(self) -> set[TP]:
        return {VALID}

    def stop_flow(self) -> None:
        self.flow_active = False

    def resume_flow(self) -> None:
        self.flow_active = True

    def resume_partitions(self, tps: set[TP]) -> None:
        self.resumed_while_live.append(self.flow_active)

    def _is_changelog_tp(self, tp: TP) -> bool:
        return False

    async def perform_seek(self) -> None:
        self.resumed_while_live.append(self.flow_active)


async def nothing(*_: Any, **__: Any) -> None:
    return None


@pytest.mark.parametrize("method", ["on_recovery_completed", "_resume_streams"])
async def test_recovery_stops_the_flow_before_it_resumes_partitions(make_hop, method) -> None:
    hop = make_hop()
    recovery = hop.app.tables.recovery
    assert isinstance(recovery, bind.SafeRecovery)
    consumer = FlowConsumer()
    flow = SimpleNamespace(live=True, suspend=lambda: setattr(flow, "live", False), resume=lambda: setattr(flow, "live", True))
    tables = SimpleNamespace(values=lambda: (), on_actives_ready=lambda: None, on_standbys_ready=lambda: None)
    recovery.app = SimpleNamespace(
        consumer=consumer, flow_control=flow, on_rebalance_complete=SimpleNamespace(send=nothing), consumer_generation_id=0, in_recovery=True,
        conf=SimpleNamespace(broker_request_timeout=5), _fetcher=SimpleNamespace(maybe_start=nothing), assignor=SimpleNamespace(assigned_standbys=set),
        on_rebalance_end=lambda: None,
    )  # fmt: skip
    recovery.tables = tables
    recovery._is_changelog_tp = lambda tp: False
    await getattr(recovery, method)(0)
    assert consumer.resumed_while_live == [False, False]
    assert consumer.flow_active
    assert flow.live


# 2. The newest ack is the watermark; Faust's own bookkeeping sticks at gaps (issue 606).


def bare_consumer(kind: type) -> Any:
    consumer = object.__new__(kind)
    consumer._acked = defaultdict(list)
    consumer._acked_index = defaultdict(set)
    consumer._gap = defaultdict(IntervalTree)
    consumer._committed_offset = defaultdict(lambda: None)
    return consumer


def test_a_batch_commits_the_offset_after_its_last_record() -> None:
    ours, stock = bare_consumer(bind.Consumer), bare_consumer(bind.driver.Consumer)
    for consumer in (ours, stock):
        consumer._committed_offset[VALID] = 100
        consumer._acked[VALID].append(599)  # one message stands for the records 100 to 599
    assert ours._new_offset(VALID) == 600
    assert stock._new_offset(VALID) is None  # why the cure is there
    assert ours._new_offset(VALID) is None
    ours._acked[VALID].append(700)
    assert ours._new_offset(VALID) == 701


async def test_gaps_cost_nothing() -> None:
    consumer = bare_consumer(bind.Consumer)
    await consumer._add_gap(VALID, 1, 1_000_000)
    assert not consumer._gap


# 3. An exception in an agent would be acked by Faust and the event lost.


async def test_a_bug_in_a_step_ends_the_process_and_acks_nothing(make_hop, event) -> None:
    def buggy(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    hop, batch = make_hop(buggy), batch_event(record(event, 5))
    with pytest.raises(Exited) as exited:
        await hop._finish(batch)
    assert exited.value.args == (fence.EXIT_BUG,)
    assert not batch.acked
    assert hop.released == []


async def test_outputs_that_kafka_does_not_take_end_the_process_before_state_and_ack(make_hop, event) -> None:
    hop, batch = make_hop(lambda *_, **__: Outputs(changes={"u": Count(1)}, emits=[])), batch_event(record(event, 5))
    hop.publisher.fails = True
    batch.message.value[0].value = b"junk"  # so that there is an output: its dead letter
    with pytest.raises(Exited):
        await hop._finish(batch)
    assert not batch.acked
    assert hop._store(TABLE).read(3)(b"u") is None


def test_the_settings_that_keep_events_are_in_force(make_hop) -> None:
    conf = make_hop().app.conf
    assert conf.stream_wait_empty is True  # 4: False loses the batch in flight at SIGTERM
    assert conf.processing_guarantee.value == "at_least_once"  # 7: exactly_once repeated and crashed
    assert conf.topic_allow_declare is False
    assert conf.broker_session_timeout == 10
    assert conf.ConsumerScheduler is bind.PartitionBatches


# 5 and the batch loop: outputs, then state with its changelog, then the ack.


async def test_a_batch_is_produced_then_remembered_then_acked(make_hop, event) -> None:
    hop = make_hop()
    batch = batch_event(record(event, 5))
    await hop._finish(batch)
    assert hop.publisher.sent[-1][0] == TABLE.changelog
    assert msgspec.msgpack.decode(hop._store(TABLE).read(3)(b"user-1"), type=Count) == Count(1)
    assert batch.acked
    assert hop.released == [VALID]


async def test_state_and_its_changelog_offset_are_one_write(make_hop) -> None:
    store = make_hop()._store(TABLE)
    store.write(3, {b"a": b"1", b"b": None}, 41)
    assert store.persisted_offset(TP(TABLE.changelog, 3)) == 41
    assert dict(store.items(3)) == {b"a": b"1"}


def test_recovery_applies_whole_batches(make_hop) -> None:
    store = make_hop()._store(TABLE)
    records = [
        SimpleNamespace(key=b"a", value=b"1", offset=7),
        SimpleNamespace(key=b"a", value=b"2", offset=8),
        SimpleNamespace(key=b"b", value=None, offset=9),
    ]
    store.apply_changelog_batch([SimpleNamespace(message=SimpleNamespace(partition=2, value=records))])
    assert dict(store.items(2)) == {b"a": b"2"}
    assert store.persisted_offset(TP(TABLE.changelog, 2)) == 9


# 6. A zombie must not write: another worker may own the partition by now.


async def test_a_batch_that_took_too_long_ends_the_process_before_it_writes_state(make_hop, monkeypatch) -> None:
    hop = make_hop()
    with pytest.raises(Exited) as exited:
        await hop._write(Change(TABLE, {b"u": b"1"}), 3, time.monotonic() - 5.1)
    assert exited.value.args == (fence.EXIT_FENCED,)
    assert hop.publisher.sent == []


async def test_a_worker_frozen_while_the_changelog_is_written_does_not_touch_its_store(make_hop) -> None:
    hop = make_hop()
    started = time.monotonic()

    async def freeze(*_: Any) -> int:
        hop.fence.limit_s = 0.0
        return 1

    hop.publisher.publish_to = freeze
    with pytest.raises(Exited):
        await hop._write(Change(TABLE, {b"u": b"1"}), 3, started)
    assert hop._store(TABLE).read(3)(b"u") is None


async def test_a_process_that_stood_still_writes_nothing_even_for_a_batch_that_has_just_begun() -> None:
    now = [100.0]
    guard = fence.Fence(5.0, clock=lambda: now[0])
    watching = asyncio.create_task(guard.watch())
    await asyncio.sleep(0)
    guard.check(began_s=100.0)
    now[0] = 106.0  # SIGSTOP, SIGCONT: the batch was fetched before and begins now
    with pytest.raises(Exited):
        guard.check(began_s=106.0)
    watching.cancel()


async def test_a_freeze_ends_the_process_even_when_nothing_is_in_flight() -> None:
    now = [100.0]
    guard = fence.Fence(5.0, clock=lambda: now[0])
    guard._last_s = 94.0
    with pytest.raises(Exited):
        await guard.watch()


# A Faust app that crashed stays standing and says nothing: the worker has to notice.


def test_a_crashed_service_is_a_failure_and_not_ready(make_hop) -> None:
    hop = make_hop()
    hop.app._consumer = None
    assert hop.failure is None
    hop.app.tables.recovery._crashed.set()
    hop.app.tables.recovery.crash_reason = RuntimeError("recovery broke")
    assert "recovery broke" in (hop.failure or "")
    assert not hop.ready


async def test_a_failed_hop_ends_the_process(make_hop) -> None:
    from streams.worker import _watch_hops

    hop = make_hop()
    hop.app._consumer = None
    hop.app._stopped.set()
    with pytest.raises(Exited) as exited:
        await _watch_hops([hop])
    assert exited.value.args == (fence.EXIT_BUG,)


# 8. A produce that fails is told, not logged.


async def test_a_batch_that_kafka_does_not_ack_raises() -> None:
    publisher = BatchPublisher("127.0.0.1:9", timeout_s=1.0, config={"log_level": 0, "socket.connection.setup.timeout.ms": 1000})
    with pytest.raises(ProduceError, match="1 of 1 records"):
        await publisher.publish([Message("t", b"k", b"v")])


# 9. Faust sees bytes only and one message a batch.


def test_fetched_records_become_one_message_a_partition() -> None:
    records = {
        VALID: [SimpleNamespace(topic=VALID.topic, partition=3, offset=n, timestamp=n, timestamp_type=0) for n in (4, 5, 9)],
        TP("x", 1): [],
    }
    ((tp, batch),) = bind.PartitionBatches().iterate(records)
    assert tp == VALID
    assert (batch.offset, len(batch.value)) == (9, 3)
    assert bind.BatchSchema().loads_value(None, batch) is batch.value
    assert bind.BatchSchema().loads_key(None, batch) is None


# Latency and back-pressure: one batch of a partition in flight, the rest at the broker.


async def test_a_busy_partition_is_not_fetched_until_it_is_released(monkeypatch) -> None:
    asked: list[set[TP]] = []

    async def fetch(self: Any, partitions: set[TP], timeout: float) -> dict[TP, Any]:
        asked.append(set(partitions))
        return {}

    monkeypatch.setattr(bind.driver.Consumer, "_getmany", fetch)
    consumer = object.__new__(bind.Consumer)
    consumer._busy, consumer._freed, consumer.flow_active = {VALID}, asyncio.Event(), True
    monkeypatch.setattr(bind.Consumer, "should_stop", False)
    other = TP(VALID.topic, 4)
    await consumer._getmany({VALID, other}, 1.0)
    assert asked == [{other}]
    waiting = asyncio.create_task(consumer._getmany({VALID}, 1.0))
    await asyncio.sleep(0)
    assert len(asked) == 1
    consumer.release(VALID)
    await waiting
    assert asked == [{other}, {VALID}]


def test_what_was_in_flight_before_a_rebalance_blocks_nothing_after_it(monkeypatch) -> None:
    consumer = object.__new__(bind.Consumer)
    consumer._busy, consumer._freed, consumer.can_resume_flow, consumer.suspend_flow = (
        {VALID},
        asyncio.Event(),
        asyncio.Event(),
        asyncio.Event(),
    )
    consumer.resume_flow()
    assert consumer._busy == set()
    assert consumer.flow_active


def test_rocksdb_does_not_reserve_gigabytes_for_each_partition(make_hop) -> None:
    options = make_hop()._store(TABLE).rocksdb_options
    assert options.block_cache_size <= 64 << 20
    assert options.write_buffer_size * options.max_write_buffer_number <= 32 << 20
