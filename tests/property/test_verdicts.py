"""A verdict is monotone: worse input never gives a milder one; and every figure keeps its range."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from rules.policy import OUTCOME_RANK, SEVERITY_RANK, default_policy
from rules.verdict import combine, judge
from schemas.records import Breach, Compliance, Members, Network, Reason, Score, Severity, Verdict

POLICY = default_policy()
SEVERITIES: tuple[Severity | None, ...] = (None, "UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL")
share = st.floats(0.0, 1.0)
segments = st.sampled_from([*POLICY.decision.segment_shift, "unheard-of"])


def verdict_of(segment: str, risk: float, member: float, ring_risk: float, breach: int) -> Verdict:
    severity = SEVERITIES[breach]
    breaches = () if severity is None else (Breach(law="GDPR", rule="r", article="a", severity=severity, facts="f"),)
    score = Score(
        risk=risk,
        members=Members(isolation_forest=member, local_outlier_factor=member, rules=member),
        reasons=(Reason(code="odd", contribution=0.8, detail="."), Reason(code="odder", contribution=0.2, detail=".")),
        segment=segment,
        model_version="1",
        features=(),
        feature_version="1",
        scored_at=0,
    )
    network = Network(
        links=(), ring_id="ring-a" if ring_risk else None, ring_size=5, ring_risk=ring_risk, evidence=("device:d",), linked_at=0
    )
    compliance = Compliance(laws=(), purpose="service", consent="GRANTED", breaches=breaches, rules_version="1", checked_at=0)
    return judge(compliance, score, network, 0, POLICY)


@settings(max_examples=400, deadline=None)
@given(segments, st.tuples(share, share), st.tuples(share, share), st.tuples(share, share), st.tuples(st.integers(0, 5), st.integers(0, 5)))
def test_worse_input_never_gives_a_milder_verdict(
    segment: str, risk: tuple[float, float], member: tuple[float, float], ring: tuple[float, float], breach: tuple[int, int]
) -> None:
    mild = verdict_of(segment, min(risk), min(member), min(ring), min(breach))
    bad = verdict_of(segment, max(risk), max(member), max(ring), max(breach))
    assert bad.risk >= mild.risk
    assert OUTCOME_RANK[bad.outcome] >= OUTCOME_RANK[mild.outcome]
    assert SEVERITY_RANK[bad.severity] >= SEVERITY_RANK[mild.severity]


@settings(max_examples=200, deadline=None)
@given(segments, share, share, share, st.integers(0, 5))
def test_every_figure_keeps_its_range(segment: str, risk: float, member: float, ring: float, breach: int) -> None:
    verdict = verdict_of(segment, risk, member, ring, breach)
    assert 0.0 <= verdict.risk <= 1.0
    assert (verdict.outcome == "ALLOW") == (verdict.risk < verdict.threshold)
    assert breach == 0 or verdict.outcome != "ALLOW"
    assert all(0.0 <= reason.contribution <= 1.0 for reason in verdict.reasons)
    assert sum(reason.contribution for reason in verdict.reasons) <= 1.01


@given(share, share, share, share)
def test_shares_are_shares(behaviour: float, ring: float, breach: float, floor: float) -> None:
    found = combine(behaviour, ring, breach, floor)
    shares = (found.score_share, found.ring_share, found.law_share)
    assert all(-1e-9 <= one <= 1.0 + 1e-9 for one in shares)
    assert sum(shares) <= 1.0 + 1e-9


def on_wire(value: float) -> float:
    """What a 32-bit float of the schemas keeps of a figure."""
    found: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return found


@settings(max_examples=200, deadline=None)
@given(segments, share, share, st.floats(0.001, 1.0), st.integers(0, 5))
def test_a_decision_is_the_same_with_the_wire_between_the_stages(
    segment: str, risk: float, member: float, ring: float, breach: int
) -> None:
    assert verdict_of(segment, risk, member, ring, breach) == verdict_of(segment, on_wire(risk), on_wire(member), on_wire(ring), breach)
