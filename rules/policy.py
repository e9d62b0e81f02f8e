"""The policy: thresholds, severities, link weights, alerts and actions, as checked data (`policy.toml`)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

from schemas.records import ACTION_KINDS, OUTCOMES, SEVERITIES, ActionKind, Outcome, Severity

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Shift = Annotated[float, Meta(ge=-0.5, le=0.5)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[int, Meta(ge=1)]
EntityKind = Literal["device", "ip", "payment", "email"]
"""Kinds of entities that can tie users together."""
Target = Literal["session", "user", "ip", "ring"]
"""What an action is for."""

ENTITY_KINDS: Final[tuple[EntityKind, ...]] = get_args(EntityKind)
SEVERITY_RANK: Final[dict[Severity, int]] = {severity: rank for rank, severity in enumerate(SEVERITIES)}
OUTCOME_RANK: Final[dict[Outcome, int]] = {outcome: rank for rank, outcome in enumerate(OUTCOMES)}


class _Checked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the policy file: unknown settings are refused, so that a misspelt one is not silently the default."""


class LinkingPolicy(_Checked, frozen=True, kw_only=True):
    """When a user's entities are reported to the ring analysis."""

    report_every_s: Seconds
    report_failed_every_s: Seconds
    max_reported: Annotated[int, Meta(ge=8)]
    ignored_values: frozenset[str]


class KindPolicy(_Checked, frozen=True, kw_only=True):
    """What a link of one kind is worth; see `weight_of`."""

    min_users: Annotated[int, Meta(ge=2)]
    weight: Share
    free_users: Annotated[int, Meta(ge=2)]
    max_users: Annotated[int, Meta(ge=2, le=1_000)]

    def weight_of(self, count: int) -> float:
        """Strength in [0, 1] of an entity that `count` users share: 0 below `min_users`, then `weight`, beyond `free_users` falling
        with the square of the count. An address of many users is a NAT, a campus or a carrier and says nothing about any two of them."""
        if count < self.min_users:
            return 0.0
        share = min(1.0, self.free_users / count)
        return round(self.weight * share * share, 4)


class AttackPolicy(_Checked, frozen=True, kw_only=True):
    """When failed log-ins of many accounts at one entity are an attack."""

    kinds: tuple[EntityKind, ...]
    window_s: Seconds
    min_failed_users: Annotated[int, Meta(ge=2)]
    max_failed_users: Annotated[int, Meta(le=1_000)]
    min_failed_share: Share
    risk: Share
    ring_prefix: Annotated[str, Meta(min_length=1)]


class SharingPolicy(_Checked, frozen=True, kw_only=True):
    """Which entities tie users together."""

    window_s: Seconds
    refresh_s: Seconds
    kinds: dict[EntityKind, KindPolicy]
    attack: AttackPolicy


class RingPolicy(_Checked, frozen=True, kw_only=True):
    """What a ring is; see `models.tenant_graph`."""

    min_users: Annotated[int, Meta(ge=2)]
    max_users: Count
    max_links: Count
    min_link_weight: Annotated[float, Meta(gt=0.0, le=1.0)]
    strong_weight: Share
    size_half: Annotated[float, Meta(gt=0.0)]
    max_evidence: Count
    max_members: Count


class Witnesses(_Checked, frozen=True, kw_only=True):
    """From where on a witness against the user counts as strong."""

    rules_at: Share
    detectors_at: Share
    ring_at: Share


class DecisionPolicy(_Checked, frozen=True, kw_only=True):
    """How a decision is made; see docs/decisions.md."""

    caution_at: Share
    block_at: Share
    min_threshold: Annotated[float, Meta(gt=0.0, lt=1.0)]
    max_threshold: Annotated[float, Meta(gt=0.0, lt=1.0)]
    ring_share: Share
    block_min_score: Share
    block_min_witnesses: Annotated[int, Meta(ge=1, le=3)]
    witnesses: Witnesses
    breach_risk: dict[Severity, Share]
    segment_shift: dict[str, Shift]

    def thresholds(self, segment: str) -> tuple[float, float]:
        """Risks from which on an event of this segment is flagged and is blocked, both within the bounds; unknown segments shift nothing."""
        shift = self.segment_shift.get(segment, 0.0)
        low, high = self.min_threshold, self.max_threshold
        return min(max(self.caution_at + shift, low), high), min(max(self.block_at + shift, low), high)


class AlertPolicy(_Checked, frozen=True, kw_only=True):
    """What raises an alert, and for how long a repeat of its cause shares its id."""

    min_severity: Severity
    bucket_s: Seconds


class ActionRule(_Checked, frozen=True, kw_only=True):
    """An action and the conditions under which it is asked for; all must hold.

    Attributes:
        reasons: codes, or beginnings of codes that end in `*`; empty: whatever the reasons.
        min_contribution: what one of those reasons must carry.
        needs_attack: only for the entity at which an attack across users was found.
        spare_shared: not for an address that ties a ring of other users.
    """

    kind: ActionKind
    target: Target
    outcomes: tuple[Outcome, ...]
    min_severity: Severity
    hold_s: Seconds
    reasons: tuple[str, ...] = ()
    min_contribution: Share = 0.0
    min_ring_risk: Share = 0.0
    min_ring_size: Annotated[int, Meta(ge=0)] = 0
    needs_attack: bool = False
    spare_shared: bool = False

    def names(self, code: str) -> bool:
        """Whether a reason's code is one of `reasons`."""
        return any(code.startswith(one[:-1]) if one.endswith("*") else code == one for one in self.reasons)


class Policy(_Checked, frozen=True, kw_only=True):
    """The whole policy. `version` holds the file's own version and a checksum of its text."""

    version: str
    linking: LinkingPolicy
    sharing: SharingPolicy
    rings: RingPolicy
    decision: DecisionPolicy
    severity: dict[Severity, Share]
    alerts: AlertPolicy
    actions: tuple[ActionRule, ...]

    def problems(self) -> list[str]:
        """All that contradicts itself across settings; empty for a sound policy."""
        found = []
        decision, sharing, rings = self.decision, self.sharing, self.rings
        if decision.min_threshold > decision.max_threshold:
            found.append("decision.min_threshold is above max_threshold")
        if decision.caution_at >= decision.block_at:
            found.append("decision.caution_at must lie below block_at")
        found += [
            f"decision.segment_shift.{segment} brings the threshold for caution up to the one for blocking"
            for segment in decision.segment_shift
            if decision.thresholds(segment)[0] >= decision.thresholds(segment)[1]
        ]
        wanted: tuple[Severity, ...] = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
        if any(severity not in decision.breach_risk for severity in wanted):
            found.append("decision.breach_risk needs LOW, MEDIUM, HIGH and CRITICAL")
        elif not _rises([decision.breach_risk[severity] for severity in wanted]):
            found.append("decision.breach_risk must rise with severity")
        if set(self.severity) != {"MEDIUM", "HIGH", "CRITICAL"}:
            found.append("severity needs MEDIUM, HIGH and CRITICAL")
        elif not _rises([self.severity[severity] for severity in wanted[1:]]):
            found.append("severity must rise from MEDIUM to CRITICAL")
        found += [f"sharing.kinds.{kind} is missing" for kind in ENTITY_KINDS if kind not in sharing.kinds]
        found += [
            f"sharing.kinds.{name} still connects at max_users, where its users are but a sample"
            for name, kind in sharing.kinds.items()
            if kind.weight_of(kind.max_users) >= rings.min_link_weight
        ]
        if sharing.attack.min_failed_users > sharing.attack.max_failed_users:
            found.append("sharing.attack.min_failed_users is above max_failed_users")
        if sharing.refresh_s >= sharing.window_s:
            found.append("sharing.refresh_s must be shorter than window_s, or links expire while in use")
        if rings.min_users > rings.max_users:
            found.append("rings.min_users is above max_users")
        found += [f"actions: {rule.kind} is not an action" for rule in self.actions if rule.kind not in ACTION_KINDS[1:]]
        found += [
            f"actions: {rule.kind} needs a reason for min_contribution"
            for rule in self.actions
            if rule.min_contribution and not rule.reasons
        ]
        return found


class PolicyError(ValueError):
    """A policy file that cannot be used; the message lists what is wrong."""


def read_policy(text: str) -> Policy:
    """Reads and checks a policy file.

    Args:
        text: TOML, as `policy.toml`.

    Raises:
        PolicyError: it is no TOML, a setting is missing, unknown or out of range, or settings contradict each other.
    """
    try:
        policy = msgspec.toml.decode(text.encode(), type=Policy)
    except (msgspec.MsgspecError, ValueError) as error:
        raise PolicyError(str(error)) from error
    problems = policy.problems()
    if problems:
        raise PolicyError("; ".join(problems))
    checksum = hashlib.sha256(text.encode()).hexdigest()[:8]
    return msgspec.structs.replace(policy, version=f"{policy.version}-{checksum}")


@lru_cache(maxsize=1)
def default_policy() -> Policy:
    """The policy that ships with Usher."""
    return read_policy(resources.files("rules").joinpath("policy.toml").read_text("utf-8"))


def _rises(values: list[float]) -> bool:
    return all(low <= high for low, high in pairwise(values))
