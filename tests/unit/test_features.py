from __future__ import annotations

from pathlib import Path

import pytest

from tables.features import FEATURE_VERSION, FEATURES, extract, render_dictionary
from tables.profile import Profile
from tests.scoring_samples import event, settled, watch

NAMES = [feature.name for feature in FEATURES]


def features(profile: Profile, *events: object, speed_kmh: float = 0.0) -> dict[str, float]:
    seen = watch(profile, *events)  # type: ignore[arg-type]
    return dict(zip(NAMES, extract(profile, seen, speed_kmh), strict=True))


def test_the_dictionary_in_docs_is_current() -> None:
    assert Path(__file__, "../../../docs/features.md").resolve().read_text() == render_dictionary()


def test_names_are_unique_and_versioned() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert FEATURE_VERSION in render_dictionary()


def test_the_first_event() -> None:
    found = features(Profile(), event(0, "LOGIN"))
    assert found["events_1m"] == found["events_30d"] == found["logins_1h"] == found["devices_24h"] == 1
    assert found["gap"] == -1
    assert found["device_new"] == found["network_new"] == found["country_new"] == 0
    assert found["hour_rarity"] == 0.875
    assert found["interval_variation"] == 1


def test_ratios() -> None:
    found = features(Profile(), event(0, "LOGIN"), event(5, "LOGIN_FAILED"), event(6, "LOGIN_FAILED"), event(7, "ERROR"))
    assert found["failure_share_24h"] == pytest.approx(2 / 3)
    assert found["error_share_1h"] == pytest.approx(1 / 4)
    assert found["acceleration_1h"] == 168


def test_newness_watching_and_speed() -> None:
    profile = settled()
    found = features(profile, event(10 * 86_400, "PLAY", device_id="phone", ip_address="198.51.100.1", region="DE"), speed_kmh=99.0)
    assert found["device_new"] == found["network_new"] == found["country_new"] == 1
    assert found["countries_24h"] == found["devices_30d"] == 2
    assert found["watched_7d"] == 6 * 3_600  # today's day bucket is the tenth's, so six evenings are left of the seven
    assert found["speed"] == pytest.approx(4.605, abs=1e-3)
    assert found["streams"] == 1
