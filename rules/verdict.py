"""The verdict on one event: a pure function of what compliance, scoring and linking found, and of the policy.

The formula, the thresholds and the reason codes are in docs/decisions.md. In short: the risks of behaviour, ring and law combine
by noisy-or; a breach of a law is always flagged; a block needs bad behaviour of the account itself and independent witnesses.
Every part is monotone: worse input never gives a milder outcome.
"""

from __future__ import annotations

import struct
from math import log1p
from typing import Final, NamedTuple

from rules.policy import SEVERITY_RANK, DecisionPolicy, Policy
from schemas.records import Compliance, Network, Outcome, Reason, Score, Severity, Verdict

RING_CODE: Final = "fraud-ring"
ATTACK_CODE: Final = "credential-stuffing-campaign"
LAW_CODE: Final = "law-"
CERTAIN: Final = 0.9999
"""Highest risk: nothing is certain, and the logarithm of what is left must be finite."""

_FLOAT: Final = struct.Struct("<f")


class Combined(NamedTuple):
    """The final risk, what it was before a breach raised it, and how much each source carries; shares sum to 1 where there is risk."""

    risk: float
    unraised: float
    score_share: float
    ring_share: float
    law_share: float


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
