from __future__ import annotations

import random

from schemas.records import Origin
from tables.profile import (
    ADDRESS_CAP,
    DEVICE_CAP,
    Profile,
    Run,
    active_streams,
    decode,
    encode,
    observe,
)
from tables.seen import count_once
from tables.sightings import fingerprint, network_of
from tables.windows import ACTS, EVENTS, W24H, WATCHED_S
from tests.scoring_samples import DAY_S, HOUR_S, event, settled, watch


def test_a_profile_survives_its_bytes() -> None:
    profile = settled()
    count_once(profile.seen, Origin(partition=3, offset=70))
    assert decode(encode(profile)) == profile
    assert len(encode(profile)) < 1_200


def test_a_profile_is_bounded() -> None:
    rng = random.Random(5)
    profile = Profile()
    kinds = ("PLAY", "HEARTBEAT", "LOGIN", "LOGIN_FAILED", "PURCHASE", "EXPORT", "DOWNLOAD", "SEARCH", "ERROR")
    for number in range(6_000):
        observe(
            profile,
            event(
                number * 449 + rng.random() * 300,
                rng.choice(kinds),
                device_id=f"d{rng.randrange(400)}",
                ip_address=f"10.{rng.randrange(99)}.{rng.randrange(99)}.7",
                region=rng.choice(("NL", "DE", "US", "BR", "JP", "FR", "GB", "ES", "IT", "PL", "SE")),
                session_id=f"session-{rng.randrange(10_000):030d}",
            ),
        )
    assert len(profile.devices) == DEVICE_CAP
    assert len(profile.addresses) == ADDRESS_CAP
    assert len(encode(profile)) < 6_000


def test_an_account_knows_what_it_started_with_and_what_it_got_used_to() -> None:
    profile = Profile()
    first = watch(profile, event(0))
    assert first.device_known
    assert first.network_known
    assert first.country_known
    assert first.gap_s == -1
    assert watch(profile, event(600, device_id="phone")).device_known is False
    assert watch(profile, event(700, device_id="phone")).device_known  # within the account's first hour
    profile = settled()
    new = {"device_id": "tablet", "ip_address": "198.51.100.7"}
    assert not watch(profile, event(10 * DAY_S, **new)).device_known
    assert not watch(profile, event(10 * DAY_S + 60, **new), event(10 * DAY_S + 90, **new)).network_known
    later = watch(profile, event(11 * DAY_S + 60, **new))
    assert later.device_known
    assert later.network_known


def test_failing_makes_nothing_familiar() -> None:
    profile = settled()
    thief = {"device_id": "thief", "ip_address": "198.51.100.7", "region": "BR"}
    for hour in range(40):
        seen = watch(profile, event(10 * DAY_S + hour * HOUR_S, "LOGIN_FAILED", **thief))
        assert not seen.device_known
        assert not seen.country_known
    assert profile.sign_ins == []
    watch(profile, event(12 * DAY_S, "LOGIN", **thief))
    (sign_in,) = profile.sign_ins
    assert (sign_in.new_network, sign_in.new_country, sign_in.failures) == (True, True, 0)
    watch(profile, event(13 * DAY_S - 60, "LOGIN_FAILED"), event(13 * DAY_S, "LOGIN", device_id="phone"))
    assert (profile.sign_ins[1].new_network, profile.sign_ins[1].failures) == (False, 1)


def test_a_familiar_device_outlives_a_spray() -> None:
    profile = settled()
    for number in range(3 * DEVICE_CAP):
        watch(profile, event(10 * DAY_S + number, "LOGIN_FAILED", device_id=f"bot{number}"))
    assert watch(profile, event(10 * DAY_S + 900)).device_known


def test_watching_is_counted_by_signs_of_life() -> None:
    profile = Profile()
    watch(profile, event(0), event(60, "HEARTBEAT"), event(120, "HEARTBEAT"), event(150, "PAUSE"))
    assert profile.counts.totals[W24H][WATCHED_S] == 150
    watch(profile, event(4_000), event(9_000, "HEARTBEAT"))  # silent for too long: not watched
    assert profile.counts.totals[W24H][WATCHED_S] == 150
    assert profile.counts.totals[W24H][ACTS] == 3
    assert profile.counts.totals[W24H][EVENTS] == 6


def test_streams_open_and_close() -> None:
    profile = Profile()
    watch(profile, event(0), event(1, device_id="phone", session_id="s2"), event(60, "HEARTBEAT"))
    assert [one.session for one in active_streams(profile)] == ["s1", "s2"]
    watch(profile, event(90, "STOP"), event(91, "STOP", device_id="radio"), event(92, "SEARCH"))
    assert [one.session for one in active_streams(profile)] == ["s2"]
    watch(profile, event(2_000, "SEARCH"))
    assert active_streams(profile) == []


def test_a_stream_with_fast_heartbeats_is_over_sooner() -> None:
    profile = Profile()
    watch(profile, event(0), event(30, "HEARTBEAT"), event(60, "HEARTBEAT"), event(60 + 67, "SEARCH"))
    assert active_streams(profile) == []


def test_many_devices_keep_the_latest_streams() -> None:
    profile = Profile()
    for number in range(20):
        watch(profile, event(number, device_id=f"d{number}"))
    assert len(active_streams(profile)) == 12


def test_late_events_count_but_do_not_move_anything() -> None:
    profile = settled()
    before = (list(profile.whereabouts), list(profile.hours), profile.run.last_ms, profile.counts.clock_s)
    seen = watch(profile, event(5 * DAY_S, region="BR"))
    assert seen.late
    assert seen.gap_s == 0
    assert (profile.whereabouts, profile.hours, profile.run.last_ms, profile.counts.clock_s) == before
    assert profile.events == 10 * 13 + 1


def test_absence_and_fading_habits() -> None:
    profile = settled()
    watch(profile, event(60 * DAY_S))
    assert profile.absence_s == 60 * DAY_S - 9 * DAY_S - HOUR_S
    for number in range(3_000):
        watch(profile, event(60 * DAY_S + number * 10, "SEARCH"))
    assert sum(profile.hours) <= 2_048
    assert watch(profile, event(61 * DAY_S, "SEARCH")).hour_share >= 0


def test_intervals() -> None:
    run = Run()
    for number in range(30):
        run.note(1_000 + number * 5_000)
    assert (run.count, run.mean_ms, run.variation()) == (29, 5_000.0, 0.0)
    run.note(1_000_000)
    assert (run.count, run.variation()) == (0, 1.0)


def test_networks() -> None:
    assert network_of("203.0.113.10") == "203.0.113"
    assert network_of("2001:db8:1:2::3") == network_of("2001:db8:1:ffff::1") == "2001:db8:1::/48"
    assert network_of("unknown") == "unknown"
    assert fingerprint("a") != fingerprint("b")
