"""A recorded run of the whole topology: what is decided about a fixed population, and that nothing but the input decides it.

`UPDATE_GOLDEN=1 pytest tests/golden` writes the files anew, after a change that is meant to change decisions: read their diff.
"""

from __future__ import annotations

import base64
import filecmp
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.codec import Codec, DecodeError
from schemas.records import ConsentRecord
from schemas.topics import CONSENTS, RAW
from simulator import LabelledEvent, SimulationConfig, generate, records, to_json_line
from streams.replay import Input, replay_to_files
from streams.settings import Settings
from streams.topology import make_topology

HERE = Path(__file__).parent
CODEC = Codec()
CONFIG = SimulationConfig(seed=5, events=3_000, misbehaviour_rate=0.1, dirt_rate=0.08)
FILES = ("decisions.jsonl", "alerts.jsonl", "violations.jsonl", "dead.jsonl")
RISK_TOLERANCE = 0.0015
"""Risks are kept with three decimals; beyond them numeric libraries may differ between processors."""


def simulated() -> Iterator[Input]:
    """Events and consents as the gateways send them: some twice, some late, some broken."""
    for one in records(CONFIG):
        topic = CONSENTS if isinstance(one.record, ConsentRecord) else RAW
        yield Input(topic, one.record.user_id.encode() or None, CODEC.encode(one.record), one.at_ms)


def lines_of(path: Path) -> list[Any]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def decision_rows(out: Path) -> list[list[str]]:
    """Counts of outcomes and laws, then a row for each decision with something to it and for every tenth of the others.

    A row: event, outcome, risk, laws, breaches, reason codes. `unusual-…` reasons are left out: which of forty features were the most unusual
    can hang on the last bits of a score.
    """
    rows, outcomes, laws = [], Counter[str](), Counter[str]()
    for place, one in enumerate(lines_of(out / "decisions.jsonl")):
        verdict, compliance = one["verdict"], one["compliance"]
        outcomes[verdict["outcome"]] += 1
        laws.update(compliance["laws"])
        if verdict["outcome"] != "ALLOW" or compliance["breaches"] or one["network"]["ring_id"] or place % 10 == 0:
            breaches = [f"{breach['law']}:{breach['rule']}" for breach in compliance["breaches"]]
            reasons = [reason["code"] for reason in verdict["reasons"] if not reason["code"].startswith("unusual-")]
            lists = [",".join(names) or "-" for names in (compliance["laws"], breaches, reasons)]
            rows.append([one["event"]["event_id"], verdict["outcome"], f"{verdict['risk']:.3f}", *lists])
    counts = [["#", name, str(count)] for name, count in sorted(outcomes.items())]
    return counts + [["#", law, str(count)] for law, count in sorted(laws.items())] + rows


def dead_rows(out: Path) -> list[list[str]]:
    """A row for each dead letter: event, stage, reasons."""
    rows = []
    for one in lines_of(out / "dead.jsonl"):
        try:
            event_id = CODEC.decode(base64.b64decode(one["value"])).event_id  # type: ignore[union-attr]
        except DecodeError:
            event_id = f"offset {one['offset']}"
        rows.append([event_id, one["stage"], ",".join(one["reasons"])])
    return rows


def alert_rows(out: Path) -> list[list[str]]:
    return [[one["event_id"], one["kind"], one["severity"]] for one in lines_of(out / "alerts.jsonl")]


GOLDEN = {"decisions.tsv": decision_rows, "dead.tsv": dead_rows, "alerts.tsv": alert_rows}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    totals = replay_to_files(make_topology(Settings.model_construct()), simulated(), folder)
    assert totals.decisions > 2_500
    assert min(totals.alerts, totals.violations, totals.dead_letters) > 0
    return folder


def without_risk(rows: list[list[str]]) -> list[list[str]]:
    return [row if row[0] == "#" else [*row[:2], *row[3:]] for row in rows]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_run_decides_what_it_decided_before(name: str, out: Path) -> None:
    found, path = GOLDEN[name](out), HERE / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text("".join("\t".join(row) + "\n" for row in found))
    wanted = [line.split("\t") for line in path.read_text().splitlines()]
    if name != "decisions.tsv":
        assert found == wanted
        return
    assert without_risk(found) == without_risk(wanted)
    far = [(a, b) for a, b in zip(found, wanted, strict=True) if a[0] != "#" and abs(float(a[2]) - float(b[2])) > RISK_TOLERANCE]
    assert not far


def test_a_second_run_gives_the_same_bytes(out: Path, tmp_path: Path) -> None:
    replay_to_files(make_topology(Settings.model_construct()), simulated(), tmp_path)
    assert filecmp.cmpfiles(out, tmp_path, FILES, shallow=False) == (list(FILES), [], [])


def test_no_process_environment_or_time_zone_changes_a_byte_of_a_replay(tmp_path: Path) -> None:
    recording = tmp_path / "events.jsonl"
    spellings = (
        lambda ms: ms,
        lambda ms: ms // 1000,
        lambda ms: str(ms),
        lambda ms: datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds"),
    )
    with recording.open("w") as lines:
        for number, one in enumerate(generate(SimulationConfig(seed=9, events=600, misbehaviour_rate=0.05))):
            ms = one.event.timestamp
            event = msgspec.structs.replace(one.event, timestamp=spellings[number % 4](ms) if isinstance(ms, int) else ms)
            lines.write(to_json_line(LabelledEvent(event, one.label)) + "\n")
    machines = {
        "one": {"PYTHONHASHSEED": "1", "TZ": "UTC"},
        "two": {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "USHER_MAX_AGE_DAYS": "1", "USHER_MAX_EVENT_BYTES": "1024",
                "USHER_ACCEPT_UNKNOWN_EVENT_TYPES": "true"},
    }  # fmt: skip
    for name, changes in machines.items():
        command = [sys.executable, "-m", "usher", "replay", str(recording), "--out", str(tmp_path / name)]
        subprocess.run(command, env={**os.environ, **changes}, cwd=HERE.parents[1], check=True, timeout=120, capture_output=True)
    assert filecmp.cmpfiles(tmp_path / "one", tmp_path / "two", FILES, shallow=False) == (list(FILES), [], [])
    assert len(lines_of(tmp_path / "one" / "decisions.jsonl")) == 600
    assert not (tmp_path / "one" / "dead.jsonl").read_bytes()
