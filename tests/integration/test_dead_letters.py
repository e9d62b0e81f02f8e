"""Dead letters of a running pipeline: listed, shown, sent back once, given up after three attempts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from confluent_kafka import Producer

from agents.step import Fault
from commands.dead import Resent, read_dead, replay_dead
from commands.up import FUSED, environment
from schemas import topics as t
from schemas.codec import Case
from schemas.records import Origin
from streams.dead_letters import dead_letter_headers
from streams.publish import producer_config
from tests.conftest import make_event, make_raw
from tests.harness import CODEC, Stage, stage, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

TYPE, IP = "unknown-event-type", "ip-invalid"


def usher(run: Stage, *command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment(run.platform, run.settings), "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-m", "usher", *command], env=env, capture_output=True, text=True, timeout=90, check=False)


def letters_by_attempt(run: Stage) -> dict[int, int]:
    found = [one.attempts for one in read_dead(run.bootstrap, [t.RAW]) if TYPE in one.reasons]
    return {attempt: found.count(attempt) for attempt in sorted(set(found))}


def test_letters_are_listed_shown_and_sent_back_once_until_they_are_given_up(tmp_path, monkeypatch) -> None:
    with stage(tmp_path, partitions=2) as run:
        run.start("main", "worker", *FUSED)
        run.start("sink", "sink", "postgres")
        producer = Producer(producer_config(run.bootstrap))
        now_ms = int(time.time() * 1000)
        sent = [make_raw(event_id=f"odd-{n}", user_id=f"u{n}", timestamp=now_ms, event_type="LEVITATE") for n in (1, 2)]
        sent += [make_raw(event_id="lost", user_id="u1", timestamp=now_ms, ip_address="999.1.1.1")]
        sent += [make_raw(event_id=f"good-{n}", user_id="u1", timestamp=now_ms) for n in range(3)]
        for one in sent:
            producer.produce(t.RAW.name, CODEC.encode(one), one.user_id.encode(), headers=[("traceparent", b"00-1")])
        assert producer.flush(30) == 0
        wait_for("three letters", lambda: len(list(read_dead(run.bootstrap, [t.RAW]))) == 3, 90)

        listed = usher(run, "dead", "list")
        rows = [line.replace("│", " ").replace("┃", " ").split() for line in listed.stdout.splitlines()]
        assert [t.RAW.name, "validate", TYPE, "2"] in rows, listed.stdout + listed.stderr
        assert [t.RAW.name, "validate", IP, "1"] in rows
        shown = usher(run, "dead", "show", "--reason", IP)
        assert f"{t.RAW.dead} " in shown.stdout, shown.stderr
        assert "event_id='lost'" in shown.stdout.replace("\n", "")
        assert "odd-1" not in shown.stdout

        # Nothing was mended: each call sends only the letters that the last one made, until they are given up.
        assert replay_dead(run.bootstrap, CODEC, t.RAW, TYPE) == Resent(sent=2)
        wait_for("refused again", lambda: letters_by_attempt(run) == {1: 2, 2: 2}, 60)
        assert replay_dead(run.bootstrap, CODEC, t.RAW, TYPE) == Resent(sent=2, earlier=2)
        wait_for("refused a third time", lambda: letters_by_attempt(run) == {1: 2, 2: 2, 3: 2}, 60)
        assert replay_dead(run.bootstrap, CODEC, t.RAW, TYPE) == Resent(earlier=4, exhausted=2)
        # What went by its reason is known to a replay of everything, and what is left for other reasons is not forgotten.
        everything = usher(run, "dead", "replay")
        assert everything.returncode == 0, everything.stderr
        assert "1 sent back" in everything.stderr
        assert "6 passed over" in everything.stderr
        wait_for("the bad address refused again", lambda: len(list(read_dead(run.bootstrap, [t.RAW]))) == 8, 60)
        assert replay_dead(run.bootstrap, CODEC, t.RAW, IP) == Resent(sent=1, earlier=1)
        assert all(("traceparent", b"00-1") in one.headers for one in read_dead(run.bootstrap, [t.RAW]))

        # Mended: on request, what was taken is sent again, and each event is decided once.
        run.stop("main")
        monkeypatch.setenv("USHER_ACCEPT_UNKNOWN_EVENT_TYPES", "true")
        run.start("main")
        again = usher(run, "dead", "replay", "--reason", TYPE, "--all")
        assert "4 sent back" in again.stderr
        assert "2 left: they were tried 3 times" in again.stderr
        wait_for("decided", lambda: set(run.decided()) == {"odd-1", "odd-2", "good-0", "good-1", "good-2"}, 90)
        assert max(run.decided().values()) == 1
        assert letters_by_attempt(run) == {1: 2, 2: 2, 3: 2}

        # Letters of a later topic: their place in the raw log is behind the user's later events.
        ((partition, offset),) = run.query("SELECT source_partition, source_offset FROM usher.events WHERE event_id = 'good-0'")
        for event_id, refused_by in (("inner", "check"), ("counted", "score")):
            case = Case(make_event(event_id=event_id, user_id="u1", timestamp=now_ms, origin=Origin(partition=partition, offset=offset)))
            headers = dead_letter_headers(t.VALID.name, 0, 1, refused_by, [Fault("unknown-schema-id", "schema id 99 is not known")], [])
            producer.produce(t.VALID.dead, CODEC.encode_case(case, t.VALID.record), b"u1", headers=headers)
        assert producer.flush(30) == 0
        inner = usher(run, "dead", "replay", t.VALID.name)
        assert "1 sent back" in inner.stderr
        assert "1 cannot be sent back: check had counted the event before score refused it" in inner.stderr.replace("\n", " ")
        wait_for("the letter of the inner topic is decided", lambda: "inner" in run.decided(), 60)
        assert "0 sent back" in usher(run, "dead", "replay", t.VALID.name).stderr

        status = json.loads(usher(run, "status", "--json").stdout)
        assert set(status["lag"]) == {f"usher-validate:{t.RAW.name}", f"usher-check:{t.VALID.name}"}
        assert status["idle_stages"] == ["rings", "communities"]
