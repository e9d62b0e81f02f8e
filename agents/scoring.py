"""Scoring: how much an event looks like fraud or abuse, and why.

Signals that need no learning and an ensemble that learns from the stream come together as independent doubts. The ensemble alone
stays below the default threshold: to be unusual is not an offence, but it makes a doubt stronger.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from agents.step import Outputs, user_key
from models.ensemble import Ensemble, Scored
from models.segments import Segment, segment_of
from models.signals import Signal, combine, detect
from models.travel import move_of
from rules.behaviour import behaviour, plans, segments
from schemas.codec import Case
from schemas.records import Feedback, Members, Reason, Score
from tables.features import FEATURE_VERSION, FEATURES, extract
from tables.profile import ALARM_CAP, Profile, observe
from tables.seen import count_once

ANOMALY_WEIGHT: Final = 0.45
"""Doubt that an anomaly of 1.0 stands for by itself; beside signals it counts less, for it partly repeats what they say."""

MAX_REASONS: Final = 8
TRUSTED_BELOW: Final = 0.4
"""Events with stronger signals are not learned as ordinary."""

_SINGLE: Final = struct.Struct("<f")


def new_memory() -> Ensemble:
    """The memory of one partition, with nothing learned yet."""
    return Ensemble(len(FEATURES), feature_version=FEATURE_VERSION)


class _Counted(NamedTuple):
    """An event after the pass over the keyed state."""

    case: Case
    row: list[float]
    signals: list[Signal]
    rules: float
    segment: Segment


def score_events(batch: Sequence[Case], state: Mapping[str, Profile], now_ms: int, *, memory: Ensemble) -> Outputs[Profile]:
    """Adds a `Score` to every event, takes it up in its user's profile (key: `user_key`), then learns from it.

    Args:
        batch: checked events in log order.
        state: profiles by key; a missing user has none.
        now_ms: stamped as `scored_at`, decides nothing.
        memory: the partition's ensemble; changed.

    Returns:
        Cases in input order, changed profiles, and how many events had been counted before (they are left out).
    """
    out: Outputs[Profile] = Outputs()
    counted: list[_Counted] = []
    profiles: dict[str, Profile] = {}
    for case in batch:
        key = user_key(case.event.tenant_id, case.event.user_id)
        profile = profiles.get(key)
        if profile is None:
            profile = profiles[key] = state.get(key) or Profile()
        if not count_once(profile.seen, case.event.origin):
            out.repeats += 1
            continue
        out.changes[key] = profile
        counted.append(_count(case, profile))
    if not counted:
        return out
    rows = np.array([one.row for one in counted], dtype=np.float32)
    scored = memory.score_then_learn(rows, [one.rules < TRUSTED_BELOW for one in counted])
    features = rows.tolist()
    members = scored.members.astype(np.float32).tolist()
    for position, one in enumerate(counted):
        score = _score(one, position, features[position], members[position], scored, now_ms, memory.version)
        memory.metrics.note(_event_key(one.case.event.tenant_id, one.case.event.event_id), _calls(score))
        out.cases.append(Case(one.case.event, one.case.compliance, score, parts=one.case.parts[:2]))
    return out


def _count(case: Case, profile: Profile) -> _Counted:
    """Takes the event up in its profile; features and signals describe the user with it."""
    rules = behaviour()
    event = case.event
    seen = observe(profile, event)
    move = move_of(seen, event.timestamp, rules.travel)
    signals = detect(profile, seen, event, move, rules, plans())
    strength = combine([one.strength for one in signals]) if signals else 0.0
    if strength >= rules.alarm.strength:
        profile.alarms_s.append(profile.counts.clock_s)
        del profile.alarms_s[:-ALARM_CAP]
    return _Counted(case, extract(profile, seen, move.speed_kmh), signals, strength, segment_of(profile, segments()))


def _single(value: float) -> float:
    """The value as the log holds it (32 bits): a fused worker and a chain of workers see the same."""
    return float(_SINGLE.unpack(_SINGLE.pack(value))[0])


def _score(one: _Counted, position: int, features: list[float], members: list[float], scored: Scored, now_ms: int, version: str) -> Score:
    fits = int(scored.fits[position])
    anomaly = float(scored.anomaly[position])
    unusual = ANOMALY_WEIGHT * anomaly * (1.0 - one.rules)
    doubts = [(signal.code, signal.strength, signal.detail) for signal in one.signals]
    for feature, share in scored.causes.get(position, ()):
        entry = FEATURES[feature]
        doubt = 1.0 - (1.0 - unusual) ** share
        value = features[feature]
        detail = f"{entry.name} is {value:.4g} {entry.unit}, unlike other events; it makes up {100 * share:.0f} % of an anomaly of {anomaly:.2f}."
        doubts.append((f"unusual-{entry.name.replace('_', '-')}", doubt, detail))
    risk = combine((one.rules, unusual))
    learned = members if fits else (None, None, None)
    return Score(
        risk=_single(risk),
        members=Members(
            isolation_forest=learned[0], local_outlier_factor=learned[1], half_space_trees=learned[2], rules=_single(one.rules)
        ),
        reasons=_reasons(doubts, risk) if doubts else (),
        segment=one.segment,
        model_version=f"{version}-{fits}",
        features=tuple(features),
        feature_version=FEATURE_VERSION,
        scored_at=now_ms,
    )


def _reasons(doubts: list[tuple[str, float, str]], risk: float) -> tuple[Reason, ...]:
    """Doubts as reasons, strongest first. Logarithms of what each leaves add up, so each has its share of the risk."""
    weights = [-float(np.log1p(-min(strength, 0.999))) for _, strength, _ in doubts]
    total = max(sum(weights), -float(np.log1p(-min(risk, 0.999))), 1e-9)
    ranked = sorted(zip(weights, doubts, strict=True), key=lambda one: (-one[0], one[1][0]))
    return tuple(
        Reason(code=code, contribution=_single(risk * weight / total), detail=detail)
        for weight, (code, _, detail) in ranked[:MAX_REASONS]
        if weight > 0.0
    )


def _event_key(tenant_id: str, event_id: str) -> str:
    return f"{tenant_id}\x1f{event_id}"


def _calls(score: Score) -> tuple[float | None, ...]:
    """Scores in the order of `models.metrics.JUDGES`."""
    members = score.members
    return (members.isolation_forest, members.local_outlier_factor, members.half_space_trees, members.rules, score.risk)


def learn_feedback(batch: Sequence[Feedback], state: Mapping[str, Profile], now_ms: int, *, memory: Ensemble) -> Outputs[Profile]:
    """Counts people's verdicts for the members' metrics; an acquitted user's alarms are forgotten.

    A verdict on an event counts once (`Metrics.judge`), whoever repeats it. `now_ms` decides nothing.
    """
    out: Outputs[Profile] = Outputs()
    profiles: dict[str, Profile | None] = {}
    for feedback in batch:
        memory.metrics.judge(_event_key(feedback.tenant_id, feedback.event_id), feedback.label)
        if feedback.label != "false_positive":
            continue
        key = user_key(feedback.tenant_id, feedback.user_id)
        if key not in profiles:
            profiles[key] = state.get(key)
        profile = profiles[key]
        if profile is not None and profile.alarms_s:
            profile.alarms_s = []
            out.changes[key] = profile
    return out
