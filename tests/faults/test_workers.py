"""Workers that are stopped, frozen, joined by others or robbed of their tables: every event is decided once, tables stay right."""

from __future__ import annotations

import json
import shutil
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from commands.up import FUSED
from schemas import topics as t
from streams.admin import committed_offsets, end_offsets
from tests.harness import stage, wait_for
from tests.integration.test_pipeline import assert_each_event_once, assert_tables_equal_a_recomputation

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(600)]


def test_rolling_restart_joining_and_leaving_loses_and_repeats_nothing(tmp_path) -> None:
    with stage(tmp_path) as run:
        run.start_pipeline()
        sent = run.produce(1_500, seed=61)
        wait_for("some decisions", lambda: len(run.decided()) > 0)
        run.start("second", "worker", *FUSED)  # 1 -> 2 workers, while the first is at work
        sent += run.produce(1_500, seed=62)
        run.wait_ready("second")
        for name in ("main", "second"):  # SIGTERM, one after the other
            assert run.stop(name) == 0, run.log(name)[-2000:]
            sent += run.produce(1_000, seed={"main": 63, "second": 64}[name])
            run.start(name)
            run.wait_ready(name)
        run.wait_decided(sent, 180)
        run.stop("main")  # 2 -> 1
        sent += run.produce(500, seed=65)
        run.wait_decided(sent, 120)
        assert_each_event_once(run, sent)
        run.stop("second")
        assert_tables_equal_a_recomputation(run)


def test_a_worker_frozen_past_its_session_writes_nothing_when_it_wakes(tmp_path) -> None:
    with stage(tmp_path) as run:
        run.start_pipeline()
        run.start("second", "worker", *FUSED)
        sent = run.produce(1_000, seed=71)
        run.wait_decided(sent, 120)
        run.wait_ready("main")
        run.wait_ready("second")
        more = run.produce(2_000, seed=72)
        run.programs["main"].send_signal(signal.SIGSTOP)
        time.sleep(run.settings.session_timeout_s + 4)  # the second worker has everything now
        more += run.produce(500, seed=73)
        run.programs["main"].send_signal(signal.SIGCONT)
        assert run.programs["main"].wait(20) == 75, run.log("main")[-2000:]
        assert "stood still" in run.log("main") or "took longer" in run.log("main")
        run.wait_decided(sent + more, 180)
        assert_each_event_once(run, sent + more)
        run.stop("second")
        assert_tables_equal_a_recomputation(run)


def test_tables_come_back_from_their_changelogs_when_the_folder_is_gone(tmp_path) -> None:
    with stage(tmp_path) as run:
        run.start_pipeline()
        sent = run.produce(2_000, seed=81, days=0.5)
        run.wait_decided(sent, 120)
        run.kill("main")
        shutil.rmtree(Path(run.settings.data_dir, "tables", "main"))
        run.start("main")
        again = run.produce(2_000, seed=81, days=0.5)  # the same ids within a day: a state that was lost would decide them again
        assert again == sent
        more = run.produce(300, seed=82)
        run.wait_decided(sent + more, 120)
        wait_for(
            "the repeats are worked off",
            lambda: (
                sum(committed_offsets(run.bootstrap, "usher-check").get((t.VALID.name, p), 0) for p in range(4))
                == sum(end_offsets(run.bootstrap, [t.VALID.name]).values())
            ),
            60,
        )
        messages = sum(end_offsets(run.bootstrap, [t.DECISIONS.name]).values())
        assert messages == len(sent) + len(more), "no decision was made a second time"
        run.stop("main")
        assert_tables_equal_a_recomputation(run)


def test_a_worker_without_kafka_is_not_ready_and_goes_on_when_kafka_is_back(tmp_path) -> None:
    with stage(tmp_path) as run:
        run.start_pipeline()
        sent = run.produce(500, seed=91)
        run.wait_decided(sent, 120)
        url = Path(run.settings.data_dir, "run", "main.url").read_text()

        def is_ready() -> bool:
            try:
                return bool(json.load(urllib.request.urlopen(f"{url}/health/ready", timeout=2))["status"] == "ok")
            except OSError:
                return False

        assert is_ready()
        run.platform.kill("kafka")
        wait_for("not ready without Kafka", lambda: not is_ready(), 30)
        run.platform.restart("kafka")
        for name in list(run.programs):  # a supervisor would do this
            if run.programs[name].poll() is not None:
                run.start(name)
        more = run.produce(500, seed=92)

        def revive() -> bool:
            for name in list(run.programs):
                if run.programs[name].poll() is not None:
                    run.start(name)
            return set(run.decided()) | set(run.buried()) >= set(sent) | set(more)

        wait_for("all decided after Kafka came back", revive, 150, 0.5)
        assert_each_event_once(run, sent + more)


def test_fusing_is_refused_while_a_separate_stage_has_work_left(tmp_path) -> None:
    with stage(tmp_path, partitions=1) as run:
        for name in ("validate", "check", "score"):
            run.start(name, "worker", name)
        sent = run.produce(400, seed=95)
        wait_for("scored", lambda: sum(end_offsets(run.bootstrap, [t.SCORED.name]).values()) == len(sent), 90)
        run.start("early", "worker", *FUSED)
        assert run.programs["early"].wait(60) == 1
        assert "stop it before" in run.log("early")
        for name in ("validate", "check", "score"):
            run.wait_ready(name)
            assert run.stop(name) == 0
        run.programs.pop("early")
        run.start("late", "worker", "score", "link")  # link never ran for itself: nothing of it can be left behind
        wait_for(
            "linked", lambda: run.programs["late"].poll() is not None or sum(end_offsets(run.bootstrap, [t.LINKED.name]).values()) >= 0, 20
        )
        assert run.programs["late"].poll() is None, run.log("late")[-1500:]
