"""Detection measured on labelled data: what is printed, and what cannot be evaluated."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from commands.evaluate import UnreadableFile, anomaly_report, decision_report, inspection_report
from simulator import SimulationConfig, Unreadable, generate, to_json_line
from streams.settings import Settings
from streams.topology import make_topology
from usher import cli

TEXTS = [
    {"text": "1' OR '1'='1' --", "kind": "sqli", "src": "a"},
    {"text": "<script>alert(1)</script>", "kind": "xss", "src": "a"},
    {"text": "a quiet evening", "kind": "benign", "src": "b"},
]


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def labelled_lines(events: int) -> list[bytes]:
    return [to_json_line(one, labels=True).encode() for one in generate(SimulationConfig(seed=3, events=events, misbehaviour_rate=0.1))]


# --- anomaly ----------------------------------------------------------------------------------------------------------


def test_rows_far_from_the_others_are_ranked_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows, truth = rng.normal(size=(2_000, 6)), np.zeros(2_000, dtype=np.int64)
    truth[50::50] = 1
    rows[truth == 1] += 8
    report = anomaly_report(save(tmp_path / "rows.npz", X=rows, y=truth))
    assert report.ensemble.roc_auc is not None
    assert report.ensemble.roc_auc > 0.95
    assert set(report.members) >= {"isolation_forest", "local_outlier_factor", "half_space_trees"}
    assert (report.rows, (report.events_per_s or 0) > 0) == (2_000, True)


@pytest.mark.parametrize("y", [np.zeros(300), np.zeros((300, 1), dtype=bool), np.full(300, 2.0)])
def test_truth_may_be_numbers_or_booleans_of_one_class(y: Any, tmp_path: Path) -> None:
    report = anomaly_report(save(tmp_path / "rows.npz", X=np.random.default_rng(1).normal(size=(300, 3)), y=y))
    assert report.ensemble.roc_auc is None


@pytest.mark.parametrize(
    "arrays",
    [
        {"X": np.zeros((4, 2))},
        {"X": np.zeros(4), "y": np.zeros(4)},
        {"X": np.zeros((4, 2)), "y": np.zeros(5)},
        {"X": np.array([["a", "b"]]), "y": np.zeros(1)},
        {"X": np.zeros((2, 2)), "y": np.array(["yes", "no"])},
        {"X": np.array([[{}]], dtype=object), "y": np.zeros(1)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="rows.npz"):
        anomaly_report(save(tmp_path / "rows.npz", **arrays))


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.npz", X=np.zeros((50, 2)), y=np.zeros(50)).read_bytes()
    np.save(tmp_path / "lone.npy", np.zeros(3))
    for name, content in {"empty.npz": b"", "text.npz": b"X,y\n1,0\n", "cut.npz": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("empty.npz", "text.npz", "cut.npz", "lone.npy", "missing.npz"):
        with pytest.raises(UnreadableFile, match=name):
            anomaly_report(tmp_path / name)
    ended = CliRunner().invoke(cli, ["evaluate", "anomaly", str(tmp_path / "missing.npz")])
    assert (ended.exit_code, "missing.npz" in ended.stderr) == (1, True)


# --- decisions --------------------------------------------------------------------------------------------------------


def test_every_labelled_decision_is_counted_under_its_label() -> None:
    lines = labelled_lines(800)
    report = decision_report(make_topology(Settings.model_construct()), lines, lambda one: pytest.fail(one.reason))
    assert report.events == 800
    labels = [json.loads(line)["label"] for line in lines]
    assert {name: found.events for name, found in report.by_label.items()} == {
        name: labels.count(name) for name in set(labels) - {"honest"}
    }
    assert report.honest_users > 0


def test_events_without_label_or_decision_are_left_out_and_later_ones_keep_theirs() -> None:
    lines = labelled_lines(60)
    fields = [json.loads(line) for line in lines]
    del fields[3]["label"]
    fields[4]["ip_address"] = "no address"
    bad: list[Unreadable] = []
    mixed = [json.dumps(one).encode() for one in fields]
    mixed.insert(10, b"no event")
    mixed.insert(20, mixed[19])  # a gateway's retry
    report = decision_report(make_topology(Settings.model_construct()), mixed, bad.append)
    assert [one.line_no for one in bad] == [11]
    assert report.events == 58
    expected = [one["label"] for number, one in enumerate(fields) if number not in (3, 4) and one["label"] != "honest"]
    assert {name: found.events for name, found in report.by_label.items()} == {name: expected.count(name) for name in set(expected)}


def test_decisions_are_evaluated_from_a_file_and_settings_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(labelled_lines(120)))
    before = CliRunner().invoke(cli, ["evaluate", "decisions", str(file)])
    monkeypatch.setenv("USHER_MAX_EVENT_BYTES", "1024")
    monkeypatch.setenv("USHER_PARTITIONS", "no number")
    after = CliRunner().invoke(cli, ["evaluate", "decisions", str(file)])
    assert before.exit_code == 0
    assert before.stdout == after.stdout
    assert {"overall", "by_label", "honest_users_blocked"} <= set(json.loads(before.stdout))
    file.write_text("no event\n")
    ended = CliRunner().invoke(cli, ["evaluate", "decisions", str(file)])
    assert (ended.exit_code, "line 1" in ended.stderr) == (1, True)


# --- inspection -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.jsonl.gz"])
def test_texts_are_inspected_plain_or_gzipped(name: str, tmp_path: Path) -> None:
    content = "".join(json.dumps(one) + "\n\n" for one in TEXTS).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    table, cost_us = inspection_report(tmp_path / name)
    flagged = {(row.kind, row.source): (row.texts, row.flagged) for row in table}
    assert flagged["sqli", "a"] == flagged["xss", "a"] == (1, 1)
    assert flagged["benign", "b"] == (1, 0)
    assert cost_us > 0
    shown = CliRunner().invoke(cli, ["evaluate", "inspect", str(tmp_path / name)])
    assert (shown.exit_code, "benign" in shown.stdout) == (0, True)


def test_files_that_are_no_labelled_texts_are_refused(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(TEXTS[0]).encode())
    contents = {"a.jsonl": b'{"text": "x"}', "b.jsonl": b"rubbish", "c.jsonl": b'{"text": "\xff", "kind": "k", "src": "s"}', "d.gz": b"rubbish",
                "e.gz": packed[:-9], "f.gz": packed[:12] + b"\xff\xff\xff\xff" + packed[16:]}  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in (*contents, "missing.jsonl"):
        with pytest.raises(UnreadableFile, match=name):
            inspection_report(tmp_path / name)
