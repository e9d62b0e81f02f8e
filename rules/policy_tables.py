"""The tables of docs/decisions.md, written from the policy, so that the page cannot say anything else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rules.policy import ENTITY_KINDS, Policy

BEGIN: Final = "<!-- policy tables: generated -->"
END: Final = "<!-- end of policy tables -->"


def with_policy_tables(page: str, policy: Policy) -> str:
    """The page with the text between its marks replaced by the policy's tables.

    Raises:
        ValueError: the page lacks the marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{policy_tables(policy)}\n{END}{after}"


def policy_tables(policy: Policy) -> str:
    """Thresholds, severities, links, rings and actions as Markdown tables."""
    decision, sharing, rings = policy.decision, policy.sharing, policy.rings
    witnesses, attack = decision.witnesses, sharing.attack
    parts = [
        f"Policy version `{policy.version}`.",
        "### Thresholds",
        _table(
            ("segment", "flagged from", "blocked from"),
            ((segment, *(f"{one:.2f}" for one in decision.thresholds(segment))) for segment in sorted(decision.segment_shift)),
        ),
        f"No segment moves a threshold out of {decision.min_threshold:.2f} … {decision.max_threshold:.2f}. A block also needs a behaviour of "
        f"{decision.block_min_score:.2f} or more and {decision.block_min_witnesses} strong witnesses:",
        _table(
            ("witness", "strong from"),
            (
                ("deterministic signals (`score.members.rules`)", f"{witnesses.rules_at:.2f}"),
                ("second highest of the learned detectors", f"{witnesses.detectors_at:.2f}"),
                ("the ring's risk", f"{witnesses.ring_at:.2f}"),
            ),
        ),
        "### Breaches and severities",
        _table(("breach", "adds a risk of"), ((severity, f"{risk:.2f}") for severity, risk in decision.breach_risk.items())),
        _table(("severity", "from a final risk of"), ((severity, f"{at:.2f}") for severity, at in policy.severity.items())),
        f"An alert is raised from {policy.alerts.min_severity} on; repeats of a cause within {_span(policy.alerts.bucket_s)} share its id.",
        "### Links and rings",
        _table(
            ("kind", "counts from", "weight", "falls beyond", "users remembered"),
            (
                (kind, f"{one.min_users} users", f"{one.weight:.2f}", f"{one.free_users} users", str(one.max_users))
                for kind, one in ((kind, sharing.kinds[kind]) for kind in ENTITY_KINDS)
            ),
        ),
        f"A link holds for {_span(sharing.window_s)}, connects from a weight of {rings.min_link_weight:.2f} and is proof from "
        f"{rings.strong_weight:.2f}. A ring has {rings.min_users} … {rings.max_users} users. An attack is {attack.min_failed_users} accounts or more whose "
        f"log-ins fail at one {' or '.join(attack.kinds)} within {_span(attack.window_s)} and who make up {attack.min_failed_share:.0%} of its users.",
        "### Actions",
        _table(
            ("action", "for", "outcomes", "from severity", "reasons", "further conditions", "holds"),
            (
                (
                    rule.kind,
                    rule.target,
                    ", ".join(rule.outcomes),
                    rule.min_severity,
                    ", ".join(f"`{one}`" for one in rule.reasons) or "any",
                    "; ".join(
                        _conditions(rule.min_contribution, rule.min_ring_risk, rule.min_ring_size, rule.needs_attack, rule.spare_shared)
                    )
                    or "none",
                    _span(rule.hold_s),
                )
                for rule in policy.actions
            ),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _conditions(contribution: float, ring_risk: float, ring_size: int, needs_attack: bool, spare_shared: bool) -> Iterable[str]:
    if contribution:
        yield f"the reason carries {contribution:.2f}"
    if ring_risk:
        yield f"ring risk {ring_risk:.2f}"
    if ring_size:
        yield f"ring of {ring_size} users"
    if needs_attack:
        yield "an attack was found there"
    if spare_shared:
        yield "not what ties a ring"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _span(seconds: int) -> str:
    """A time span in the largest unit that gives a whole number."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds % size == 0 and seconds > size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
