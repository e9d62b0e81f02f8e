"""Alerting: the one decision about an event (`rules.verdict`), and what follows from it: violations, alerts and actions.

Ids rest on the cause and not on the moment, so that a repeat, or a further event of the same cause, tells the same again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agents.step import Emit, Outputs
from rules.policy import SEVERITY_RANK, ActionRule, Policy, default_policy
from rules.verdict import LAW_CODE, as_written, is_attack, judge
from schemas.codec import Case
from schemas.records import Action, Alert, Compliance, Event, Network, Verdict, Violation
from schemas.topics import ACTIONS, ALERTS, VIOLATIONS
from tables.entities import stable_id

SECOND_MS: Final = 1000
DETAIL_REASONS: Final = 3
"""How many reasons an alert's text gives."""
NO_REASON: Final = "risk"
"""Code of a cause where scoring gave a risk and no reason."""


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
    kind = verdict.reasons[0].code if verdict.reasons else NO_REASON
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
        return verdict.reasons[0].code if verdict.reasons else NO_REASON
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
