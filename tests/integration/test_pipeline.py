"""The whole pipeline on real Kafka, Postgres and Valkey: every event ends in exactly one decision or dead letter."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from schemas import topics as t
from schemas.codec import Case
from streams.admin import end_offsets, read_all
from streams.dead_letters import REASONS
from streams.publish import producer_config
from streams.replay import Replay
from streams.topology import make_topology
from tests.conftest import make_raw
from tests.harness import CODEC, Stage, stage, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

EVENTS = 10_000


def assert_each_event_once(run: Stage, sent: Counter[str]) -> None:
    decided, buried = run.decided(), run.buried()
    assert set(decided) | set(buried) == set(sent), "an event was lost, or invented"
    assert not set(decided) & set(buried)
    assert max(decided.values()) == 1
    assert max(buried.values(), default=1) == 1


def assert_tables_equal_a_recomputation(run: Stage) -> None:
    """What the changelogs hold is what a replay of the raw log computes, but for where in the log it was read."""
    topology = make_topology(run.settings)
    replay = Replay(topology, CODEC)
    logged = sorted(
        read_all(run.bootstrap, t.RAW.name) + read_all(run.bootstrap, t.CONSENTS.name),
        key=lambda m: (m.topic() != t.CONSENTS.name, m.partition(), m.offset()),
    )
    from streams.replay import Input

    topics = {t.RAW.name: t.RAW, t.CONSENTS.name: t.CONSENTS}
    for _ in replay.feed(Input(topics[m.topic()], m.key(), m.value(), m.timestamp()[1]) for m in logged):
        pass
    for stage_of, table in topology.tables:
        if stage_of.name in ("check", "score") and table.kind is not None:
            live: dict[bytes, bytes] = {}
            for message in read_all(run.bootstrap, table.changelog):
                live[message.key()] = message.value()
            assert set(live) == set(replay.tables[table.name]), table.name
            for key, value in live.items():
                assert _without_place(value, table.kind) == _without_place(replay.tables[table.name][key], table.kind), (table.name, key)


def _without_place(value: bytes, kind: type[msgspec.Struct]) -> Any:
    record = msgspec.msgpack.decode(value, type=kind)
    record.seen.clear()  # type: ignore[attr-defined]
    return record


def test_ten_thousand_events_are_decided_once_and_the_tables_survive(tmp_path) -> None:
    with stage(tmp_path) as run:
        run.start_pipeline()
        sent = run.produce(EVENTS, seed=21, dirt_rate=0.05)
        run.wait_decided(sent, 180)
        assert_each_event_once(run, sent)
        outcomes = dict(run.query("SELECT outcome::text, count(*) FROM usher.decisions GROUP BY 1"))
        assert set(outcomes) > {"ALLOW"}
        (counted,) = run.query("SELECT (SELECT count(*) FROM usher.alerts), (SELECT count(*) FROM usher.violations)")
        assert min(counted) > 0
        for name in ("main", "network", "sink"):
            run.wait_ready(name)
            assert run.stop(name) == 0, run.log(name)[-2000:]
        assert_tables_equal_a_recomputation(run)
        run.start("main")  # takes up where it stopped: nothing is decided again, nothing left out
        more = run.produce(500, seed=22)
        run.start("sink")
        run.wait_decided(sent + more, 120)
        assert_each_event_once(run, sent + more)


@pytest.mark.faults
def test_ten_thousand_events_are_decided_once_while_a_worker_is_killed_three_times(tmp_path) -> None:
    with stage(tmp_path) as run:
        run.start_pipeline()
        sent = run.produce(EVENTS // 4, seed=31, dirt_rate=0.03)
        chance = random.Random(3)
        for part in range(3):
            wait_for("some decisions", lambda: len(run.decided()) > 0, 90)
            time.sleep(chance.uniform(0.2, 1.5))
            run.kill("main")
            sent += run.produce(EVENTS // 4, seed=32 + part, dirt_rate=0.03)
            run.start("main")
        run.wait_decided(sent, 240)
        assert_each_event_once(run, sent)
        run.stop("main")
        run.stop("network")
        assert_tables_equal_a_recomputation(run)


def test_split_workers_decide_what_a_fused_worker_decides(tmp_path) -> None:
    decisions = []
    for split in (False, True):
        with stage(tmp_path / str(split), partitions=1) as run:
            sent = run.produce(1_500, seed=41)
            run.start_pipeline(split)
            run.wait_decided(sent, 180)
            messages = read_all(run.bootstrap, t.DECISIONS.name)
            decisions.append(
                {message.key() + message.value()[:0] + b"|" + _decision_without_clock(message.value()) for message in messages}
            )
    assert decisions[0] == decisions[1]


def _decision_without_clock(value: bytes) -> bytes:
    """A decision but for processing times, arrival times of this run, and what depends on when ring news came."""
    case = CODEC.decode(value)
    assert isinstance(case, Case)
    assert case.compliance is not None
    assert case.score is not None
    assert case.verdict is not None
    event = msgspec.structs.replace(case.event, received_at=0, warnings=())
    parts = (
        event,
        msgspec.structs.replace(case.compliance, checked_at=0),
        msgspec.structs.replace(case.score, scored_at=0),
        case.verdict.outcome,
    )
    return msgspec.json.encode(parts)


BAD_INPUT: dict[str, tuple[bytes | None, bytes | None, str]] = {
    "empty": (b"k", None, "empty-value"),
    "no magic": (b"k", b"{}xxxxxxxx", "bad-magic"),
    "unknown schema": (b"k", b"\x00\x00\x0f\x00\x00junk", "unknown-schema-id"),
    "another record": (b"k", b"\x00" + (10).to_bytes(4, "big") + b"junk", "wrong-schema"),
    "truncated": (b"k", CODEC.encode(make_raw())[:-7], "truncated"),
    "trailing": (b"k", CODEC.encode(make_raw()) + b"\x00\x00", "trailing-bytes"),
    "null key": (None, CODEC.encode(make_raw(event_id="null-key")), "null-key"),
    "future": (b"k", CODEC.encode(make_raw(event_id="future", timestamp=int(time.time() * 1000) + 3_600_000)), "timestamp-in-future"),
    "ancient": (b"k", CODEC.encode(make_raw(event_id="ancient", timestamp=946_684_800_000)), "timestamp-too-old"),
    "not a time": (b"k", CODEC.encode(make_raw(event_id="no-time", timestamp="yesterday")), "timestamp-invalid"),
    "nested": (b"k", CODEC.encode(make_raw(event_id="nested", extra_metadata='{"a":' * 100 + "1" + "}" * 100)), "metadata-too-deep"),
    "five megabytes": (b"k", CODEC.encode(make_raw(event_id="big", extra_metadata='{"a":"' + "x" * 5_000_000 + '"}')), "too-large"),
    "unknown type": (b"k", CODEC.encode(make_raw(event_id="type", event_type="LEVITATE")), "unknown-event-type"),
    "no address": (b"k", CODEC.encode(make_raw(event_id="ip", ip_address="999.1.1.1")), "ip-invalid"),
}


def test_each_bad_input_is_a_dead_letter_with_its_reason_and_bytes_and_the_worker_goes_on(tmp_path) -> None:
    with stage(tmp_path, partitions=1) as run:
        run.start_pipeline()
        producer = Producer(producer_config(run.bootstrap))
        now_ms = int(time.time() * 1000)
        good = []
        for name, (key, value, _) in BAD_INPUT.items():
            producer.produce(t.RAW.name, value, key)
            good.append(f"after {name}")
            producer.produce(t.RAW.name, CODEC.encode(make_raw(event_id=good[-1], timestamp=now_ms)), b"k")
        assert producer.flush(30) == 0
        wait_for("all good events decided", lambda: set(run.decided()) >= set(good), 120)
        dead = read_all(run.bootstrap, t.RAW.dead)
        assert len(dead) == len(BAD_INPUT)
        for (name, (key, value, reason)), letter in zip(
            BAD_INPUT.items(), sorted(dead, key=lambda m: int(dict(m.headers())["__connect.errors.offset"])), strict=True
        ):
            headers = dict(letter.headers())
            assert reason in headers[REASONS].decode().split(","), (name, headers[REASONS])
            assert (letter.key(), letter.value()) == (key, value), name
            assert headers["__connect.errors.topic"].decode() == t.RAW.name
        wait_for("dead letters in Postgres", lambda: run.query("SELECT count(*) FROM usher.dead_letters")[0][0] == len(BAD_INPUT), 30)
        assert run.programs["main"].poll() is None


def test_losing_postgres_and_redis_stops_nothing_upstream_and_loses_nothing(tmp_path) -> None:
    with stage(tmp_path) as run:
        run.start_pipeline()
        run.start("cache", "sink", "redis")
        sent = run.produce(1_000, seed=51)
        run.wait_decided(sent)
        run.platform.kill("postgres")
        run.platform.kill("valkey")
        before = sum(end_offsets(run.bootstrap, [t.DECISIONS.name]).values())
        more = run.produce(1_000, seed=52)
        wait_for("decisions go on without stores", lambda: sum(end_offsets(run.bootstrap, [t.DECISIONS.name]).values()) >= before + 950, 60)
        run.platform.restart("postgres")
        run.platform.restart("valkey")
        run.wait_decided(sent + more)
        assert_each_event_once(run, sent + more)
        assert all(process.poll() is None for process in run.programs.values())
        import redis

        client = redis.Redis.from_url(run.platform.redis_url)
        wait_for("the cache fills again", lambda: client.dbsize() > 0, 30)


def test_the_commands_of_an_operator_answer_on_a_running_pipeline(tmp_path) -> None:
    with stage(tmp_path) as run:
        run.start_pipeline()
        events = tmp_path / "event.json"
        events.write_text(json.dumps({"event_id": "evt_1", "user_id": "user_42", "device_id": "tv", "content_id": "movie", "event_type": "PLAY",
                                      "timestamp": int(time.time() * 1000), "region": "NL", "is_eu": True, "has_consent": False, "ip_address": "203.0.113.10",
                                      "subscription_plan": "premium", "error_code": None, "extra_metadata": {"app_version": "1.2.3"}}, indent=4))  # fmt: skip

        def usher(*command: str) -> subprocess.CompletedProcess[str]:
            import os

            from commands.up import environment

            env = {**os.environ, **environment(run.platform, run.settings)}
            return subprocess.run(
                [sys.executable, "-m", "usher", *command], env=env, capture_output=True, text=True, timeout=90, check=False
            )

        produced = usher("produce", str(events))
        assert produced.returncode == 0, produced.stderr
        run.wait_decided(["evt_1"])
        status = usher("status", "--json")
        found = json.loads(status.stdout)
        assert status.returncode == 0, status.stderr
        assert (found["events"], found["decisions"], found["dead_letters"]) == (1, 1, 0)
        assert {"alerts", "rate_per_s", "lag", "urls"} <= set(found)
        shown = usher("tail", "--all", "--from-start", "--count", "1")
        assert "user_42" in shown.stdout, shown.stderr
        assert usher("status").returncode == 0
        bad = tmp_path / "bad.jsonl"
        bad.write_text('{"event_id": 1}\n')
        refused = usher("produce", str(bad))
        assert refused.returncode == 1
        assert "line 1" in refused.stderr
        import urllib.request

        url = found["urls"]["worker main"]
        assert json.load(urllib.request.urlopen(f"{url}/health/ready"))["status"] == "ok"
        assert "usher_stage_events_in_total" in urllib.request.urlopen(f"{url}/metrics").read().decode()
        run.programs["main"].send_signal(signal.SIGINT)
        assert run.programs["main"].wait(30) == 0
