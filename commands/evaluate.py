"""Measures detection on labelled data: what the `usher evaluate` commands do."""

from __future__ import annotations

import time
import zipfile
import zlib
from collections.abc import Iterable
from gzip import open as open_gzip
from pathlib import Path

import msgspec
import numpy as np

from commands.inputs import Report, inputs_of, recorded_lines
from models.evaluation import AnomalyReport, DecisionReport, Judged, evaluate_anomaly, evaluate_decisions
from rules.inspect_evaluate import InspectionRow, LabelledText, evaluate_inspection
from simulator import Recorded
from streams.flow import Topology
from streams.replay import Replay


class UnreadableFile(Exception):
    """The file cannot be evaluated; the message says why."""


def anomaly_report(path: Path) -> AnomalyReport:
    """Scores the rows of an .npz file with arrays `X` and `y`, in row order, each before it is learned.

    Raises:
        UnreadableFile: it is no .npz file with these arrays.
    """
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise UnreadableFile(f"{path}: one array without a name; `X` and `y` are needed")
        with arrays:
            rows, truth = np.asarray(arrays["X"], dtype=np.float64), np.asarray(arrays["y"], dtype=np.float64).ravel() != 0
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UnreadableFile(f"{path}: {error}") from error
    started = time.process_time()
    try:
        report = evaluate_anomaly(rows, truth.astype(np.int64))
    except ValueError as error:
        raise UnreadableFile(f"{path}: {error}") from error
    return msgspec.structs.replace(report, events_per_s=round(len(rows) / max(1e-9, time.process_time() - started), 1))


def decision_report(topology: Topology, lines: Iterable[bytes], on_unreadable: Report) -> DecisionReport:
    """Replays labelled events and compares the decisions with the labels, which no stage sees.

    An event without a decision (a dead letter, a repeat) is left out, and so is one without a label.
    """
    labels: dict[int, str] = {}
    order = 0

    def note(one: Recorded) -> None:
        nonlocal order
        if one.label is not None:
            labels[order] = one.label
        order += 1

    replay = Replay(topology)
    judged: list[Judged] = []
    for results in replay.feed(inputs_of(recorded_lines(lines), on_unreadable, note)):
        for case in results.decisions:
            place, verdict = case.event.origin.offset, case.verdict
            label = labels.pop(place, None)
            if label is not None and verdict is not None:
                judged.append(
                    Judged(case.event.event_id, f"{case.event.tenant_id}/{case.event.user_id}", label, verdict.outcome, verdict.risk, place)
                )
    return evaluate_decisions(judged)


def inspection_report(path: Path) -> tuple[tuple[InspectionRow, ...], float]:
    """The table of `usher evaluate inspect`, and the mean cost of a text in µs.

    Raises:
        UnreadableFile: a line is not an object with `text`, `kind` and `src`.
    """
    decode = msgspec.json.Decoder(LabelledText).decode
    opener = open_gzip if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as lines:
            rows = [decode(line) for line in lines if line.strip()]
    except (OSError, EOFError, zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path}: {error}") from error
    started = time.process_time()
    table = evaluate_inspection(rows)
    return table, (time.process_time() - started) / max(1, len(rows)) * 1e6
