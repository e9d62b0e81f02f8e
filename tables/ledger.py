"""The consent ledger: what one user has allowed, refused or withdrawn, purpose by purpose, over time.

Records win by their own time, never by their arrival: `learn_consent` keeps the newest records of a set, and a set's
union is the same in any order and with repeats. The ledger also knows which events of the user were counted: by raw
offset (redelivery) and by event id (gateway retries that reached Kafka twice).
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import msgspec

from schemas.records import ConsentState, Origin
from tables.seen import Seen, count_once

ALL_PURPOSES: Final = "*"
MAX_RECORDS_A_PURPOSE: Final = 16
MAX_RECENT_EVENTS: Final = 512
RECENT_AFTER_CUT: Final = 384
"""Cutting to fewer than the limit makes a cut rare, so that its sort costs next to nothing an event."""
RECENT_HORIZON_S: Final = 24 * 3600


class ConsentEntry(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One consent decision as the ledger keeps it. The order of the fields is the order of precedence.

    Fields:
        effective_at: from when it holds, Unix ms.
        refused: True for a refusal or withdrawal; at the same instant it beats a grant, which protects the person.
        digest: 64-bit digest of the consent's id.
        expires_at: until when it holds (Unix ms, exclusive), -1 for ever.
        guardian: 1 given by a parent or guardian, 0 not, -1 not said.
    """

    effective_at: int
    refused: bool
    digest: int
    expires_at: int = -1
    guardian: int = -1


class Ledger(msgspec.Struct, array_like=True):
    """All that is remembered of one user's consents. At most about 16 records a purpose and 512 event ids.

    Fields:
        history: newest records by purpose (canonical name or '*'), in order of effect.
        birth_year: year of birth, 0 while nobody gave one.
        birth_year_at: effective time (Unix ms) of the record that gave the birth year.
        seen: highest raw offset counted, by raw partition.
        recent: event second (Unix s) by 64-bit digest of the event id.
        newest_s: highest event second counted (Unix s); the horizon of `recent` hangs on it.
    """

    history: dict[str, list[ConsentEntry]] = {}
    birth_year: int = 0
    birth_year_at: int = -(2**62)
    seen: Seen = {}
    recent: dict[int, int] = {}
    newest_s: int = 0


class Consent(NamedTuple):
    """The consent that decides at an instant; `effective_at` is Unix ms, None where nothing is on record."""

    state: ConsentState
    effective_at: int | None = None
    by_guardian: bool = False


NOTHING: Final = Consent("UNKNOWN")


def digest64(text: str) -> int:
    """A stable 64-bit digest (BLAKE2b, RFC 7693) of an id. Two of 512 ids collide with probability below 1e-14."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def learn_consent(ledger: Ledger, purpose: str, entry: ConsentEntry) -> bool:
    """Adds a record. The result does not depend on the order of calls or on repeats. Changes `ledger`.

    Args:
        ledger: the user's ledger.
        purpose: canonical purpose or '*'. The vocabulary is closed (`rules.purposes`): that bounds the ledger.
        entry: the record.

    Returns:
        Whether the ledger changed.
    """
    records = ledger.history.setdefault(purpose, [])
    if entry in records:
        return False
    kept = sorted([*records, entry])[-MAX_RECORDS_A_PURPOSE:]
    changed = kept != records
    ledger.history[purpose] = kept
    return changed


def learn_birth_year(ledger: Ledger, birth_year: int, effective_at: int) -> bool:
    """Notes a year of birth; the newest statement wins, of two at the same instant the younger age. Changes `ledger`."""
    if (effective_at, birth_year) <= (ledger.birth_year_at, ledger.birth_year):
        return False
    ledger.birth_year, ledger.birth_year_at = birth_year, effective_at
    return True


def consent_at(ledger: Ledger, purpose: str, at_ms: int, *, separate: bool = False) -> Consent:
    """What the ledger says about a purpose at an instant.

    The newest record that was in effect decides, of those for the purpose and those for all purposes.

    Args:
        ledger: the user's ledger.
        purpose: canonical purpose.
        at_ms: the instant, Unix ms.
        separate: whether a grant for all purposes does not count (PIPL Art 23 and 39, PIPA Art 22); a refusal of all does.

    Returns:
        UNKNOWN, GRANTED, EXPIRED, WITHDRAWN (a refusal after a grant) or DENIED (a refusal without one).
    """
    winner: ConsentEntry | None = None
    granted_before = False
    for name in (purpose, ALL_PURPOSES):
        for entry in ledger.history.get(name, ()):
            if entry.effective_at > at_ms:
                break
            if not entry.refused:
                if separate and name == ALL_PURPOSES:
                    continue
                granted_before = True
            if winner is None or entry > winner:
                winner = entry
    if winner is None:
        return NOTHING
    if winner.refused:
        return Consent("WITHDRAWN" if granted_before else "DENIED", winner.effective_at)
    state: ConsentState = "EXPIRED" if 0 <= winner.expires_at <= at_ms else "GRANTED"
    return Consent(state, winner.effective_at, winner.guardian == 1)


def state_at(ledger: Ledger, purpose: str, at_ms: int) -> ConsentState:
    """The state of the consent for `purpose` at `at_ms` (Unix ms); see `consent_at`."""
    return consent_at(ledger, purpose, at_ms).state


def count_event(ledger: Ledger, event_id: str, at_ms: int, origin: Origin) -> bool:
    """Notes an event as counted; False for a redelivery and for an event id that was counted within 24 h of event time.

    Beyond the newest 384 to 512 ids, and more than 24 h behind the user's newest event, a retry is no longer known. What
    is forgotten depends on the events alone and not on how the log is cut into batches. Changes `ledger`.
    """
    if not count_once(ledger.seen, origin):
        return False
    second = at_ms // 1000
    digest = digest64(event_id)
    horizon = max(ledger.newest_s, second) - RECENT_HORIZON_S
    known = ledger.recent.get(digest)
    if known is not None and known >= horizon:
        return False
    ledger.newest_s = max(ledger.newest_s, second)
    ledger.recent[digest] = second
    if len(ledger.recent) > MAX_RECENT_EVENTS:
        forget_old_events(ledger)
        if len(ledger.recent) > MAX_RECENT_EVENTS:
            newest = sorted(((at, known_digest) for known_digest, at in ledger.recent.items()), reverse=True)[:RECENT_AFTER_CUT]
            ledger.recent = {known_digest: at for at, known_digest in newest}
    return True


def forget_old_events(ledger: Ledger) -> None:
    """Drops event ids beyond the horizon; no later answer changes by it. Changes `ledger`."""
    horizon = ledger.newest_s - RECENT_HORIZON_S
    ledger.recent = {digest: at for digest, at in ledger.recent.items() if at >= horizon}
