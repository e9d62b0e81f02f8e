"""What counts as suspicious behaviour, what plans allow and where segments begin: checked data from three TOML files."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

Strength = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
Seconds = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=1)]
Ladder = Annotated[tuple[tuple[Count, Strength], ...], Meta(min_length=1)]
"""Rising counts, each with the strength from there on."""

T = TypeVar("T")


class _Checked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a file: a misspelt setting is refused."""


class History(_Checked, frozen=True, kw_only=True):
    """From when on an account has a past."""

    min_age_s: Seconds
    min_events: Count


class Travel(_Checked, frozen=True, kw_only=True):
    """When a move is impossible."""

    max_speed_kmh: Positive
    min_distance_km: Positive
    min_elapsed_s: Seconds
    strength: Strength
    same_device_strength: Strength
    tolerated_uses: Count


class LoginFailures(_Checked, frozen=True, kw_only=True):
    """Failed logins an hour, from familiar and from unfamiliar sources."""

    familiar: Ladder
    unfamiliar: Ladder


class Stuffing(_Checked, frozen=True, kw_only=True):
    """A failed login from an unknown device on an unknown network."""

    strength: Strength
    again_strength: Strength
    country_strength: Strength


class Takeover(_Checked, frozen=True, kw_only=True):
    """The evidence that a new device is not the owner's."""

    window_s: Seconds
    device_strength: Strength
    network_strength: Strength
    country_strength: Strength
    min_failures: Count
    failures_strength: Strength
    sign_in_s: Seconds
    quiet_share: Strength
    home_share: Strength
    change: Strength
    money: Strength
    data: Strength


class Streams(_Checked, frozen=True, kw_only=True):
    """More streams than the plan allows."""

    one_network_strength: Strength
    strength: Strength
    more_strength: Strength


class Exports(_Checked, frozen=True, kw_only=True):
    """Data and titles carried off."""

    exports_1h: Ladder
    exports_24h: Ladder
    downloads_1h: Ladder
    downloads_24h: Ladder


class Bot(_Checked, frozen=True, kw_only=True):
    """Rates, regularity and hours no person keeps."""

    acts_1m: Ladder
    acts_1h: Ladder
    max_variation: Positive
    max_interval_s: Positive
    intervals: Ladder
    hours: Ladder
    hour_acts: Count


class Hours(_Checked, frozen=True, kw_only=True):
    """An hour of day this user does not keep."""

    max_share: Strength
    strength: Strength


class Alarm(_Checked, frozen=True, kw_only=True):
    """From which strength on an event is remembered against the user."""

    strength: Strength


class Behaviour(_Checked, frozen=True, kw_only=True):
    """`behaviour.toml`; every figure is explained there."""

    history: History
    travel: Travel
    login_failures: LoginFailures
    stuffing: Stuffing
    takeover: Takeover
    streams: Streams
    exports: Exports
    bot: Bot
    hours: Hours
    alarm: Alarm


class Plans(_Checked, frozen=True, kw_only=True):
    """`plans.toml`: streams a plan allows at once."""

    unlisted_streams: Count
    streams: dict[str, Count]

    def limit(self, plan: str | None) -> int:
        """Streams at once for a plan in lower case; None and unknown plans have `unlisted_streams`."""
        return self.streams.get(plan, self.unlisted_streams) if plan is not None else self.unlisted_streams


class Suspicious(_Checked, frozen=True, kw_only=True):
    """So many alarms in so long."""

    min_alarms: Annotated[int, Meta(ge=1, le=4)]
    within_s: Seconds


class New(_Checked, frozen=True, kw_only=True):
    """Young, and not yet busy."""

    max_age_s: Seconds
    max_events: Count


class Absence(_Checked, frozen=True, kw_only=True):
    """Back from so long an absence, for so long."""

    min_absence_s: Annotated[int, Meta(ge=604_800)]  # a profile remembers absences from a week on
    for_s: Seconds


class Power(_Checked, frozen=True, kw_only=True):
    """Busy."""

    min_events_30d: Count


class Segments(_Checked, frozen=True, kw_only=True):
    """`segments.toml`: where segments begin."""

    suspicious: Suspicious
    new: New
    dormant: Absence
    inactive: Absence
    power: Power


def strength_at(ladder: Ladder, count: float) -> float:
    """The strength of the highest rung at or below `count`; 0.0 below the first."""
    found = 0.0
    for rung, strength in ladder:
        if count < rung:
            break
        found = strength
    return found


def _read(name: str, kind: type[T]) -> T:
    return msgspec.toml.decode(files("rules").joinpath(name).read_bytes(), type=kind)


@cache
def behaviour() -> Behaviour:
    """The signals' settings.

    Raises:
        msgspec.ValidationError: the file does not fit (a bug of whoever changed it; a test reads it).
    """
    return _read("behaviour.toml", Behaviour)


@cache
def plans() -> Plans:
    """The plans. Raises like `behaviour`."""
    return _read("plans.toml", Plans)


@cache
def segments() -> Segments:
    """The segments. Raises like `behaviour`."""
    return _read("segments.toml", Segments)
