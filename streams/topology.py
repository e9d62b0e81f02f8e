"""The flow: the one object from which topics, consumer groups, metrics, diagrams and documents follow.

Adding a stage is one step in `agents/` and one `Stage` here.
"""

from __future__ import annotations

import functools

from agents.alerting import decide_events
from agents.compliance import check_events, learn_consents
from agents.linking import learn_rings, link_events
from agents.rings import find_rings, ring_graph, watch_entities
from agents.scoring import learn_feedback, new_memory, score_events
from agents.validation import ValidationPolicy, validate_events
from rules.packs import load_packs
from rules.policy import default_policy
from schemas import topics as t
from streams.flow import Stage, Table, Topology
from streams.settings import Settings
from tables.entities import EntityUsers, SharedLink
from tables.ledger import Ledger
from tables.links import Links
from tables.profile import Profile

SNAPSHOT_MAX_BYTES = 4 << 20


def validation_policy(settings: Settings) -> ValidationPolicy:
    """The part of the settings that validation goes by."""
    return ValidationPolicy(
        max_event_bytes=settings.max_event_bytes,
        max_ahead_s=settings.max_ahead_s,
        max_age_days=settings.max_age_days,
        accept_null_keys=settings.accept_null_key,
        accept_unknown_types=settings.accept_unknown_event_types,
    )


def make_topology(settings: Settings) -> Topology:
    """The flow with the rules and settings in force.

    Raises:
        ValueError: rules on disk are wrong, or the declaration is (see `Topology.problems`).
    """
    packs, policy = load_packs(), default_policy()
    topology = Topology(
        (
            Stage(
                "validate",
                "Checks and normalises raw events and keys them by user.",
                reads=t.RAW,
                step=functools.partial(validate_events, policy=validation_policy(settings)),
                writes=t.VALID,
                rekeys=True,
            ),
            Stage(
                "check",
                "Finds which laws apply to an event and which it breaks; drops events that were already seen.",
                reads=t.VALID,
                step=functools.partial(check_events, packs=packs),
                writes=t.CHECKED,
                learns=((t.CONSENTS, learn_consents),),
                table=Table("ledgers", Ledger),
            ),
            Stage(
                "score",
                "Computes windowed features and the risk, with reasons; learns from the event afterwards.",
                reads=t.CHECKED,
                step=score_events,
                writes=t.SCORED,
                learns=((t.FEEDBACK, learn_feedback),),
                table=Table("profiles", Profile),
                memory=new_memory,
                snapshots=Table("ensembles", None, SNAPSHOT_MAX_BYTES),
            ),
            Stage(
                "link",
                "Links users through devices, addresses and payments, and adds the ring a user belongs to.",
                reads=t.SCORED,
                step=functools.partial(link_events, policy=policy),
                writes=t.LINKED,
                emits=(t.ENTITIES_SEEN,),
                learns=((t.USER_RINGS, learn_rings),),
                table=Table("links", Links),
            ),
            Stage(
                "alert",
                "Decides, with reasons; raises violations, alerts and actions.",
                reads=t.LINKED,
                step=functools.partial(decide_events, policy=policy),
                writes=t.DECISIONS,
                emits=(t.VIOLATIONS, t.ALERTS, t.ACTIONS),
            ),
            Stage(
                "rings",
                "Watches which users share a device, address, payment instrument or e-mail.",
                reads=t.ENTITIES_SEEN,
                step=functools.partial(watch_entities, policy=policy),
                emits=(t.ENTITIES_SHARED, t.USER_RINGS),
                table=Table("entities", EntityUsers),
            ),
            Stage(
                "communities",
                "Finds rings among the entities that are shared.",
                reads=t.ENTITIES_SHARED,
                step=functools.partial(find_rings, policy=policy),
                emits=(t.USER_RINGS,),
                table=Table("shared", SharedLink),
                memory=functools.partial(ring_graph, policy),
            ),
        )
    )
    problems = topology.problems()
    if problems:
        raise ValueError("; ".join(problems))
    return topology
