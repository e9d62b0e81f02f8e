from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.calibration import TailCalibrator
from models.detector import told
from models.ensemble import Ensemble, EnsembleConfig
from models.metrics import OPEN_CAP, Metrics
from models.reservoir import Reservoir
from models.scaling import LIMIT, Scaler

SMALL = EnsembleConfig(
    epoch=32, first_fit=64, fit_every=256, reservoir=128, memory=512, trees=8, samples=64, neighbours=10, references=64,
    hst_trees=4, hst_height=4, hst_window=64, keep_every=100,
)  # fmt: skip


def stream(count: int, seed: int = 1) -> NDArray[np.float32]:
    """Ordinary rows with one in 40 far away."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(count, 5))
    X[::40, :2] += 9.0
    return X.astype(np.float32)


def test_members_abstain_until_the_first_fit() -> None:
    scored = Ensemble(5, SMALL).score_then_learn(stream(200))
    assert np.isnan(scored.members[:64]).all()
    assert not np.isnan(scored.members[64:]).any()
    assert (scored.anomaly[:64] == 0).all()
    assert set(scored.fits.tolist()) == {0, 1}


def test_anomalies_score_high_and_are_explained() -> None:
    scored = Ensemble(5, SMALL).score_then_learn(stream(1_000))
    odd = np.arange(0, 1_000, 40)
    odd = odd[odd >= 200]
    rest = np.setdiff1d(np.arange(200, 1_000), odd)
    assert np.median(scored.anomaly[odd]) > 0.5
    assert np.median(scored.anomaly[rest]) < 0.2
    assert ((scored.anomaly >= 0) & (scored.anomaly <= 1)).all()
    causes = [scored.causes[row] for row in odd.tolist() if row in scored.causes]
    assert len(causes) > 10
    assert np.mean([found[0][0] in (0, 1) for found in causes]) > 0.9
    assert all(sum(share for _, share in found) == pytest.approx(1.0) for found in causes)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 150), min_size=1, max_size=12))
def test_results_do_not_depend_on_batches(sizes: list[int]) -> None:
    X = stream(sum(sizes))
    trusted = [row % 7 != 0 for row in range(len(X))]
    whole = Ensemble(5, SMALL).score_then_learn(X, trusted)
    cut = Ensemble(5, SMALL)
    start = 0
    for size in sizes:
        part = cut.score_then_learn(X[start : start + size], trusted[start : start + size])
        assert (part.anomaly == whole.anomaly[start : start + size]).all()
        assert np.array_equal(part.members, whole.members[start : start + size], equal_nan=True)
        assert (part.fits == whole.fits[start : start + size]).all()
        assert part.causes == {row - start: cause for row, cause in whole.causes.items() if start <= row < start + size}
        start += size


@pytest.mark.parametrize("cut", [40, 150, 333, 512])
def test_a_snapshot_goes_on_to_the_bit(cut: int) -> None:
    X = stream(900)
    config = EnsembleConfig(**{**{name: getattr(SMALL, name) for name in SMALL.__slots__}, "keep_every": 1})
    straight = Ensemble(5, config, feature_version="f").score_then_learn(X)
    first = Ensemble(5, config, feature_version="f")
    first.score_then_learn(X[:cut])
    first.metrics.note("e1", (0.9, 0.1, None, 0.2, 0.6))
    snapshot = first.snapshot()
    assert snapshot is not None
    second = Ensemble(5, config, feature_version="f")
    second.restore(snapshot, ())
    rest = second.score_then_learn(X[cut:])
    assert np.array_equal(rest.members, straight.members[cut:], equal_nan=True)
    assert (rest.anomaly == straight.anomaly[cut:]).all()
    assert second.metrics.by_member["rules"].predictions == 1
    assert second.metrics.judge("e1", "takeover")


def test_snapshots_are_rare_small_and_versioned() -> None:
    ensemble = Ensemble(45)
    rows = np.random.default_rng(0).poisson(2.0, size=(5_000, 45)).astype(np.float32)
    assert ensemble.snapshot(leaving=True) is None, "nothing has been learned"
    ensemble.score_then_learn(rows[:200])
    assert ensemble.snapshot() is None, "neither many events nor a fit"
    assert ensemble.snapshot(leaving=True) is not None, "the next worker goes on from here"
    ensemble.score_then_learn(rows[200:300])
    assert ensemble.snapshot() is not None, "a fit is worth keeping"
    ensemble.score_then_learn(rows[300:900])
    assert ensemble.snapshot() is None
    ensemble.score_then_learn(rows[900:])
    snapshot = ensemble.snapshot()
    assert snapshot is not None
    assert len(snapshot) < 1_000_000
    assert ensemble.snapshot() is None
    other = Ensemble(45, feature_version="another")
    other.restore(snapshot, ())
    other.restore(None, ())
    assert other.events == 0


def test_what_is_not_trusted_is_hardly_learned() -> None:
    X = stream(640)
    X[64:] += 30.0  # everything moves away at once
    open_minded, warned = Ensemble(5, SMALL), Ensemble(5, SMALL)
    open_minded.score_then_learn(X[:64])
    warned.score_then_learn(X[:64])
    warned.score_then_learn(X[64:], [False] * 576)
    assert warned.suspects == 576
    assert warned.reservoir.seen == 64 + 576 // SMALL.learn_suspects_every


def test_a_new_normal_is_learned_in_the_end() -> None:
    X = stream(6_000)
    X[1_000:] += 6.0
    scored = Ensemble(5, SMALL).score_then_learn(X)
    rows = np.setdiff1d(np.arange(5_500, 6_000), np.arange(0, 6_000, 40))
    assert np.median(scored.anomaly[1_000:1_100]) > 0.5
    assert np.median(scored.anomaly[rows]) < 0.25


def test_the_reservoir_samples_evenly_and_in_any_cut() -> None:
    X = np.arange(4_000, dtype=np.float32)[:, None]
    whole = Reservoir(1, capacity=200, memory=10_000, seed=3)
    whole.offer(X)
    cut = Reservoir(1, capacity=200, memory=10_000, seed=3)
    for start in range(0, len(X), 33):
        cut.offer(X[start : start + 33])
    assert (whole.rows == cut.rows).all()
    assert abs(float(whole.rows.mean()) - 2_000) < 300
    fading = Reservoir(1, capacity=200, memory=400, seed=3)
    fading.offer(X)
    assert float(fading.rows.mean()) > 3_200


def test_tail_probabilities() -> None:
    calibrator = TailCalibrator(4_000)
    calibrator.extend(np.random.default_rng(0).exponential(size=5_000))
    assert len(calibrator.window) == 4_000
    scores = np.linspace(0.0, 12.0, 200)
    tails = calibrator.tail(scores)
    assert (np.diff(tails) <= 0).all()
    assert (tails > 0).all()
    assert tails[0] == 1.0
    assert calibrator.tail(np.array([np.log(100.0)]))[0] == pytest.approx(0.01, rel=0.4)
    calibrator.renew(np.ones(50))
    assert calibrator.tail(np.array([1.0, 2.0]))[0] > 0.9
    assert told(np.array([1.0, 0.1, 0.01, 1e-4, 1e-9])).tolist() == [0.0, 0.25, 0.5, 1.0, 1.0]


def test_scaling_is_bounded_and_on_the_grid() -> None:
    X = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [1e30, 5.0]])
    scaler = Scaler()
    scaler.fit(X[:3])
    scaled = scaler.transform(np.vstack((X, -X)))
    assert np.abs(scaled).max() <= LIMIT
    assert (scaled * 256 == np.round(scaled * 256)).all()
    assert scaler.centre.tolist() == [1.0, 5.0]


def test_metrics() -> None:
    metrics = Metrics()
    metrics.note("a", (0.9, None, 0.1, 0.6, 0.7))
    metrics.note("b", (0.8, None, 0.1, 0.1, 0.5))
    metrics.note("c", (0.1, None, 0.1, 0.1, 0.1))
    assert metrics.judge("a", "takeover")
    assert metrics.judge("b", "false_positive")
    assert not metrics.judge("b", "false_positive")
    assert not metrics.judge("c", "true_positive")
    assert metrics.unmatched == 2
    forest, rules, trees, factor = (
        metrics.by_member[name] for name in ("isolation_forest", "rules", "half_space_trees", "local_outlier_factor")
    )
    assert (forest.predictions, forest.flagged, forest.true_positives, forest.false_positives) == (3, 2, 1, 1)
    assert (forest.precision, forest.recall) == (0.5, 1.0)
    assert forest.f1 == pytest.approx(2 / 3)
    assert (rules.precision, rules.recall, rules.f1) == (1.0, 1.0, 1.0)
    assert (trees.precision, trees.recall, trees.f1) == (None, 0.0, None)
    assert factor.predictions == 0
    for number in range(2 * OPEN_CAP + 5):
        metrics.note(f"n{number}", (None, None, None, 1.0, 1.0))
    assert len(metrics.open) < 2 * OPEN_CAP
    assert metrics.judge(f"n{2 * OPEN_CAP + 4}", "false_positive")
