"""What is remembered of one user: counts, familiar things, places, open streams, habits. Bounded, about 0.5–2 KB as msgpack.

`observe` takes one event up and returns what the event looked like against the past. Events are taken up in the order of
the log; late ones (older than the user's clock) change counts and last-seen times, but neither place, streams, pace nor
habits, because those describe the latest state.
"""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.records import Event
from tables import windows
from tables.places import place_of
from tables.seen import Seen
from tables.sightings import Sighting, find, fingerprint, network_of, note
from tables.streams import Stream, follow
from tables.windows import WindowCounts

DEVICE_CAP: Final = 16
ADDRESS_CAP: Final = 24
NETWORK_CAP: Final = 16
COUNTRY_CAP: Final = 8
WHEREABOUTS_CAP: Final = 8
SIGN_IN_CAP: Final = 4
ALARM_CAP: Final = 4

FAMILIAR_AFTER_S: Final = 86_400
FAMILIAR_USES: Final = 3
"""A thing is familiar a day after its first good use, with three good uses; so are the things an account starts with."""

START_S: Final = 3_600
"""What an account uses in its first hour it starts with."""

RUN_BREAK_MS: Final = 300_000
"""A pause this long ends a run of acts."""

HOURS_LIMIT: Final = 2_048
"""Acts in the hour-of-day histogram before it is halved: habits of long ago fade."""

RETURN_S: Final = 7 * 86_400
"""Shortest absence that is remembered as one."""

AUTOMATIC: Final = frozenset({"HEARTBEAT", "TOKEN_REFRESH", "TOKEN_REFRESH_FAILED"})
UNPROVEN: Final = frozenset({"LOGIN_FAILED", "TOKEN_REFRESH_FAILED"})

_KIND_OF: Final = {
    "LOGIN_FAILED": windows.LOGIN_FAILURES,
    "ERROR": windows.ERRORS,
    "EXPORT": windows.EXPORTS,
    "DOWNLOAD": windows.DOWNLOADS,
    "BULK_DOWNLOAD": windows.EXPORTS,
    "PURCHASE": windows.PURCHASES,
    "PAYMENT": windows.PURCHASES,
    "LOGIN": windows.LOGINS,
    "PLAY": windows.PLAYS,
}


class Whereabouts(msgspec.Struct, array_like=True):
    """Where a device was last: fingerprints of device and network, place (see `tables.places`), Unix ms."""

    device: int
    network: int
    place: str
    at_ms: int


class SignIn(msgspec.Struct, array_like=True):
    """A first good use of a device after the account's start: what a takeover begins with.

    Attributes:
        device: fingerprint.
        at_s: when (Unix s).
        new_network: whether its network was unfamiliar then.
        new_country: whether its country was unfamiliar then.
        failures: failed logins of the account in the hour before.
    """

    device: int
    at_s: int
    new_network: bool
    new_country: bool
    failures: int


class Run(msgspec.Struct, array_like=True):
    """Acts in a row without a long pause: intervals' count, mean (ms) and sum of squared deviations (Welford 1962)."""

    count: int = 0
    mean_ms: float = 0.0
    squares: float = 0.0
    last_ms: int = 0

    def note(self, at_ms: int) -> None:
        """Takes up an act at `at_ms` (Unix ms), not older than the one before."""
        interval = at_ms - self.last_ms
        if self.last_ms == 0 or interval > RUN_BREAK_MS:
            self.count, self.mean_ms, self.squares = 0, 0.0, 0.0
        else:
            self.count += 1
            delta = interval - self.mean_ms
            self.mean_ms += delta / self.count
            self.squares += delta * (interval - self.mean_ms)
        self.last_ms = at_ms

    def variation(self) -> float:
        """Coefficient of variation of the intervals; 1.0 (that of a Poisson process) with fewer than eight or no spread to speak of."""
        if self.count < 8 or self.mean_ms <= 0.0:
            return 1.0
        return float((max(0.0, self.squares) / self.count) ** 0.5 / self.mean_ms)


class Profile(msgspec.Struct, array_like=True):
    """State of one user. New fields go to the end with a default: records written before them still decode.

    Attributes:
        seen: guard against redelivery, see `tables.seen`.
        events: events counted.
        first_s: oldest event time (Unix s).
        counts: windowed counts; `counts.clock_s` is the user's clock.
        devices, addresses, networks, countries: what the user was seen with.
        hours: acts by hour of day (UTC), fading.
        run: pace of the latest acts.
        whereabouts: where each device was last, latest last.
        streams: open streams.
        sign_ins: latest first uses of devices.
        absence_s, returned_s: latest absence of a week or more, and when it ended (Unix s).
        alarms_s: times of the latest events whose signals were strong (Unix s); feeds the segment.
    """

    seen: Seen = msgspec.field(default_factory=dict)
    events: int = 0
    first_s: int = 0
    counts: WindowCounts = msgspec.field(default_factory=WindowCounts)
    devices: list[Sighting] = msgspec.field(default_factory=list)
    addresses: list[Sighting] = msgspec.field(default_factory=list)
    networks: list[Sighting] = msgspec.field(default_factory=list)
    countries: list[Sighting] = msgspec.field(default_factory=list)
    hours: list[int] = msgspec.field(default_factory=lambda: [0] * 24)
    run: Run = msgspec.field(default_factory=Run)
    whereabouts: list[Whereabouts] = msgspec.field(default_factory=list)
    streams: list[Stream] = msgspec.field(default_factory=list)
    sign_ins: list[SignIn] = msgspec.field(default_factory=list)
    absence_s: int = 0
    returned_s: int = 0
    alarms_s: list[int] = msgspec.field(default_factory=list)


class Observation(msgspec.Struct):
    """What one event looked like against the past of its user; all times and counts before the event unless said otherwise.

    Attributes:
        late: older than the user's clock.
        gap_s: seconds since the clock; 0 for a late event, -1 for the first event.
        age_s: seconds since the user's first event.
        device, network: fingerprints.
        device_known, network_known, country_known: familiar, or what the account started with.
        device_age_s: seconds since the device's first good use; -1 when this is it.
        origin: where this device was last, else where the account's latest device was; None where unknown.
        network_uses: good uses of the network.
        place: place of this event ('' where unknown).
        hour: hour of day (UTC).
        hour_share: share of the user's acts within an hour of this one; -1 while there are fewer than 100.
        watched_s: seconds of viewing this event adds.
    """

    late: bool
    gap_s: int
    age_s: int
    device: int
    network: int
    device_known: bool
    network_known: bool
    country_known: bool
    device_age_s: int
    network_uses: int
    origin: Whereabouts | None
    place: str
    hour: int
    hour_share: float
    watched_s: int


HABIT_MINIMUM: Final = 100
"""Acts from which on a user has habits."""


def _origin(whereabouts: list[Whereabouts], device: int) -> Whereabouts | None:
    for one in whereabouts:
        if one.device == device:
            return one
    return whereabouts[-1] if whereabouts else None


def _known(sighting: Sighting | None, at_s: int, start_s: int) -> bool:
    if sighting is None or not sighting.uses:
        return False
    return sighting.first_s - start_s <= START_S or sighting.familiar(at_s, after_s=FAMILIAR_AFTER_S, uses=FAMILIAR_USES)


def _hour_share(hours: list[int], hour: int) -> float:
    acts = sum(hours)
    if acts < HABIT_MINIMUM:
        return -1.0
    return (hours[hour - 1] + hours[hour] + hours[(hour + 1) % 24]) / acts


def observe(profile: Profile, event: Event) -> Observation:
    """Takes an event up into `profile` (changed in place) and tells what it looked like before that. About 15 µs."""
    kind = event.event_type
    at_ms = event.timestamp
    at_s = at_ms // 1000
    counts = profile.counts
    first = profile.events == 0
    late = at_s < counts.clock_s
    gap_s = -1 if first else max(0, at_s - counts.clock_s)
    profile.first_s = at_s if first else min(profile.first_s, at_s)
    start_s = profile.first_s

    device = fingerprint(event.device_id)
    address = fingerprint(event.ip_address)
    network = fingerprint(network_of(event.ip_address))
    country = int.from_bytes(event.region.encode(), "big")
    place = place_of(event.region, event.subdivision)
    known_device = find(profile.devices, device)
    hour = at_s // 3600 % 24
    good = kind not in UNPROVEN
    device_known = first or _known(known_device, at_s, start_s)
    known_network = find(profile.networks, network)
    network_known = first or _known(known_network, at_s, start_s)
    country_known = first or _known(find(profile.countries, country), at_s, start_s)
    seen = Observation(
        late=late,
        gap_s=gap_s,
        age_s=at_s - start_s,
        device=device,
        network=network,
        device_known=device_known,
        network_known=network_known,
        country_known=country_known,
        device_age_s=max(0, at_s - known_device.first_s) if known_device is not None and known_device.uses else -1,
        network_uses=known_network.uses if known_network is not None else 0,
        origin=_origin(profile.whereabouts, device),
        place=place,
        hour=hour,
        hour_share=_hour_share(profile.hours, hour),
        watched_s=0 if late else follow(profile.streams, event, device, network, place, at_s),
    )

    act = kind not in AUTOMATIC
    counted = _KIND_OF.get(kind)
    kinds = (windows.EVENTS, windows.ACTS) if act else (windows.EVENTS,)
    counts.add(at_s, kinds if counted is None else (*kinds, counted), seen.watched_s)
    profile.events += 1

    if seen.device_age_s < 0 and good and not device_known:
        failures = counts.totals[windows.W1H][windows.LOGIN_FAILURES]
        profile.sign_ins.append(SignIn(device, at_s, not network_known, not country_known, failures))
        del profile.sign_ins[:-SIGN_IN_CAP]
    note(profile.devices, device, at_s, good=good, cap=DEVICE_CAP)
    note(profile.addresses, address, at_s, good=good, cap=ADDRESS_CAP)
    note(profile.networks, network, at_s, good=good, cap=NETWORK_CAP)
    note(profile.countries, country, at_s, good=good, cap=COUNTRY_CAP)

    if late:
        return seen

    if act:
        profile.run.note(max(at_ms, profile.run.last_ms))
        profile.hours[hour] += 1
        if sum(profile.hours) > HOURS_LIMIT:
            profile.hours = [count // 2 for count in profile.hours]
    if place and good:
        if seen.origin is not None and seen.origin.device == device:
            profile.whereabouts.remove(seen.origin)
        profile.whereabouts.append(Whereabouts(device, network, place, at_ms))
        del profile.whereabouts[:-WHEREABOUTS_CAP]
    if gap_s >= RETURN_S:
        profile.absence_s, profile.returned_s = gap_s, at_s
    return seen


def active_streams(profile: Profile) -> list[Stream]:
    """Streams alive at the user's clock, oldest first."""
    clock_s = profile.counts.clock_s
    return sorted([one for one in profile.streams if one.alive(clock_s)], key=lambda one: (one.started_s, one.device))


def encode(profile: Profile) -> bytes:
    """A profile as msgpack."""
    return _ENCODER.encode(profile)


def decode(data: bytes) -> Profile:
    """A profile from msgpack.

    Raises:
        msgspec.ValidationError: the bytes are no profile (a bug or a broken table).
    """
    return _DECODER.decode(data)


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Profile)
