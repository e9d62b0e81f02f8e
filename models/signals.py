"""Deterministic signals: what one account's past and present say by themselves, without learning. They make up the member `rules`.

Every signal gives a code, a strength in [0, 1] (see rules/behaviour.toml) and a sentence with the figures. Strengths combine as independent
doubts: 1 - product of (1 - strength).

Codes: impossible-travel, login-failures, credential-stuffing, takeover, new-device, concurrent-streams, account-sharing, bulk-export, bot-rate,
bot-pace, bot-hours, unusual-hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from models.travel import Move, impossible
from rules.behaviour import Behaviour, Plans, strength_at
from schemas.records import Event
from tables.profile import AUTOMATIC, Observation, Profile, SignIn, active_streams
from tables.streams import Stream
from tables.windows import ACTS, DOWNLOADS, EXPORTS, LOGIN_FAILURES, W1H, W1M, W24H

CHANGES: Final = frozenset({"ACCOUNT_CHANGE"})
MONEY: Final = frozenset({"PURCHASE", "PAYMENT"})
DATA: Final = frozenset({"EXPORT", "BULK_DOWNLOAD", "DATA_ACCESS", "DATA_DELETION"})
NAMED_SESSIONS: Final = 4
"""Conflicting sessions that a sentence names."""


class Signal(NamedTuple):
    """A doubt about an event: documented code, strength in [0, 1], one sentence with the figures."""

    code: str
    strength: float
    detail: str


def combine(strengths: Iterable[float]) -> float:
    """Independent doubts together, in [0, 1]."""
    left = 1.0
    for strength in strengths:
        left *= 1.0 - strength
    return 1.0 - left


def detect(profile: Profile, seen: Observation, event: Event, move: Move, rules: Behaviour, plans: Plans) -> list[Signal]:
    """The signals of an event that `profile` has just taken up as `seen`. About 5 µs where nothing is wrong."""
    found: list[Signal] = []
    settled = seen.age_s >= rules.history.min_age_s and profile.events > rules.history.min_events
    if move.speed_kmh > rules.travel.max_speed_kmh:
        found.extend(_travel(seen, move, rules))
    if event.event_type == "LOGIN_FAILED":
        found.extend(_login_failures(profile, seen, rules, settled))
    if settled and profile.sign_ins:
        found.extend(_takeover(profile, seen, event, rules))
    if len(profile.streams) > 1:
        found.extend(_streams(profile, seen, event, rules, plans))
    found.extend(_exports(profile, event, rules))
    if event.event_type not in AUTOMATIC:
        found.extend(_bot(profile, rules))
        if 0.0 <= seen.hour_share < rules.hours.max_share:
            detail = f"{100 * seen.hour_share:.1f} % of the user's past acts fall within an hour of {seen.hour:02d}:00 UTC."
            found.append(Signal("unusual-hour", rules.hours.strength, detail))
    return found


def _travel(seen: Observation, move: Move, rules: Behaviour) -> Iterator[Signal]:
    strength = impossible(move, seen, rules.travel)
    if strength and seen.origin is not None:
        whose = "This device" if seen.device == seen.origin.device else "The account, now with an unknown device,"
        yield Signal(
            "impossible-travel",
            strength,
            f"{whose} went from {seen.origin.place} to {seen.place}, at least {move.distance_km:,.0f} km, "
            f"in {move.elapsed_s / 60:,.0f} min: {move.speed_kmh:,.0f} km/h.",
        )


def _login_failures(profile: Profile, seen: Observation, rules: Behaviour, settled: bool) -> Iterator[Signal]:
    failures = profile.counts.totals[W1H][LOGIN_FAILURES]
    familiar = seen.device_known or seen.network_known
    ladder = rules.login_failures.familiar if familiar else rules.login_failures.unfamiliar
    strength = strength_at(ladder, failures)
    if strength:
        source = "a familiar" if familiar else "an unfamiliar"
        yield Signal("login-failures", strength, f"{failures} failed logins within an hour, the last from {source} source.")
    if settled and not seen.device_known and not seen.network_known:
        doubts = [rules.stuffing.strength]
        if failures > 1:
            doubts.append(rules.stuffing.again_strength)
        if not seen.country_known:
            doubts.append(rules.stuffing.country_strength)
        country = "in a new country " if not seen.country_known else ""
        detail = f"Failed login number {failures} of the hour comes from an unknown device {country}on an unknown network."
        yield Signal("credential-stuffing", combine(doubts), detail)


def doubt_of(sign_in: SignIn, rules: Behaviour) -> float:
    """How doubtful the first use of a device was, in [0, 1], whatever was done with it.

    Failed logins speak against it only on a network of its own: at home it is the owner who mistyped.
    """
    takeover = rules.takeover
    doubts = [takeover.device_strength]
    if sign_in.new_network:
        doubts.append(takeover.network_strength)
        if sign_in.failures >= takeover.min_failures:
            doubts.append(takeover.failures_strength)
    if sign_in.new_country:
        doubts.append(takeover.country_strength)
    return combine(doubts)


def _takeover(profile: Profile, seen: Observation, event: Event, rules: Behaviour) -> Iterator[Signal]:
    takeover = rules.takeover
    kind = event.event_type
    for sign_in in profile.sign_ins:
        since_s = profile.counts.clock_s - sign_in.at_s
        if sign_in.device != seen.device or since_s > takeover.window_s:
            continue
        strength = doubt_of(sign_in, rules)
        acts = 0.0
        for kinds, more in ((CHANGES, takeover.change), (MONEY, takeover.money), (DATA, takeover.data)):
            if kind in kinds:
                acts = more if sign_in.new_network else more * takeover.home_share
        if acts:
            strength = combine((strength, acts))
        elif since_s > takeover.sign_in_s:
            strength *= takeover.quiet_share
        news = ["device"] + ["network"] * sign_in.new_network + ["country"] * sign_in.new_country
        failed = f" after {sign_in.failures} failed logins" if sign_in.failures else ""
        act = f", and now {kind}" if acts else ""
        detail = f"New {' and '.join(news)} {since_s / 3600:.1f} h ago{failed}{act}."
        yield Signal("takeover" if sign_in.new_network else "new-device", strength, detail)


def overlapping(streams: list[Stream]) -> list[Stream]:
    """The streams that gave a sign of life after the latest of them began: a stream that was merely left behind does not."""
    if not streams:
        return []
    begun_s = max(stream.started_s for stream in streams)
    return [stream for stream in streams if stream.beat_s >= begun_s]


def _streams(profile: Profile, seen: Observation, event: Event, rules: Behaviour, plans: Plans) -> Iterator[Signal]:
    limit = plans.limit(event.subscription_plan)
    if len(profile.streams) <= limit:
        return
    streams = overlapping(active_streams(profile))
    if len(streams) <= limit or all(stream.device != seen.device for stream in streams):
        return
    networks = len({stream.network for stream in streams})
    strength = rules.streams.strength if networks > 1 else rules.streams.one_network_strength
    strength = combine([strength] + [rules.streams.more_strength] * (len(streams) - limit - 1))
    named = ", ".join(stream.session or "without id" for stream in streams[-NAMED_SESSIONS:])
    plan = event.subscription_plan or "unknown"
    detail = f"{len(streams)} streams at once on {networks} network(s), plan {plan} allows {limit}; conflicting sessions: {named}."
    yield Signal("account-sharing" if networks > 1 else "concurrent-streams", strength, detail)


def _exports(profile: Profile, event: Event, rules: Behaviour) -> Iterator[Signal]:
    hour, day = profile.counts.totals[W1H], profile.counts.totals[W24H]
    if event.event_type in ("EXPORT", "BULK_DOWNLOAD"):
        kind, name, ladders = EXPORTS, "exports", (rules.exports.exports_1h, rules.exports.exports_24h)
    elif event.event_type == "DOWNLOAD":
        kind, name, ladders = DOWNLOADS, "downloads", (rules.exports.downloads_1h, rules.exports.downloads_24h)
    else:
        return
    strength = max(strength_at(ladders[0], hour[kind]), strength_at(ladders[1], day[kind]))
    if strength:
        yield Signal("bulk-export", strength, f"{hour[kind]} {name} within an hour, {day[kind]} within a day.")


def _bot(profile: Profile, rules: Behaviour) -> Iterator[Signal]:
    bot = rules.bot
    minute, hour = profile.counts.totals[W1M][ACTS], profile.counts.totals[W1H][ACTS]
    strength = max(strength_at(bot.acts_1m, minute), strength_at(bot.acts_1h, hour))
    if strength:
        yield Signal("bot-rate", strength, f"{minute} acts within a minute, {hour} within an hour.")
    run = profile.run
    if run.count >= bot.intervals[0][0] and run.mean_ms <= 1000 * bot.max_interval_s:
        variation = run.variation()
        if variation <= bot.max_variation:
            detail = f"{run.count} acts every {run.mean_ms / 1000:.1f} s with a variation of {100 * variation:.0f} %."
            yield Signal("bot-pace", strength_at(bot.intervals, run.count), detail)
    rows = profile.counts.levels[3]
    if len(rows) >= bot.hours[0][0]:
        busy = sum(row[ACTS + 1] >= bot.hour_acts for row in rows)
        strength = strength_at(bot.hours, busy)
        if strength:
            yield Signal("bot-hours", strength, f"Active in {busy} of the last 24 hours.")
