"""Alerting: hand-written cases with the verdict a fair person would give, and what follows from each."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import pytest

from agents.alerting import decide_events
from rules.policy import default_policy, read_policy
from rules.verdict import combine, judge, witnesses
from schemas.codec import Case
from schemas.records import (
    Action,
    Alert,
    Breach,
    Compliance,
    Event,
    Members,
    Network,
    Origin,
    Outcome,
    Reason,
    Score,
    Severity,
    Verdict,
    Violation,
)
from schemas.topics import ACTIONS, ALERTS, VIOLATIONS

NOW_MS = 1_800_000_000_000
AT_MS = 1_799_999_000_000
HOUR_MS = 3_600_000
POLICY = default_policy()

NO_CONSENT = Breach(law="GDPR", rule="consent-missing", article="Art 6(1)(a)", severity="HIGH", facts="No consent for analytics.")
MINOR = Breach(law="CCPA", rule="notice-late", article="§1798.100", severity="LOW", facts="The notice was late.")
GRAVE = Breach(law="PIPL", rule="export-forbidden", article="Art 38", severity="CRITICAL", facts="Data left the country.")
TRAVEL = Reason(code="impossible-travel", contribution=0.7, detail="1,200 km in 10 minutes.")
ODD = Reason(code="unusual-hour", contribution=0.3, detail="Never seen at this hour.")

QUIET = Members(isolation_forest=0.2, local_outlier_factor=0.1, half_space_trees=0.3, rules=0.0)
RULES_ONLY = Members(isolation_forest=0.4, local_outlier_factor=0.3, half_space_trees=0.5, rules=0.9)
ALL_AGREE = Members(isolation_forest=0.95, local_outlier_factor=0.4, half_space_trees=0.97, rules=0.9)
MODELS_ONLY = Members(isolation_forest=0.99, local_outlier_factor=0.99, half_space_trees=0.99, rules=0.0)

IN_RING = Network(
    links=("device:d1", "ip:198.51.100.7"), ring_id="ring-a", ring_size=7, ring_risk=0.75, evidence=("device:d1", "payment:p"), linked_at=0
)
IN_WEAK_RING = Network(links=("device:d1",), ring_id="ring-b", ring_size=5, ring_risk=0.3, evidence=("device:d1",), linked_at=0)
UNDER_ATTACK = Network(
    links=("device:d1", "ip:198.51.100.7"), ring_id="attack-x", ring_size=12, ring_risk=0.9, evidence=("ip:198.51.100.7",), linked_at=0
)
ALONE = Network(links=("device:d1", "ip:198.51.100.7"), linked_at=0)


def an_event(**fields: object) -> Event:
    given: dict[str, object] = {
        "event_id": "e1",
        "tenant_id": "default",
        "user_id": "u1",
        "device_id": "d1",
        "content_id": "",
        "event_type": "PLAY",
        "timestamp": AT_MS,
        "received_at": AT_MS,
        "region": "NL",
        "is_eu": True,
        "has_consent": True,
        "ip_address": "198.51.100.7",
        "session_id": "s1",
        "origin": Origin(partition=0, offset=0),
    }
    return Event(**(given | fields))  # type: ignore[arg-type]


def a_score(risk: float, members: Members = QUIET, reasons: tuple[Reason, ...] = (TRAVEL, ODD), segment: str = "normal") -> Score:
    return Score(
        risk=risk, members=members, reasons=reasons, segment=segment, model_version="1", features=(), feature_version="1", scored_at=0
    )


def lawful(*breaches: Breach) -> Compliance:
    return Compliance(laws=("GDPR",), purpose="analytics", consent="GRANTED", breaches=breaches, rules_version="1", checked_at=0)


@dataclass(frozen=True, slots=True)
class Example:
    """A case and its expected verdict; `actions` are (kind, target)."""

    name: str
    outcome: Outcome
    severity: Severity
    first_reason: str | None
    score: Score
    network: Network = ALONE
    breaches: tuple[Breach, ...] = ()
    actions: tuple[tuple[str, str], ...] = ()
    alerts: bool = True


EXAMPLES = (
    Example("nothing at all", "ALLOW", "LOW", None, a_score(0.0, reasons=()), alerts=False),
    Example("a little odd", "ALLOW", "LOW", "impossible-travel", a_score(0.3), alerts=False),
    Example("just below the bar", "ALLOW", "LOW", "impossible-travel", a_score(0.4999), alerts=False),
    Example(
        "just at the bar", "ALLOW_WITH_CAUTION", "MEDIUM", "impossible-travel", a_score(0.5), actions=(("STEP_UP", "u1"),)
    ),
    Example("the same of a power user", "ALLOW", "LOW", "impossible-travel", a_score(0.5, segment="power"), alerts=False),
    Example("less, of a suspicious user", "ALLOW_WITH_CAUTION", "LOW", "unusual-hour", a_score(0.42, reasons=(ODD,), segment="suspicious"), alerts=False),
    Example(
        "one witness does not block, however sure",
        "ALLOW_WITH_CAUTION", "CRITICAL", "impossible-travel", a_score(0.98, RULES_ONLY), actions=(("STEP_UP", "u1"),),
    ),
    Example("models alone do not block", "ALLOW_WITH_CAUTION", "CRITICAL", "unusual-hour", a_score(0.98, MODELS_ONLY, (ODD,))),
    Example("without any member's score nobody is blocked", "ALLOW_WITH_CAUTION", "CRITICAL", "unusual-hour", a_score(0.98, Members(), (ODD,))),
    Example(
        "rules and models agree",
        "BLOCK", "CRITICAL", "impossible-travel", a_score(0.95, ALL_AGREE),
        actions=(("BLOCK_SESSION", "s1"), ("STEP_UP", "u1"), ("NOTIFY_USER", "u1")),
    ),
    Example("they agree, but the risk is moderate", "ALLOW_WITH_CAUTION", "MEDIUM", "unusual-hour", a_score(0.7, ALL_AGREE, (ODD,))),
    Example("a ring's quiet member", "ALLOW_WITH_CAUTION", "MEDIUM", "fraud-ring", a_score(0.1), IN_RING),
    Example("a weak ring's quiet member", "ALLOW", "LOW", "fraud-ring", a_score(0.1), IN_WEAK_RING, alerts=False),
    Example(
        "a ring's member who misbehaves",
        "BLOCK", "CRITICAL", "fraud-ring", a_score(0.7, RULES_ONLY, (ODD,)), IN_RING,
        actions=(("BLOCK_SESSION", "s1"), ("NOTIFY_USER", "u1"), ("SUSPEND_RING", "ring-a")),
    ),
    Example(
        "a ring's member who looks odd only", "ALLOW_WITH_CAUTION", "HIGH", "fraud-ring", a_score(0.5, MODELS_ONLY, (ODD,)), IN_RING
    ),
    Example("a missing consent is flagged", "ALLOW_WITH_CAUTION", "HIGH", "law-GDPR-consent-missing", a_score(0.05, reasons=()), breaches=(NO_CONSENT,)),
    Example("a minor breach is flagged without an alert", "ALLOW_WITH_CAUTION", "LOW", "law-CCPA-notice-late", a_score(0.0, reasons=()), breaches=(MINOR,), alerts=False),
    Example("the gravest breach does not block the viewer", "ALLOW_WITH_CAUTION", "CRITICAL", "law-PIPL-export-forbidden", a_score(0.3, ALL_AGREE, (ODD,)), breaches=(GRAVE, MINOR)),
    Example(
        "a breach beside a takeover does not soften it",
        "BLOCK", "CRITICAL", "impossible-travel", a_score(0.95, ALL_AGREE), breaches=(NO_CONSENT,),
        actions=(("BLOCK_SESSION", "s1"), ("STEP_UP", "u1"), ("NOTIFY_USER", "u1")),
    ),
    Example(
        "a breach does not lift a moderate risk over the bar for blocking",
        "ALLOW_WITH_CAUTION", "CRITICAL", "law-PIPL-export-forbidden", a_score(0.8, ALL_AGREE, (ODD,)), breaches=(GRAVE,),
    ),
    Example(
        "log-ins of many accounts fail from this address",
        "ALLOW_WITH_CAUTION", "HIGH", "credential-stuffing-campaign", a_score(0.2, reasons=(ODD,)), UNDER_ATTACK,
        actions=(("STEP_UP", "u1"), ("BLOCK_IP", "198.51.100.7")),
    ),
)  # fmt: skip


def decide(case: Case) -> tuple[Verdict, list[Violation], list[Alert], list[Action]]:
    outputs = decide_events([case], {}, NOW_MS)
    assert not outputs.changes
    verdict = outputs.cases[0].verdict
    assert verdict is not None
    assert all(emit.key == case.event.user_id for emit in outputs.emits)
    records = {
        topic: [emit.record for emit in outputs.emits if emit.topic == topic] for topic in (VIOLATIONS.name, ALERTS.name, ACTIONS.name)
    }
    return verdict, *records.values()  # type: ignore[return-value]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_verdicts(example: Example) -> None:
    verdict, violations, alerts, actions = decide(Case(an_event(), lawful(*example.breaches), example.score, example.network))
    assert (verdict.outcome, verdict.severity) == (example.outcome, example.severity)
    assert (verdict.reasons[0].code if verdict.reasons else None) == example.first_reason
    assert (verdict.outcome == "ALLOW") == (verdict.risk < verdict.threshold)
    assert tuple((action.kind, action.target) for action in actions) == example.actions
    assert bool(alerts) == example.alerts
    assert [one.law for one in violations] == [one.law for one in example.breaches]
    contributions = [reason.contribution for reason in verdict.reasons]
    assert contributions == sorted(contributions, reverse=True)
    assert sum(contributions) <= 1.001
    assert (verdict.decided_at, verdict.policy_version) == (NOW_MS, POLICY.version)


def test_the_pieces_and_their_bytes_travel_on() -> None:
    case = Case(an_event(), lawful(), a_score(0.1), ALONE, parts=(b"1", b"2", b"3", b"4"))
    (decided,) = decide_events([case], {}, NOW_MS).cases
    assert decided.parts == case.parts
    assert decided.pieces()[:4] == case.pieces()


def test_a_case_that_lacks_a_piece_is_a_bug() -> None:
    with pytest.raises(TypeError, match="e1"):
        decide_events([Case(an_event(), lawful(), None, ALONE)], {}, NOW_MS)


def test_a_violation_holds_what_was_breached() -> None:
    _, (violation,), _, _ = decide(Case(an_event(), lawful(NO_CONSENT), a_score(0.0), ALONE))
    assert (violation.law, violation.rule, violation.article, violation.facts) == (
        NO_CONSENT.law,
        NO_CONSENT.rule,
        NO_CONSENT.article,
        NO_CONSENT.facts,
    )
    assert (violation.event_time, violation.found_at, violation.region) == (AT_MS, NOW_MS, "NL")


def test_ids_are_those_of_the_cause() -> None:
    def ids(network: Network = UNDER_ATTACK, **fields: object) -> tuple[list[str], list[str], dict[str, str]]:
        _, violations, alerts, actions = decide(Case(an_event(**fields), lawful(NO_CONSENT), a_score(0.6), network))
        return [one.violation_id for one in violations], [one.alert_id for one in alerts], {one.kind: one.action_id for one in actions}

    first, again = ids(), ids()
    assert first == again
    violation, alert, actions = ids(event_id="e2", timestamp=AT_MS + 60_000, origin=Origin(partition=0, offset=1))
    assert (violation != first[0], alert == first[1], actions == first[2]) == (True, True, True)
    assert ids(timestamp=AT_MS + HOUR_MS)[1] != first[1]
    assert ids(tenant_id="other")[1] != first[1]
    other_user = ids(user_id="u2")
    assert other_user[1] != first[1]
    assert other_user[2]["BLOCK_IP"] == first[2]["BLOCK_IP"], "one address is blocked once, whoever it attacked"
    assert other_user[2]["STEP_UP"] != first[2]["STEP_UP"]


def test_an_action_ends() -> None:
    _, _, _, actions = decide(Case(an_event(), lawful(), a_score(0.2, reasons=(ODD,)), UNDER_ATTACK))
    block = next(action for action in actions if action.kind == "BLOCK_IP")
    assert (block.expires_at, block.requested_at) == (AT_MS + 24 * HOUR_MS, NOW_MS)


def test_a_shared_address_is_not_blocked() -> None:
    stuffing = a_score(0.99, ALL_AGREE, (Reason(code="credential-stuffing", contribution=0.9, detail="Many failed."),))
    ring = Network(links=("ip:198.51.100.7",), ring_id="ring-a", ring_size=7, ring_risk=0.9, evidence=("ip:198.51.100.7",), linked_at=0)
    for network in (ALONE, ring, Network(links=("device:d1",), linked_at=0)):
        _, _, _, actions = decide(Case(an_event(), lawful(), stuffing, network))
        assert "BLOCK_IP" not in {action.kind for action in actions}


def test_a_policy_may_block_single_addresses_but_still_spares_shared_ones() -> None:
    text = resources.files("rules").joinpath("policy.toml").read_text("utf-8")
    bolder = read_policy(text.replace("needs_attack = true ", "needs_attack = false "))
    stuffing = a_score(0.99, ALL_AGREE, (Reason(code="credential-stuffing", contribution=0.9, detail="Many failed."),))
    ring = Network(links=("ip:198.51.100.7",), ring_id="ring-a", ring_size=7, ring_risk=0.1, evidence=("ip:198.51.100.7",), linked_at=0)
    for network, blocks in ((ALONE, True), (ring, False)):
        outputs = decide_events([Case(an_event(), lawful(), stuffing, network)], {}, NOW_MS, policy=bolder)
        assert ("BLOCK_IP" in {emit.record.kind for emit in outputs.emits if emit.topic == ACTIONS.name}) == blocks  # type: ignore[attr-defined]


def test_without_a_session_the_device_is_blocked() -> None:
    _, _, _, actions = decide(Case(an_event(session_id=None), lawful(), a_score(0.95, ALL_AGREE), ALONE))
    assert actions[0].target == "d1"


def test_the_alert_says_why() -> None:
    _, _, (alert,), _ = decide(Case(an_event(), lawful(), a_score(0.95, ALL_AGREE), ALONE))
    assert (alert.kind, alert.severity) == ("impossible-travel", "CRITICAL")
    assert alert.title == "Impossible travel: block, risk 0.95"
    assert alert.detail == "1,200 km in 10 minutes. Never seen at this hour."


def test_a_risk_without_reasons_still_has_a_name() -> None:
    _, _, (alert,), actions = decide(Case(an_event(), lawful(), a_score(0.95, ALL_AGREE, ()), ALONE))
    assert alert.kind == "risk"
    assert {action.reason for action in actions} == {"risk"}


def test_the_wires_rounding_does_not_move_a_decision() -> None:
    exact, written = 0.55, 0.550000011920929  # 0.55 as a 32-bit float
    for risk in (exact, written):
        assert judge(lawful(), a_score(risk, segment="power"), ALONE, NOW_MS, POLICY).outcome == "ALLOW_WITH_CAUTION"


@pytest.mark.parametrize(
    ("behaviour", "ring", "breach", "floor", "risk"),
    [
        (0.0, 0.0, 0.0, 0.0, 0.0),
        (0.5, 0.0, 0.0, 0.0, 0.5),
        (0.5, 0.5, 0.0, 0.0, 0.75),
        (0.5, 0.5, 0.5, 0.0, 0.875),
        (0.1, 0.0, 0.2, 0.5, 0.5),
        (1.0, 1.0, 1.0, 0.5, 0.9999),
    ],
)
def test_the_formula(behaviour: float, ring: float, breach: float, floor: float, risk: float) -> None:
    found = combine(behaviour, ring, breach, floor)
    assert found.risk == pytest.approx(risk)
    assert found.score_share + found.ring_share + found.law_share == pytest.approx(1.0 if risk else 0.0)


def test_equal_sources_carry_equal_shares() -> None:
    found = combine(0.4, 0.4, 0.4, 0.0)
    assert (found.score_share, found.ring_share, found.law_share) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


@pytest.mark.parametrize(
    ("members", "ring_risk", "count"),
    [(QUIET, 0.0, 0), (RULES_ONLY, 0.0, 1), (MODELS_ONLY, 0.0, 1), (ALL_AGREE, 0.0, 2), (ALL_AGREE, 0.5, 3), (Members(), 0.49, 0),
     (Members(isolation_forest=1.0), 0.0, 0)],
)  # fmt: skip
def test_witnesses(members: Members, ring_risk: float, count: int) -> None:
    assert witnesses(a_score(0.5, members), ring_risk, POLICY.decision) == count
