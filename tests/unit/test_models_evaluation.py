from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.evaluation import Judged, evaluate_anomaly, evaluate_decisions


def test_anomaly() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2_000, 6)), np.zeros(2_000, dtype=np.int64)
    y[::50] = 1
    X[::50] += 6.0
    report = evaluate_anomaly(X, y)
    assert report.rows == 2_000
    assert report.scored_rows == 2_000 - 256
    assert report.anomalies == y[256:].sum()
    assert report.ensemble.average_precision is not None
    assert report.ensemble.average_precision > 0.9
    assert set(report.members) == {"isolation_forest", "local_outlier_factor", "half_space_trees"}
    assert msgspec.json.decode(msgspec.json.encode(report))["ensemble"]["roc_auc"] > 0.95
    assert evaluate_anomaly(X, np.zeros(2_000, dtype=np.int64)).ensemble.roc_auc is None
    assert evaluate_anomaly(X[:0], y[:0]).rows == 0
    with pytest.raises(ValueError, match="must be"):
        evaluate_anomaly(X, y[:5])


def judged(*rows: tuple[str, str, str, float]) -> list[Judged]:
    return [Judged(f"e{i}", user, label, outcome, risk, i) for i, (user, label, outcome, risk) in enumerate(rows)]  # type: ignore[arg-type]


def test_decisions() -> None:
    rows = judged(
        ("a", "bot", "ALLOW", 0.4),
        ("h", "honest", "ALLOW", 0.1),
        ("a", "bot", "ALLOW", 0.4),
        ("a", "bot", "BLOCK", 0.9),
        ("b", "bot", "ALLOW", 0.2),
        ("c", "takeover", "ALLOW_WITH_CAUTION", 0.6),
        ("h", "honest", "ALLOW_WITH_CAUTION", 0.5),
        ("i", "honest", "BLOCK", 0.9),
    )
    report = evaluate_decisions(reversed(rows))
    assert report.overall.precision == 0.5
    assert report.overall.recall == pytest.approx(2 / 3)
    assert report.overall.f1 == pytest.approx(4 / 7)
    assert report.overall.pr_auc is not None
    assert (report.honest_users_blocked, report.honest_users, report.events) == (1, 2, 8)
    bot = report.by_label["bot"]
    assert (bot.events, bot.entities, bot.event_recall, bot.recall, bot.median_delay_events) == (4, 2, 0.25, 0.5, 2.0)
    assert report.by_label["takeover"].median_delay_events == 0.0


def test_decisions_without_any() -> None:
    nothing = evaluate_decisions([])
    assert nothing.overall == type(nothing.overall)(None, None, None, None)
    missed = evaluate_decisions(judged(("a", "bot", "ALLOW", 0.1), ("h", "honest", "BLOCK", 0.9)))
    assert missed.overall.f1 == 0.0
    assert missed.by_label["bot"].median_delay_events is None
