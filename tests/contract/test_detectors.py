"""One suite over every learned detector; and each against the library that it rests on."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
from numpy.typing import NDArray
from river.anomaly import HalfSpaceTrees as RiverHalfSpaceTrees
from sklearn.ensemble import IsolationForest as SkIsolationForest
from sklearn.neighbors import LocalOutlierFactor as SkLocalOutlierFactor

import models
from models.half_space_trees import HalfSpaceTrees, unit
from models.isolation_forest import IsolationForest, average_path
from models.local_outlier_factor import LocalOutlierFactor
from models.scaling import Scaler
from schemas.records import Members

FEATURES = 7


def rows(count: int, seed: int = 0) -> NDArray[np.float64]:
    raw = np.random.default_rng(seed).normal(size=(count, FEATURES)) * np.array([1, 5, 0.1, 1, 1, 100, 1])
    raw[:, 3] = np.round(np.abs(raw[:, 3]))  # a count
    raw[:, 4] = 0.0  # a constant
    scaler = Scaler()
    scaler.fit(np.random.default_rng(99).normal(size=(500, FEATURES)) * np.array([1, 5, 0.1, 1, 0, 100, 1]))
    return scaler.transform(raw)


def discovered() -> list[type]:
    """Every class of `models` that has a name and scores; a new one is tested unasked."""
    return [
        kind
        for module in pkgutil.iter_modules(models.__path__)
        for _, kind in inspect.getmembers(importlib.import_module(f"models.{module.name}"), inspect.isclass)
        if kind.__module__ == f"models.{module.name}"
        and hasattr(kind, "score")
        and hasattr(kind, "name")
        and not getattr(kind, "_is_protocol", False)
    ]


def ready(kind: type) -> object:
    """A detector that has seen 600 ordinary rows."""
    parameters = inspect.signature(kind).parameters
    detector = kind(FEATURES) if "features" in parameters else kind()
    (detector.fit if hasattr(detector, "fit") else detector.learn)(rows(600))
    return detector


@pytest.fixture(params=discovered(), ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type:
    return request.param


def test_all_members_are_found() -> None:
    assert {kind.name for kind in discovered()} == {"isolation_forest", "local_outlier_factor", "half_space_trees"}


def test_names_are_those_of_the_record(kind: type) -> None:
    assert kind.name in Members.__struct_fields__


def test_higher_is_more_anomalous(kind: type) -> None:
    detector = ready(kind)
    ordinary = detector.score(rows(300, seed=1))
    strange = detector.score(rows(50, seed=2) + 7.0)
    assert ordinary.shape == (300,)
    assert np.isfinite(ordinary).all()
    assert np.median(strange) > np.quantile(ordinary, 0.95)


@pytest.mark.parametrize("size", [1, 2, 7, 16, 33, 128])
def test_a_score_depends_on_its_row_only(kind: type, size: int) -> None:
    detector = ready(kind)
    X = rows(300, seed=3)
    whole = detector.score(X)
    parts = np.concatenate([detector.score(X[start : start + size]) for start in range(0, len(X), size)])
    assert (whole == parts).all()
    assert (whole == detector.score(X)).all()


def test_the_same_data_gives_the_same_detector(kind: type) -> None:
    X = rows(100, seed=4)
    assert (ready(kind).score(X) == ready(kind).score(X)).all()


def test_isolation_forest_equals_scikit_learn() -> None:
    ours, X = IsolationForest(trees=20, samples=128, seed=3), rows(500)
    ours.fit(X)
    theirs = SkIsolationForest(n_estimators=20, max_samples=128, random_state=3).fit(X.astype(np.float32))
    probe = rows(200, seed=5)
    assert ours.score(probe) == pytest.approx(-theirs.score_samples(probe.astype(np.float32)), abs=1e-12)


def test_average_path_of_small_samples() -> None:
    assert average_path(np.array([0, 1, 2, 256])) == pytest.approx([0.0, 0.0, 1.0, 10.244], abs=1e-3)


def test_local_outlier_factor_equals_scikit_learn() -> None:
    ours, X = LocalOutlierFactor(neighbours=20), np.unique(rows(500), axis=0)
    ours.fit(X)
    theirs = SkLocalOutlierFactor(n_neighbors=20, novelty=True, algorithm="brute").fit(X)
    probe = rows(200, seed=6)
    assert ours.score(probe) == pytest.approx(-theirs.score_samples(probe), rel=1e-9)


def test_local_outlier_factor_takes_so_many_distinct_references() -> None:
    ours = LocalOutlierFactor(neighbours=5, references=50)
    ours.fit(np.repeat(rows(120), 30, axis=0))  # 30 equal rows each would be infinitely dense
    assert np.isfinite(ours.score(rows(20, seed=7))).all()


def test_half_space_trees_equal_river_scored_before_learning() -> None:
    ours = HalfSpaceTrees(FEATURES, trees=6, height=5, window=100, seed=8)
    river = RiverHalfSpaceTrees(n_trees=6, height=5, window_size=100, seed=8)
    X = rows(450, seed=9)
    for start in range(0, len(X), 50):
        part = X[start : start + 50]
        named = [{f"{i:04d}": value for i, value in enumerate(row)} for row in unit(part).tolist()]
        theirs = []
        for row in named:
            theirs.append(river.score_one(row))
            river.learn_one(row)
        if ours.ready:
            assert ours.score(part) == pytest.approx(theirs, abs=1e-12)
        ours.learn(part)


def test_half_space_trees_go_on_from_their_masses() -> None:
    one, other = (HalfSpaceTrees(FEATURES, trees=4, height=4, window=64, seed=1) for _ in range(2))
    one.learn(rows(100))
    other.take(one.masses())
    for detector in (one, other):
        detector.learn(rows(50, seed=2))
    assert (one.score(rows(20, seed=3)) == other.score(rows(20, seed=3))).all()
    other.renew(rows(10))
    assert other.ready
