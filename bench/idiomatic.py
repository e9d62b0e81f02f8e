"""Reference: the same steps as Faust's documentation would have them written.

Plain agents, one a stage, in one worker, `async for` over single events, `topic.send` for each output, a Faust table write for each
state change (changelog on, RocksDB), Faust's own producer and settings. The steps, the codec and the records are the
pipeline's own, so that only the plumbing differs.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import faust
import msgspec

from agents.step import Received
from schemas.codec import Codec
from schemas.records import Origin
from streams.chain import StateView
from streams.flow import Stage
from streams.settings import Settings
from streams.topology import make_topology

settings = Settings()
topology = make_topology(settings)
codec = Codec()
datadir = Path(settings.data_dir, "tables", "idiomatic").absolute()
datadir.mkdir(parents=True, exist_ok=True)
app = faust.App(
    "bench-idiomatic",
    broker=f"kafka://{settings.bootstrap_servers}",
    store="rocksdb://",
    datadir=str(datadir),
    topic_disable_leader=True,
    web_enabled=False,
    key_serializer="raw",
    value_serializer="raw",
    topic_partitions=settings.partitions,
)
encode_state = msgspec.msgpack.Encoder().encode


def declare(stage: Stage) -> None:
    """One agent and, where the stage has state, one table."""
    source = app.topic(stage.reads.name, key_type=bytes, value_type=bytes)
    outputs = {topic.name: app.topic(topic.name, key_type=bytes, value_type=bytes) for topic in stage.outputs}
    table = None
    if stage.table is not None:
        options = {"write_buffer_size": 8 << 20, "block_cache_size": 16 << 20}  # Faust's defaults would reserve gigabytes a partition
        table = app.Table(
            f"idiomatic-{stage.table.name}", key_type=bytes, value_type=bytes, partitions=settings.partitions, options=options
        )
    memory = stage.memory() if stage.memory is not None else None
    if memory is not None:
        memory.restore(None, ())

    async def work(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            record: Any = codec.decode(event.value, stage.reads.record)
            if stage.name == "validate":
                timestamp_ms = int(message.timestamp * 1000)
                origin = Origin(partition=message.partition, offset=message.offset)
                record = Received(record, origin, timestamp_ms, message.key, len(event.value))
            state: Any = StateView(stage.table, lambda key: table.get(key)) if table is not None and stage.table is not None else {}
            outputs_of = stage.step([record], state, time.time_ns() // 1_000_000, memory=memory)
            for emit in outputs_of.emits:
                await outputs[emit.topic].send(key=emit.key.encode(), value=codec.encode(emit.record))
            if stage.writes is not None:
                for case in outputs_of.cases:
                    await outputs[stage.writes.name].send(
                        key=case.event.user_id.encode(), value=codec.encode_case(case, stage.writes.record)
                    )
            if table is not None:
                for key, value in outputs_of.changes.items():
                    table[key.encode()] = encode_state(value)

    app.agent(source, name=f"idiomatic_{stage.name}")(work)


for one in topology.stages:
    declare(one)

if __name__ == "__main__":
    os.environ.setdefault("FAUST_LOOP", "aio")
    sys.argv = ["idiomatic", "worker", "-l", "warn", "--without-web"]
    app.main()
