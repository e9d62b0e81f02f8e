"""Binds hops to Faust. The only file that knows Faust; pinned to faust-streaming 0.15.3.

One Faust message is a whole batch: all records of one fetch of one partition. The batch loop is

    compute on an overlay -> produce all outputs, wait for every ack -> check the fence -> write state -> ack the batch

so that a crash before the state recomputes the same outputs and a crash after it skips what the state has seen. Each cure
for a fault of Faust's is a small named class here, with a test in tests/unit/test_bind_cures.py that fails without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import faust
import rocksdict
import structlog
from faust.stores import STORES
from faust.stores import rocksdb as rocksdb_store
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP

from agents.step import Memory
from streams.chain import Chain, Change, ReadTable, Source
from streams.fence import EXIT_BUG, Fence, end_process
from streams.flow import Table
from streams.metrics import Metrics
from streams.publish import BatchPublisher
from streams.settings import Settings

log: Final = structlog.get_logger("usher.bind")

ROCKSDB_OPTIONS: Final = {
    "write_buffer_size": 8 << 20,
    "max_write_buffer_number": 2,
    "block_cache_size": 16 << 20,
    "target_file_size_base": 16 << 20,
}
"""Per table partition. RocksDB's defaults in Faust reserve 2 GiB of cache and 192 MiB of buffers for each."""

SNAPSHOT_KEY: Final = b"snapshot"


def group_of(stage: str) -> str:
    """Consumer group of the hop that begins with this stage."""
    return f"usher-{stage}"


class PartitionBatch:
    """All records of one fetch of one partition, in the shape of the last one, which is what Faust tracks and acks."""

    __slots__ = (
        "checksum", "headers", "key", "offset", "partition", "records", "serialized_key_size", "serialized_value_size",
        "timestamp", "timestamp_type", "topic", "value",
    )  # fmt: skip

    def __init__(self, records: list[Any]) -> None:
        last = records[-1]
        self.topic, self.partition, self.offset = last.topic, last.partition, last.offset
        self.timestamp, self.timestamp_type, self.headers = last.timestamp, last.timestamp_type, ()
        self.key, self.value, self.checksum = None, records, None
        self.serialized_key_size = self.serialized_value_size = 0


class PartitionBatches(DefaultSchedulingStrategy):  # type: ignore[misc]
    """Faust's place where fetched records become messages: one message per partition and fetch."""

    def iterate(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, Any]]:
        """One batch for each partition that has records."""
        for tp, fetched in records.items():
            if fetched:
                yield tp, PartitionBatch(fetched)


class BatchSchema(faust.Schema):  # type: ignore[misc]
    """Faust sees bytes only: Avro is decoded by the hop, which buries what does not decode (Faust would ack and drop it)."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> None:
        """Keys are in the records of the batch."""

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """The records of the batch."""
        return message.value


class PartitionStore(rocksdb_store.Store):  # type: ignore[misc]
    """RocksDB by partition, written by the batch and recovered by the batch, the changelog offset in the same write."""

    def read(self, partition: int) -> ReadTable:
        """A reader of one partition's values."""
        return self._db_for_partition(partition).get  # type: ignore[no-any-return]

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value of one partition."""
        return self._visible_items(self._db_for_partition(partition))  # type: ignore[no-any-return]

    def write(self, partition: int, values: Mapping[bytes, bytes | None], offset: int) -> None:
        """Writes values and the offset of the last changelog record that carries them, atomically."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in values.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(self.offset_key, str(offset).encode())
        self._db_for_partition(partition).write(batch)

    def apply_changelog_batch(self, batch: Any, to_key: Any = None, to_value: Any = None) -> None:
        """Recovery: each event is a whole partition batch of changelog records."""
        for event in batch:
            records = event.message.value
            self.write(event.message.partition, {record.key: record.value for record in records}, records[-1].offset)


class SafeRecovery(Recovery):  # type: ignore[misc]
    """Cure of Faust's recovery race (issue 596): it resumes partitions while flow is live and then clears the queues, which
    loses fetched events; stopping the flow first means nothing is fetched before the seek to the committed offsets."""

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """As Faust's, with the flow stopped before partitions are resumed."""
        self._stop_flow()
        await super().on_recovery_completed(generation_id)

    async def _resume_streams(self, generation_id: int = 0) -> None:
        self._stop_flow()
        await super()._resume_streams(generation_id)

    def _stop_flow(self) -> None:
        self.app.consumer.stop_flow()
        self.app.flow_control.suspend()


class SafeTableManager(TableManager):  # type: ignore[misc]
    """Makes Faust use `SafeRecovery`."""

    _recovery: Recovery | None

    @property
    def recovery(self) -> Recovery:
        """The recovery service, made at first use."""
        if self._recovery is None:
            self._recovery = SafeRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust hard-codes a fetch wait of 1.5 s and aiokafka backs off 100 ms; both show as latency when little is queued."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self.app.conf.usher.fetch_wait_ms
        return consumer

    async def on_start(self) -> None:
        """Starts the consumer and shortens its idle back-off."""
        await super().on_start()
        self._consumer._fetcher._prefetch_backoff = 0.002


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Keeps one batch of a partition in flight, and commits batches: those of a partition are acked in order, so the newest
    ack is the watermark. (Faust's own gap bookkeeping takes the committed offset for the last one read, issue 606: with gaps
    the committed offset sticks, and an unacked head can be committed over.)"""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._busy: set[TP] = set()
        self._freed = asyncio.Event()

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Marks each delivered partition as busy until `release`."""
        async for tp, message in super().getmany(timeout):
            if not self._is_changelog_tp(tp):
                self._busy.add(tp)
            yield tp, message

    async def _getmany(self, active_partitions: set[TP], timeout: float) -> Any:
        """Leaves a partition at the broker until its last batch is acked: batches then grow with the load by themselves."""
        free = active_partitions - self._busy
        while self._busy and not free and self.flow_active and not self.should_stop:
            self._freed.clear()
            try:
                await asyncio.wait_for(self._freed.wait(), 1.0)
            except TimeoutError:
                return {}
            free = active_partitions - self._busy
        return await super()._getmany(free, 0.005 if self._busy else timeout)

    def release(self, tp: TP) -> None:
        """The batch of this partition is done."""
        self._busy.discard(tp)
        self._freed.set()

    def resume_flow(self) -> None:
        """What was in flight before a rebalance has been waited for or will never be acked: nothing is busy now."""
        self._busy.clear()
        self._freed.set()
        super().resume_flow()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps are inside batches; the watermark needs no record of them."""

    def _new_offset(self, tp: TP) -> int | None:
        acked = self._acked[tp]
        if not acked:
            return None
        watermark = max(acked) + 1
        acked.clear()
        self._acked_index[tp].clear()
        return int(watermark)


class Transport(driver.Transport):  # type: ignore[misc]
    """aiokafka with our consumer."""

    Consumer = Consumer


TRANSPORTS.aliases["usher"] = "streams.bind:Transport"
STORES.aliases["usher"] = "streams.bind:PartitionStore"


class Hop:
    """A chain of stages as one Faust app and consumer group.

    Args:
        chain: the steps.
        settings: of the process.
        publisher: shared by the hops of the process.
        metrics: shared likewise.
        fence: shared likewise.
        clock_ms: wall clock, Unix ms.
    """

    def __init__(
        self,
        chain: Chain,
        settings: Settings,
        publisher: BatchPublisher,
        metrics: Metrics,
        fence: Fence,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.chain = chain
        self.group = group_of(chain.name)
        self.settings = settings
        self.publisher = publisher
        self.metrics = metrics
        self.fence = fence
        self.clock_ms = clock_ms
        self._memories: dict[int, dict[str, Memory]] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.app = self._make_app()
        self.tables = {table.name: self._make_table(table) for table in chain.tables}
        self._topics = self.app.topic(*(topic.name for topic in chain.topics), schema=BatchSchema())
        self.app.agent(self._topics, name=f"hop_{chain.name}", concurrency=1)(self._take_batches)
        self.app.on_partitions_revoked.connect(self._on_revoked)
        metrics.ready.labels(chain.name).set_function(lambda: self.ready)

    @property
    def failure(self) -> str | None:
        """Why the app does not work any more; None while it does. Faust notes a crash and leaves the process standing."""
        services = (self.app, self.app._consumer, getattr(self.app._consumer, "_thread", None), self.app._fetcher, self.app.tables.recovery)
        for service in services:
            if service is not None and service.crashed:
                return f"{type(service).__name__} crashed: {service.crash_reason!r}"
        if self.app.should_stop and not self._stopping:
            return "the Faust app stopped by itself"
        return None

    @property
    def ready(self) -> bool:
        """Whether the group has been joined, tables are recovered, and Kafka's group coordinator answers."""
        thread = getattr(self.app._consumer, "_thread", None)
        coordinator = getattr(getattr(thread, "_consumer", None), "_coordinator", None)
        known = getattr(coordinator, "coordinator_id", None) is not None
        return bool(known and self.app.tables.actives_ready and not self.app.rebalancing and self.failure is None and not self._stopping)

    def _make_app(self) -> faust.App:
        conf = self.settings
        datadir = Path(conf.data_dir, "tables", conf.worker_name, self.chain.name).absolute()
        datadir.mkdir(parents=True, exist_ok=True)  # Faust makes the last folder only
        app = faust.App(
            self.group,
            broker=f"usher://{conf.bootstrap_servers.replace(',', ';')}",
            store="usher://",
            datadir=str(datadir),
            ConsumerScheduler=PartitionBatches,
            TableManager=SafeTableManager,
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            stream_wait_empty=True,
            stream_recovery_delay=0.0,
            broker_commit_interval=conf.commit_interval_s,
            broker_session_timeout=conf.session_timeout_s,
            broker_heartbeat_interval=conf.heartbeat_s,
            broker_max_poll_records=conf.batch_max_events,
            broker_request_timeout=max(60.0, conf.session_timeout_s + 5),
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=4 << 20,
            consumer_group_instance_id=f"{conf.worker_name}-{self.chain.name}" if conf.static_membership else None,
        )
        app.conf.usher = conf  # the consumer thread has no other way to our settings
        return app

    def _make_table(self, table: Table) -> Any:
        changelog = self.app.topic(table.changelog, schema=BatchSchema(), internal=True, acks=False, compacting=True, partitions=None)
        return self.app.Table(table.name, changelog_topic=changelog, recovery_buffer_size=8, options=dict(ROCKSDB_OPTIONS))

    async def _take_batches(self, stream: Any) -> None:
        """The agent: hands each batch to its own task, so that one partition computes while another waits for acks."""
        async for event in stream.noack().events():
            task = asyncio.create_task(self._finish(event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _finish(self, event: Any) -> None:
        """Processes one batch and acks it. Nothing escapes: an exception in an agent would be acked by Faust."""
        message = event.message
        try:
            async with self._lock(message.partition):
                await self._process(message)
        except asyncio.CancelledError:
            raise  # the process is stopping: the batch stays unacked and is read again
        except BaseException as error:  # a bug or a broken dependency: end before anything is acked
            log.exception("batch failed", hop=self.chain.name, topic=message.topic, partition=message.partition, offset=message.offset)
            end_process(EXIT_BUG, f"{type(error).__name__}: {error}", hop=self.chain.name)
        event.ack()
        self.app.consumer.release(message.tp)

    def _lock(self, partition: int) -> asyncio.Lock:
        """Topics of one partition share its tables, so their batches take turns."""
        return self._locks.setdefault(partition, asyncio.Lock())

    async def _process(self, message: Any) -> None:
        partition = message.partition
        memories = self._memories_of(partition)
        began_s = self.fence.clock()
        records = [Source(r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in message.value]
        plan = self.chain.run(message.topic, records, lambda table: self._store(table).read(partition), memories, self.clock_ms())
        if plan.messages:
            await self.publisher.publish(plan.messages)
        for change in plan.changes:
            await self._write(change, partition, began_s)
        await self._save_memories(partition, began_s)
        seconds = self.fence.clock() - began_s
        self.metrics.batch_done(self.chain.name, message.topic, partition, message.offset, len(records), plan.counts, seconds)

    async def _write(self, change: Change, partition: int, began_s: float) -> None:
        """Changelog first, then the local store. The fence stands before each: a zombie must not write stale state."""
        self.fence.check(began_s)
        offset = await self.publisher.publish_to(change.table.changelog, partition, change.values.items())
        self.fence.check(began_s)
        self._store(change.table).write(partition, change.values, offset)

    def _store(self, table: Table) -> PartitionStore:
        return self.tables[table.name].data  # type: ignore[no-any-return]

    def _memories_of(self, partition: int) -> dict[str, Memory]:
        """The memories of a partition, taken up from the tables at the first batch after the partition was assigned."""
        found = self._memories.get(partition)
        if found is None:
            found = self._memories[partition] = {}
            for stage in self.chain.stages:
                if stage.memory is not None:
                    memory = found[stage.name] = stage.memory()
                    if stage.snapshots is not None:
                        memory.restore(self._store(stage.snapshots).read(partition)(SNAPSHOT_KEY), ())
                    elif stage.table is not None:
                        memory.restore(None, self.chain.items(stage, self._store(stage.table).items(partition)))
        return found

    async def _save_memories(self, partition: int, began_s: float, leaving: bool = False) -> None:
        for stage in self.chain.stages:
            if stage.snapshots is not None:
                snapshot = self._memories[partition][stage.name].snapshot(leaving)
                if snapshot is not None:
                    await self._write(Change(stage.snapshots, {SNAPSHOT_KEY: snapshot}), partition, began_s)

    async def _leave(self, partitions: set[int]) -> None:
        """Saves what the partitions' memories have learned, for whoever works on them next, and forgets it here."""
        for partition in partitions & self._memories.keys():
            async with self._lock(partition):
                await self._save_memories(partition, self.fence.clock(), leaving=True)
            del self._memories[partition]

    async def _on_revoked(self, app: Any, revoked: set[TP], **_: Any) -> None:
        """Faust has stopped the flow and waited for the batches in flight. Partitions may come back changed by another worker."""
        try:
            await self._leave({tp.partition for tp in revoked})
        except Exception as error:  # noqa: BLE001 - Faust would only log it; the process ends
            end_process(EXIT_BUG, f"leaving partitions: {type(error).__name__}: {error}", hop=self.chain.name)
        for tp in revoked:
            self.metrics.forget(self.chain.name, tp.topic, tp.partition)

    async def start(self) -> None:
        """Starts consuming; returns when the app runs, before tables are recovered."""
        self.app.finalize()
        await self.app.start()

    async def stop(self) -> None:
        """Stops fetching, finishes the batches in flight, saves memories, commits and leaves the group."""
        self._stopping = True
        if self.app._consumer is not None:
            self.app._consumer.stop_flow()
        while self._tasks:
            await asyncio.gather(*self._tasks)
        await self._leave(set(self._memories))
        with contextlib.suppress(asyncio.CancelledError):
            await self.app.stop()
