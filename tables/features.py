"""The features the detectors read: one dictionary, versioned by its own content; `docs/features.md` is rendered from it.

All features describe the user at the event, the event itself included (see `tables.windows` for the windows' bounds and for
late events). They are finite numbers: where something is unknown the feature's `null` value stands.
"""

from __future__ import annotations

import math
from hashlib import sha256
from typing import Final, NamedTuple

from tables import windows
from tables.profile import Observation, Profile, active_streams
from tables.sightings import distinct
from tables.windows import W1H, W1M, W5M, W7D, W24H, W30D, WINDOWS


class Feature(NamedTuple):
    """One entry of the dictionary. `window` is '' where it has none; `null` says what stands for an unknown value."""

    name: str
    unit: str
    window: str
    description: str
    null: str = "never null"


def _count(kind: str, unit: str, description: str, *names: str) -> tuple[Feature, ...]:
    return tuple(Feature(f"{kind}_{name}", unit, name, f"{description} in the last {name}.") for name in names)


FEATURES: Final[tuple[Feature, ...]] = (
    *_count("events", "events", "Events of all types", "1m", "5m", "1h", "24h", "7d", "30d"),
    *_count("acts", "events", "Events other than heartbeats and token refreshes", "1m", "1h"),
    *_count("login_failures", "events", "LOGIN_FAILED events", "5m", "1h", "24h"),
    *_count("errors", "events", "ERROR events", "5m", "1h"),
    *_count("exports", "events", "EXPORT and BULK_DOWNLOAD events", "1h", "24h"),
    *_count("downloads", "events", "DOWNLOAD events", "1h", "24h"),
    *_count("purchases", "events", "PURCHASE and PAYMENT events", "1h", "24h"),
    *_count("logins", "events", "LOGIN events", "1h", "24h"),
    *_count("plays", "events", "PLAY events", "1h", "24h"),
    *_count("watched", "s", "Seconds viewed, by the signs of life of its streams,", "24h", "7d"),
    *_count("devices", "devices", "Distinct devices", "1h", "24h", "30d"),
    *_count("addresses", "addresses", "Distinct IP addresses", "1h", "24h", "7d"),
    *_count("countries", "countries", "Distinct countries", "24h", "30d"),
    Feature("failure_share_24h", "ratio", "24h", "Failed logins over all logins.", "0 without logins"),
    Feature("error_share_1h", "ratio", "1h", "Errors over all events."),
    Feature("acceleration_1h", "ratio", "1h", "Events of the last hour over those of the mean hour of the last 7 days, at most 168."),
    Feature("gap", "ln(1 + s)", "", "Time since the user's previous event.", "0 for a late event, -1 for the first event"),
    Feature(
        "interval_variation",
        "ratio",
        "",
        "Coefficient of variation of the intervals between acts of the present run, at most 10.",
        "1 below eight",
    ),
    Feature(
        "speed", "ln(1 + km/h)", "", "Least speed between the last place and this one.", "0 where a place is unknown or the event late"
    ),
    Feature("streams", "streams", "", "Devices with a stream open now."),
    Feature("device_new", "0 or 1", "", "The device is not familiar."),
    Feature("network_new", "0 or 1", "", "The network (/24 or /48) is not familiar."),
    Feature("country_new", "0 or 1", "", "The country is not familiar."),
    Feature(
        "hour_rarity",
        "ratio",
        "",
        "1 minus the share of the user's acts within an hour of this hour of day.",
        "0.875, that of no habits, below 100 acts",
    ),
    Feature("age", "ln(1 + d)", "", "Days since the user's first event."),
)

FEATURE_VERSION: Final = sha256(repr(FEATURES).encode()).hexdigest()[:12]
"""Changes with every change of the dictionary."""

_COUNTED: Final = tuple(
    (window, kind)
    for kind, held in (
        (windows.EVENTS, (W1M, W5M, W1H, W24H, W7D, W30D)),
        (windows.ACTS, (W1M, W1H)),
        (windows.LOGIN_FAILURES, (W5M, W1H, W24H)),
        (windows.ERRORS, (W5M, W1H)),
        (windows.EXPORTS, (W1H, W24H)),
        (windows.DOWNLOADS, (W1H, W24H)),
        (windows.PURCHASES, (W1H, W24H)),
        (windows.LOGINS, (W1H, W24H)),
        (windows.PLAYS, (W1H, W24H)),
        (windows.WATCHED_S, (W24H, W7D)),
    )
    for window in held
)


def extract(profile: Profile, seen: Observation, speed_kmh: float) -> list[float]:
    """The features of the event `seen` that `profile` has just taken up, in the order of `FEATURES`. About 10 µs.

    Args:
        speed_kmh: least speed from the last place to this one (km/h), 0 where unknown.
    """
    totals = profile.counts.totals
    clock_s = profile.counts.clock_s
    row: list[float] = [totals[window][kind] for window, kind in _COUNTED]
    row += [distinct(profile.devices, WINDOWS[window], clock_s) for window in (W1H, W24H, W30D)]
    row += [distinct(profile.addresses, WINDOWS[window], clock_s) for window in (W1H, W24H, W7D)]
    row += [distinct(profile.countries, WINDOWS[window], clock_s) for window in (W24H, W30D)]
    hour, day, week = totals[W1H], totals[W24H], totals[W7D]
    tries = day[windows.LOGIN_FAILURES] + day[windows.LOGINS]
    row += [
        day[windows.LOGIN_FAILURES] / tries if tries else 0.0,
        hour[windows.ERRORS] / hour[windows.EVENTS] if hour[windows.EVENTS] else 0.0,
        168.0 * hour[windows.EVENTS] / week[windows.EVENTS] if week[windows.EVENTS] else 0.0,
        math.log1p(seen.gap_s) if seen.gap_s >= 0 else -1.0,
        min(10.0, profile.run.variation()),
        math.log1p(speed_kmh),
        len(active_streams(profile)),
        0.0 if seen.device_known else 1.0,
        0.0 if seen.network_known else 1.0,
        0.0 if seen.country_known else 1.0,
        1.0 - seen.hour_share if seen.hour_share >= 0.0 else 0.875,
        math.log1p(seen.age_s / 86_400),
    ]
    return row


def render_dictionary() -> str:
    """`docs/features.md`, from the dictionary."""
    lines = [
        "# Features",
        "",
        "Rendered from `tables/features.py` by `tables.features.render_dictionary`: do not edit.",
        "",
        f"Version `{FEATURE_VERSION}`, {len(FEATURES)} features, in this order in `Score.features`.",
        "",
        "All describe the user at the event, the event included. Windows end at the greatest event time seen of the user, are made of",
        "aligned buckets and count a late event where they still hold its bucket (`tables/windows.py` has the bounds). Distinct counts are",
        "exact while a user has at most 16 devices, 24 addresses and 8 countries on record, lower bounds beyond (`tables/sightings.py`).",
        "",
        "| window | buckets | spans |",
        "|---|---|---|",
        *(
            f"| {w.name} | {w.buckets} x {w.bucket_s} s | more than {w.bucket_s * (w.buckets - 1)} s, at most {w.span_s} s |"
            for w in WINDOWS
        ),
        "",
        "| # | feature | unit | window | what | where unknown |",
        "|---|---|---|---|---|---|",
        *(f"| {i} | `{f.name}` | {f.unit} | {f.window or '-'} | {f.description} | {f.null} |" for i, f in enumerate(FEATURES)),
        "",
    ]
    return "\n".join(lines)
