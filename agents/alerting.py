"""Alerting: the one decision about an event, with its reasons, and what follows from it: violations, alerts and actions.

The formula, the thresholds and every reason code of this stage are in docs/decisions.md. In short: the risks of behaviour, ring
and law combine by noisy-or; a breach of a law is always flagged; a block needs bad behaviour of the account itself and two
independent witnesses. Every part is monotone: worse input never gives a milder outcome.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import log1p
from typing import Any, Final, NamedTuple

from agents.step import Emit, Outputs
from rules.policy import OUTCOME_RANK, SEVERITY_RANK, ActionRule, DecisionPolicy, Policy, default_policy
from schemas.codec import Case
from schemas.records import Action, Alert, Compliance, Event, Network, Outcome, Reason, Score, Severity, Verdict, Violation
from schemas.topics import ACTIONS, ALERTS, VIOLATIONS
from tables.entities import stable_id

SECOND_MS: Final = 1000
RING_CODE: Final = "fraud-ring"
ATTACK_CODE: Final = "credential-stuffing-campaign"
LAW_CODE: Final = "law-"
CERTAIN: Final = 0.9999
"""Highest risk: nothing is certain, and the logarithm of what is left must be finite."""
DETAIL_REASONS: Final = 3
"""How many reasons an alert's text gives."""

_FLOAT: Final = struct.Struct("<f")


class Combined(NamedTuple):
    """The final risk, what it was before a breach raised it, and how much each source carries; shares sum to 1 where there is risk."""

    risk: float
    unraised: float
    score_share: float
    ring_share: float
    law_share: float


def decide_events(
    batch: Sequence[Case], state: Mapping[str, Any], now_ms: int, *, memory: Any = None, policy: Policy | None = None
) -> Outputs[Any]:
    """Adds the verdict to each case and tells what follows from it.

    Args:
        batch: linked events, each with compliance, score and network.
        state: not used: ids are stable, so that a repeat tells the same again.
        now_ms: processing time (Unix ms), stamped on the records.
        memory: not used.
        policy: thresholds and rules; None: the policy that ships.

    Returns:
        The cases with `verdict`; violations, alerts and actions for their topics, all keyed by user_id.
    """
    policy = policy or default_policy()
    outputs: Outputs[Any] = Outputs()
    for case in batch:
        event, compliance, score, network = case.event, case.compliance, case.score, case.network
        if compliance is None or score is None or network is None:
            raise TypeError(f"a linked event lacks a piece: {event.event_id}")
        verdict = judge(compliance, score, network, now_ms, policy)
        outputs.cases.append(Case(event, compliance, score, network, verdict, case.parts))
        if compliance.breaches:
            outputs.emits += _violations(event, compliance, now_ms)
        if verdict.outcome != "ALLOW":
            alert = _alert(event, verdict, now_ms, policy)
            if alert is not None:
                outputs.emits.append(Emit(ALERTS.name, event.user_id, alert))
            outputs.emits += _actions(event, network, verdict, now_ms, policy)
    return outputs


def judge(compliance: Compliance, score: Score, network: Network, now_ms: int, policy: Policy) -> Verdict:
    """Decides about one event from what the stages found; the same input gives the same verdict."""
    decision = policy.decision
    caution_at, block_at = decision.thresholds(score.segment)
    behaviour, ring_risk = as_written(score.risk), as_written(network.ring_risk)
    worst: Severity = "LOW"
    if network.ring_id is None and not compliance.breaches:
        risk = unraised = blamed = min(behaviour, CERTAIN)  # most events: nothing to combine
        reasons = score.reasons
    else:
        ring, breach_risk, floor = ring_risk * decision.ring_share, 0.0, 0.0
        if compliance.breaches:
            worst = max((breach.severity for breach in compliance.breaches), key=SEVERITY_RANK.__getitem__)
            breach_risk, floor = decision.breach_risk.get(worst, 0.0), caution_at
        combined = combine(behaviour, ring, breach_risk, floor)
        risk, unraised, reasons = combined.risk, combined.unraised, _reasons(compliance, score, network, combined, policy)
        # The law's part counts for the flag, not for the block: a missing consent is the platform's doing, not the viewer's.
        blamed = combine(behaviour, ring, 0.0, 0.0).risk
    outcome: Outcome = "ALLOW"
    severity: Severity = "LOW"
    if risk >= caution_at:
        strong = behaviour >= decision.block_min_score and witnesses(score, ring_risk, decision) >= decision.block_min_witnesses
        outcome = "BLOCK" if strong and blamed >= block_at else "ALLOW_WITH_CAUTION"
        severity = max(severity_of(unraised, policy), worst, key=SEVERITY_RANK.__getitem__)
    return Verdict(
        outcome=outcome,
        risk=risk,
        threshold=caution_at,
        severity=severity,
        reasons=reasons,
        policy_version=policy.version,
        decided_at=now_ms,
    )


def combine(behaviour: float, ring: float, breach: float, floor: float) -> Combined:
    """Noisy-or of three risks in [0, 1], raised to `floor` by the breach; each source's share by its part of the log-odds.

    risk = max(floor, 1 - (1 - behaviour)(1 - ring)(1 - breach)). The three are held to be independent causes (Pearl,
    "Probabilistic Reasoning in Intelligent Systems", 1988, section 4.3.2); monotone in each.
    """
    behaviour, ring, breach = (min(max(one, 0.0), CERTAIN) for one in (behaviour, ring, breach))
    # The largest part bounds the whole from below: rounding must not make a risk smaller by adding to it.
    unraised = min(max(1.0 - (1.0 - behaviour) * (1.0 - ring) * (1.0 - breach), behaviour, ring, breach), CERTAIN)
    risk = min(max(unraised, floor), CERTAIN)
    if risk <= 0.0:
        return Combined(0.0, 0.0, 0.0, 0.0, 0.0)
    whole = -log1p(-risk)
    score_share = min(-log1p(-behaviour) / whole, 1.0)
    ring_share = min(-log1p(-ring) / whole, 1.0 - score_share)
    law_share = 1.0 - score_share - ring_share if breach > 0.0 or floor > 0.0 else 0.0
    return Combined(risk, unraised, score_share, ring_share, law_share)


def witnesses(score: Score, ring_risk: float, policy: DecisionPolicy) -> int:
    """How many of three independent witnesses are strong: the deterministic signals, two agreeing learned detectors, the ring."""
    levels, members = policy.witnesses, score.members
    learned = sorted(as_written(one or 0.0) for one in (members.isolation_forest, members.local_outlier_factor, members.half_space_trees))
    return (as_written(members.rules or 0.0) >= levels.rules_at) + (learned[1] >= levels.detectors_at) + (ring_risk >= levels.ring_at)


def severity_of(risk: float, policy: Policy) -> Severity:
    """Severity of a final risk in [0, 1]."""
    severity: Severity = "LOW"
    for name, at in policy.severity.items():
        if risk >= at and SEVERITY_RANK[name] > SEVERITY_RANK[severity]:
            severity = name
    return severity


def as_written(value: float) -> float:
    """The figure as the wire holds it (32-bit float): fused stages and split stages then decide the same on a threshold."""
    found: float = _FLOAT.unpack(_FLOAT.pack(value))[0]
    return round(found, 6)


def _reasons(compliance: Compliance, score: Score, network: Network, combined: Combined, policy: Policy) -> tuple[Reason, ...]:
    """All reasons of the final risk, strongest first; each carries its source's share."""
    found = [
        Reason(code=reason.code, contribution=round(as_written(reason.contribution) * combined.score_share, 4), detail=reason.detail)
        for reason in score.reasons
    ]
    if network.ring_id is not None:
        found.append(_ring_reason(network, combined.ring_share, policy))
    if compliance.breaches:
        weights = [policy.decision.breach_risk.get(breach.severity, 0.0) or 0.01 for breach in compliance.breaches]
        found += [
            Reason(
                code=f"{LAW_CODE}{breach.law}-{breach.rule}",
                contribution=round(combined.law_share * weight / sum(weights), 4),
                detail=f"{breach.law} {breach.article}: {breach.facts}",
            )
            for breach, weight in zip(compliance.breaches, weights, strict=True)
        ]
    return tuple(sorted(found, key=lambda reason: (-reason.contribution, reason.code)))


def _ring_reason(network: Network, share: float, policy: Policy) -> Reason:
    kinds = ", ".join(sorted({entity.partition(":")[0] for entity in network.evidence})) or "links"
    if is_attack(network, policy):
        detail = f"Log-ins of {network.ring_size} accounts failed from the same {kinds} within an hour."
        return Reason(code=ATTACK_CODE, contribution=round(share, 4), detail=detail)
    detail = f"The account is tied to {network.ring_size - 1} others over {len(network.evidence)} shared {kinds}; the ring's risk is {as_written(network.ring_risk):.2f}."
    return Reason(code=RING_CODE, contribution=round(share, 4), detail=detail)


def is_attack(network: Network, policy: Policy) -> bool:
    """Whether the event belongs to an attack on many accounts rather than to a ring of them."""
    return network.ring_id is not None and network.ring_id.startswith(policy.sharing.attack.ring_prefix)


def _violations(event: Event, compliance: Compliance, now_ms: int) -> list[Emit]:
    """One violation a breach; its id rests on event, law and rule."""
    return [
        Emit(
            VIOLATIONS.name,
            event.user_id,
            Violation(
                violation_id=stable_id("violation", event.tenant_id, event.event_id, breach.law, breach.rule),
                tenant_id=event.tenant_id,
                user_id=event.user_id,
                event_id=event.event_id,
                law=breach.law,
                rule=breach.rule,
                article=breach.article,
                severity=breach.severity,
                facts=breach.facts,
                region=event.region,
                event_time=event.timestamp,
                found_at=now_ms,
            ),
        )
        for breach in compliance.breaches
    ]


def _alert(event: Event, verdict: Verdict, now_ms: int, policy: Policy) -> Alert | None:
    """The alert of a flagged event, or None below the least severity. One user's repeats of a cause in a time bucket share its id."""
    if SEVERITY_RANK[verdict.severity] < SEVERITY_RANK[policy.alerts.min_severity]:
        return None
    kind = verdict.reasons[0].code if verdict.reasons else "risk"
    bucket = event.timestamp // (policy.alerts.bucket_s * SECOND_MS)
    return Alert(
        alert_id=stable_id("alert", event.tenant_id, event.user_id, kind, bucket),
        tenant_id=event.tenant_id,
        user_id=event.user_id,
        event_id=event.event_id,
        kind=kind,
        severity=verdict.severity,
        title=f"{_sentence(kind)}: {verdict.outcome.replace('_', ' ').lower()}, risk {verdict.risk:.2f}",
        detail=" ".join(reason.detail for reason in verdict.reasons[:DETAIL_REASONS]),
        event_time=event.timestamp,
        raised_at=now_ms,
    )


def _sentence(code: str) -> str:
    words = code.removeprefix(LAW_CODE).replace("-", " ")
    return words[:1].upper() + words[1:]


def _actions(event: Event, network: Network, verdict: Verdict, now_ms: int, policy: Policy) -> list[Emit]:
    """What the policy asks for. One target's repeats of an action while it holds share its id."""
    found = []
    for rule in policy.actions:
        if verdict.outcome not in rule.outcomes or SEVERITY_RANK[verdict.severity] < SEVERITY_RANK[rule.min_severity]:
            continue
        reason = _named_reason(rule, verdict)
        target = _target(rule, event, network, policy) if reason is not None else None
        if reason is None or target is None:
            continue
        hold_ms = rule.hold_s * SECOND_MS
        owner = event.user_id if rule.target in ("session", "user") else ""
        found.append(
            Emit(
                ACTIONS.name,
                event.user_id,
                Action(
                    action_id=stable_id("action", event.tenant_id, owner, rule.kind, target, event.timestamp // hold_ms),
                    tenant_id=event.tenant_id,
                    user_id=event.user_id,
                    event_id=event.event_id,
                    kind=rule.kind,
                    target=target,
                    reason=reason,
                    expires_at=event.timestamp + hold_ms,
                    requested_at=now_ms,
                ),
            )
        )
    return found


def _named_reason(rule: ActionRule, verdict: Verdict) -> str | None:
    """Code of the strongest reason that the rule asks for; for a rule that asks for none, of the strongest of all."""
    if not rule.reasons:
        return verdict.reasons[0].code if verdict.reasons else "risk"
    for reason in verdict.reasons:
        if as_written(reason.contribution) >= rule.min_contribution and rule.names(reason.code):
            return reason.code
    return None


def _target(rule: ActionRule, event: Event, network: Network, policy: Policy) -> str | None:
    """What the action is for, or None where the rule's conditions on the network do not hold."""
    attack = is_attack(network, policy)
    if rule.target == "ring":
        if (
            network.ring_id is None
            or attack
            or network.ring_size < rule.min_ring_size
            or as_written(network.ring_risk) < rule.min_ring_risk
        ):
            return None
        return network.ring_id
    if rule.target == "ip":
        address = next((entity for entity in network.links if entity.startswith("ip:")), None)
        if address is None or (rule.needs_attack and not (attack and address in network.evidence)):
            return None
        if rule.spare_shared and not attack and address in network.evidence:
            return None
        return address.removeprefix("ip:")
    if rule.target == "session":
        return event.session_id or event.device_id
    return event.user_id


__all__ = [
    "ATTACK_CODE",
    "LAW_CODE",
    "OUTCOME_RANK",
    "RING_CODE",
    "Combined",
    "combine",
    "decide_events",
    "judge",
    "severity_of",
    "witnesses",
]
