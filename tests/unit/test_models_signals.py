"""Each signal fires on what it is for, and stays silent on the honest look-alikes."""

from __future__ import annotations

import random
from importlib.resources import files

import msgspec
import pytest

from models.segments import segment_of
from models.signals import Signal, combine, detect
from models.travel import STILL, move_of
from rules.behaviour import Segments, behaviour, plans, segments, strength_at
from schemas.records import Event
from tables.places import apart_km, great_circle_km, place_of
from tables.profile import Profile, observe
from tables.windows import EVENTS, W30D
from tests.scoring_samples import DAY_S, HOUR_S, START_S, event, settled, watch

NOW = 10 * DAY_S
THIEF = {"device_id": "thief", "ip_address": "198.51.100.7"}


def signals(profile: Profile, *events: Event) -> list[Signal]:
    """The signals of the last event."""
    found: list[Signal] = []
    for one in events:
        seen = observe(profile, one)
        found = detect(profile, seen, one, move_of(seen, one.timestamp, behaviour().travel), behaviour(), plans())
    return found


def risk(found: list[Signal]) -> float:
    return combine([one.strength for one in found])


def codes(found: list[Signal]) -> set[str]:
    return {one.code for one in found}


# --- travel


def test_a_device_that_flies_faster_than_an_airliner() -> None:
    found = signals(settled(), event(NOW), event(NOW + 900, region="BR", ip_address="198.51.100.7"))
    assert "impossible-travel" in codes(found)
    assert risk(found) >= 0.5
    detail = next(one.detail for one in found if one.code == "impossible-travel")
    assert "from NL to BR" in detail
    assert "15 min" in detail


def test_an_unknown_device_far_away() -> None:
    found = signals(settled(), event(NOW), event(NOW + 900, region="BR", **THIEF))
    assert risk(found) > 0.75
    assert codes(found) >= {"impossible-travel", "takeover"}


@pytest.mark.parametrize(
    ("elapsed_s", "changes"),
    [
        (14 * HOUR_S, {"region": "BR", "ip_address": "198.51.100.7"}),  # by air
        (300, {"region": "BE", "ip_address": "198.51.100.7"}),  # across a border, roaming
        (300, {"region": "ZZ", "ip_address": "198.51.100.7"}),  # unknown place
        (300, {"region": "US"}),  # the same address, located elsewhere
    ],
)
def test_plausible_travel(elapsed_s: int, changes: dict[str, str]) -> None:
    assert "impossible-travel" not in codes(signals(settled(), event(NOW), event(NOW + elapsed_s, **changes)))


def test_a_vpn_that_is_used_every_evening() -> None:
    profile = settled()
    vpn = {"region": "US", "ip_address": "198.51.100.7"}
    fired = []
    for day in range(10, 16):
        for step in range(6):
            one = event(day * DAY_S + step * 300, "HEARTBEAT", **(vpn if step % 2 else {}))
            fired.append("impossible-travel" in codes(signals(profile, one)))
    assert any(fired[:6])
    assert not any(fired[12:])


def test_a_household_in_two_places() -> None:
    profile = settled()
    phone = {"device_id": "phone"}
    for day in range(10, 13):
        watch(profile, event(day * DAY_S, **phone), event(day * DAY_S + 60, **phone))
    away = {"device_id": "phone", "region": "ES", "ip_address": "198.51.100.9"}
    found = signals(profile, event(13 * DAY_S, **away), event(13 * DAY_S + 60), event(13 * DAY_S + 120, "HEARTBEAT", **away))
    assert found == []


def test_a_late_event_is_no_travel() -> None:
    profile = settled()
    seen = watch(profile, event(NOW), event(NOW - 60, region="BR"))
    assert move_of(seen, 0, behaviour().travel) == STILL


def test_distances() -> None:
    assert great_circle_km(52.37, 4.9, 51.51, -0.13) == pytest.approx(358, abs=3)
    assert apart_km("NL", "BR") == pytest.approx(8_000, rel=0.05)
    assert apart_km("US-CA", "US-NY") > 3_000
    assert apart_km("US", "US-CA") == apart_km("US", "CA") == apart_km("NL", "") == apart_km("NL", "NL") == 0
    assert (place_of("US", "US-CA"), place_of("DE", "DE-BY"), place_of("ZZ", None)) == ("US-CA", "DE", "")


# --- logins


def failures(count: int, **changes: str) -> list[Event]:
    return [event(NOW + 20 * number, "LOGIN_FAILED", **changes) for number in range(count)]


def test_guessing_from_outside() -> None:
    found = signals(settled(), *failures(6, **THIEF))
    assert codes(found) == {"login-failures", "credential-stuffing"}
    assert risk(found) > 0.8


def test_a_forgotten_password_at_home() -> None:
    assert signals(settled(), *failures(5)) == []
    assert codes(signals(settled(), *failures(9))) == {"login-failures"}


def test_one_mistype_on_a_new_phone_is_not_enough() -> None:
    assert risk(signals(settled(), *failures(1, **THIEF))) < 0.5
    assert risk(signals(settled(), *failures(2, device_id="phone"))) == 0
    assert risk(signals(settled(), *failures(1, region="BR", **THIEF))) >= 0.5


def test_failures_of_an_account_without_a_past() -> None:
    assert signals(Profile(), *failures(2)) == []


# --- takeover


def test_a_takeover() -> None:
    profile = settled()
    login = signals(profile, *failures(4, **THIEF), event(NOW + 100, "LOGIN", **THIEF))
    assert codes(login) == {"takeover"}
    assert "after 4 failed logins" in login[0].detail
    change = signals(profile, event(NOW + 160, "ACCOUNT_CHANGE", **THIEF))
    assert risk(change) > 0.65
    assert "ACCOUNT_CHANGE" in change[0].detail
    quiet = signals(profile, event(NOW + 900, "PLAY", **THIEF))
    assert 0.0 < risk(quiet) < 0.5
    assert signals(profile, event(NOW + 950, "PLAY")) == []  # the owner at home is not accused
    assert "takeover" not in codes(signals(profile, event(NOW + 60 * HOUR_S, "PLAY", **THIEF)))


@pytest.mark.parametrize("kind", ["PURCHASE", "EXPORT", "ACCOUNT_CHANGE", "PLAY"])
def test_a_new_phone_at_home(kind: str) -> None:
    found = signals(settled(), event(NOW, "LOGIN", device_id="phone"), event(NOW + 300, kind, device_id="phone"))
    assert risk(found) < 0.35
    assert codes(found) == {"new-device"}


def test_a_new_phone_on_the_road() -> None:
    found = signals(settled(), event(NOW, "LOGIN", **THIEF), event(NOW + 300, "PURCHASE", **THIEF))
    assert risk(found) < 0.5


# --- streams


def streaming(*devices: tuple[str, str], plan: str = "basic", beats: int = 3) -> list[Event]:
    events = []
    for beat in range(beats):
        for number, (device, address) in enumerate(devices):
            kind = "PLAY" if beat == 0 else "HEARTBEAT"
            at_s = NOW + beat * 60 + number
            events.append(event(at_s, kind, device_id=device, ip_address=address, session_id=f"s-{device}", subscription_plan=plan))
    return events


HOME, WORK, AUNT = "203.0.113.10", "198.51.100.7", "192.0.2.9"


def known_devices() -> Profile:
    """An account whose every device and network has been there from the start."""
    profile = Profile()
    for number, (device, address) in enumerate((d, a) for d in "abcdef" for a in (HOME, WORK, AUNT)):
        watch(profile, event(number, "SEARCH", device_id=device, ip_address=address))
    return profile


def test_an_account_shared_among_households() -> None:
    found = signals(known_devices(), *streaming(("a", HOME), ("b", WORK), ("c", AUNT)))
    assert codes(found) == {"account-sharing"}
    assert risk(found) >= 0.5
    assert "basic allows 2" in found[0].detail
    assert "s-a, s-b, s-c" in found[0].detail
    more = signals(known_devices(), *streaming(("a", HOME), ("b", WORK), ("c", AUNT), ("d", AUNT)))
    assert risk(more) > risk(found)


def test_a_household_that_outgrew_its_plan() -> None:
    found = signals(known_devices(), *streaming(("a", HOME), ("b", HOME), ("c", HOME)))
    assert codes(found) == {"concurrent-streams"}
    assert risk(found) < 0.5


def test_within_the_plan() -> None:
    assert signals(known_devices(), *streaming(("a", HOME), ("b", WORK), ("c", AUNT), plan="premium")) == []
    assert plans().limit(None) == plans().limit("platinum") == plans().unlisted_streams


def test_a_stream_left_behind_is_no_stream() -> None:
    profile = known_devices()
    left = [event(NOW, device_id="a", subscription_plan="trial")]
    assert (
        signals(profile, *left, event(NOW + 60, device_id="b", subscription_plan="trial"), event(NOW + 120, "HEARTBEAT", device_id="b"))
        == []
    )


# --- exports and bots


def test_bulk_export() -> None:
    found = signals(settled(), *(event(NOW + 60 * number, "EXPORT") for number in range(12)))
    assert codes(found) == {"bulk-export"}
    assert risk(found) >= 0.7
    assert signals(settled(), event(NOW, "EXPORT")) == []


def test_a_season_for_the_flight() -> None:
    rng = random.Random(1)
    at_s = NOW
    events = []
    for _ in range(22):
        at_s += rng.randrange(5, 90)
        events.append(event(at_s, "DOWNLOAD"))
    assert signals(settled(), *events) == []


def test_a_clockwork_bot() -> None:
    found = signals(settled(), *(event(NOW + 30 * number, "PLAY") for number in range(50)))
    assert "bot-pace" in codes(found)
    assert risk(found) >= 0.5


def test_a_bot_in_a_hurry() -> None:
    rng = random.Random(2)
    found = signals(settled(), *(event(NOW + number + rng.random(), "SEARCH") for number in range(60)))
    assert "bot-rate" in codes(found)


def test_a_bot_that_never_sleeps() -> None:
    rng = random.Random(3)
    midnight = NOW - START_S % DAY_S
    events = [event(midnight + hour * HOUR_S + rng.random() * HOUR_S / 6 + part * 1_100, "PLAY") for hour in range(24) for part in range(3)]
    assert "bot-hours" in codes(signals(settled(), *events))


def test_a_binge_watcher() -> None:
    events = []
    for episode in range(9):
        start = NOW + episode * 2_700
        events += [event(start)] + [event(start + 60 * beat, "HEARTBEAT") for beat in range(1, 44)]
    assert signals(settled(), *events) == []


def test_an_error_burst() -> None:
    rng = random.Random(4)
    at_s = float(NOW)
    events = []
    for _ in range(40):
        at_s += rng.expovariate(1 / 15) + 3
        events.append(event(at_s, "ERROR"))
    assert signals(settled(), *events) == []


def test_hours() -> None:
    profile = settled(2)
    for number in range(150):
        watch(profile, event(2 * DAY_S + (number // 5) * DAY_S + number % 5 * 400, "SEARCH"))
    found = signals(profile, event(33 * DAY_S + 12 * HOUR_S, "SEARCH"))
    assert codes(found) == {"unusual-hour"}
    assert risk(found) <= 0.2


def test_a_night_owl_keeps_to_the_night() -> None:
    profile = Profile()
    night = -(START_S % DAY_S) + DAY_S + 3 * HOUR_S
    found: list[Signal] = []
    for number in range(200):
        found = signals(profile, event(night + (number // 5) * DAY_S + number % 5 * 700, "PLAY"))
    assert found == []


# --- configuration and segments


def test_ladders_and_combination() -> None:
    assert [strength_at(((2, 0.5), (4, 0.7)), count) for count in (1, 2, 3, 4, 9)] == [0.0, 0.5, 0.5, 0.7, 0.7]
    assert combine([]) == 0.0
    assert combine([0.5, 0.5]) == 0.75


def test_every_ladder_rises() -> None:
    def check(value: object) -> None:
        if isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                check(getattr(value, name))
        elif isinstance(value, tuple):
            assert value == tuple(sorted(value))
            assert [rung[1] for rung in value] == sorted(rung[1] for rung in value)

    check(behaviour())


def test_a_misspelt_setting_is_refused() -> None:
    text = files("rules").joinpath("segments.toml").read_text().replace("max_age_s", "max_aeg_s")
    with pytest.raises(msgspec.ValidationError, match="max_aeg_s"):
        msgspec.toml.decode(text, type=Segments)


def test_every_segment_is_reached_at_its_boundary() -> None:
    rules = segments()
    profile = Profile()
    watch(profile, event(0))
    assert segment_of(profile, rules) == "new"
    watch(profile, event(rules.new.max_age_s - 1))
    assert segment_of(profile, rules) == "new"
    watch(profile, event(rules.new.max_age_s))
    assert segment_of(profile, rules) == "normal"
    at_s = rules.new.max_age_s + rules.inactive.min_absence_s
    watch(profile, event(at_s - 1))
    assert segment_of(profile, rules) == "normal"
    watch(profile, event(at_s - 1 + rules.inactive.min_absence_s))
    assert segment_of(profile, rules) == "inactive"
    at_s += rules.inactive.min_absence_s + rules.dormant.min_absence_s
    watch(profile, event(at_s))
    assert segment_of(profile, rules) == "dormant"
    watch(profile, event(at_s + rules.dormant.for_s))
    assert segment_of(profile, rules) == "normal"
    while profile.counts.totals[W30D][EVENTS] < rules.power.min_events_30d:
        assert segment_of(profile, rules) != "power"
        watch(profile, event(at_s + rules.dormant.for_s, "HEARTBEAT"))
    assert segment_of(profile, rules) == "power"
    profile.alarms_s = [profile.counts.clock_s - rules.suspicious.within_s]
    assert segment_of(profile, rules) == "power"
    profile.alarms_s.append(profile.counts.clock_s)
    assert segment_of(profile, rules) == "suspicious"
    profile.alarms_s[0] -= 1
    assert segment_of(profile, rules) == "power"
