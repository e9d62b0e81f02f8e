"""Renders docs/regulations.md from the packs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Final

from rules.packs import AnyCheck, Disclosure, Localisation, Minimisation, Minor, OptIn, OptOut, Pack, Packs, Signal, Transfer
from rules.purposes import Purposes, load_purposes
from rules.requirements import Row, Source, Strictest, merge_strictest, regulations_table

FACTS_AS_OF: Final = date(2026, 11, 22)
"""The day as of which the packs' facts were gathered."""

HEADER: Final = """\
# Regulations

Rendered from `rules/regulations/*.toml`; do not edit: `usher regulations --markdown` writes it, a test compares it. How to
add a law: [how-to/add-a-law.md](how-to/add-a-law.md). Not legal advice.

An empty cell ("-") means that the law names no number. Hours, calendar days, business days and calendar months are kept
apart, and so is what starts each clock: hours that run from different events are not the same requirement.

## How an event is judged

1. **Where.** Region and state (ISO 3166-1 and -2) and, where the gateway's metadata give them, `account_country`,
   `residence_country` and `ip_country`. Every law of every one of these places applies, from 00:00 UTC of its first day.
2. **Why.** The event's `purpose`; without one, its type's default (below). A purpose that nobody knows is `unspecified`:
   laws that ask for consent find it missing (severity LOW), because a purpose must be specified (GDPR Art 5(1)(b)).
3. **Consent at event time.** The newest record in effect decides, of those for the purpose and those for all purposes (`*`);
   at the same instant a refusal beats a grant. Records win by `effective_at`, not by arrival. Where the ledger knows
   nothing, the gateway's flag `has_consent` counts for the event's own purpose. A refusal on record outweighs the flag.
   A `CONSENT_CHANGE` event is such a record. A US privacy string ("1YYN") can refuse sale and targeted advertising.
   Other consent strings are not read: they neither grant nor refuse, and a breach for missing consent says so.
4. **Checks.** Those of the tables below that are in force at event time. A breach against a person's refusal is one grade
   worse than the check's severity. Ages come from the record or the metadata; a rule for minors is broken only where
   the viewer is certainly below the age (of a year of birth, the higher of the two possible ages counts).

### Is playing a title without consent lawful in the Netherlands?

Yes. Playback is what the viewer has asked for: its basis is the contract, GDPR Art 6(1)(b), not consent. Reading the device
identifier for it is strictly necessary and so exempt from consent under Art 5(3) of the ePrivacy Directive. A `PLAY` event with
`has_consent = false` and no purpose, or the purpose `service`, is therefore lawful and its consent state is `NOT_REQUIRED`.
The same event for `analytics`, `personalisation`, `marketing` or anything else beyond the service breaks both laws: consent
is the basis that this platform claims for those purposes. To demand consent for playback would be unlawful in its own
way: consent that is a condition of a service is not freely given (Art 7(4)).

### What cannot be decided

These stand as breaches of the law code `UNRESOLVED`, severity LOW, so that nothing passes in silence:

| rule | when |
|---|---|
| `jurisdiction-unknown` | a place of the event is `ZZ` or no ISO 3166 code; laws of its known places are still applied |
| `jurisdiction-uncovered` | no law of the place is on file, the purpose is not a necessary one, and there is no consent |
| `state-unknown` | the event is from the United States without a state, the person opted out, and only state law would say so |

### Rules

| rule | meaning |
|---|---|
| `consent-missing`, `consent-denied`, `consent-withdrawn`, `consent-expired` | the purpose needs prior consent and has none |
| `opt-out-ignored` | the person has refused; while the time to comply runs, one grade milder |
| `gpc-ignored` | a Global Privacy Control signal was on (`gpc` or `sec_gpc` in the metadata) where it binds |
| `parental-consent-missing`, `minor-consent-missing`, `minor-processing-forbidden` | the viewer is known to be too young |
| `transfer-unsafeguarded`, `transfer-consent-missing`, `stored-abroad` | data go to, or lie in, another country (`transfer_to`, `storage_country`, `transfer_safeguard` in the metadata) |
| `disclosure-unconsented` | a third party learns what was watched (`disclosed_to`, or the purposes `sale` and `disclosure` with a title) |
| `data-excessive` | the metadata carry a category of data that the purpose does not need |
"""


def render_regulations(packs: Packs, at: date = FACTS_AS_OF) -> str:
    """The whole page as Markdown.

    Args:
        packs: all laws.
        at: the day for which the strictest requirements are merged.
    """
    lines = [HEADER, *_purposes(load_purposes()), *_strictest(merge_strictest(packs.in_force(at)), at)]
    lines += [
        "## All laws",
        "",
        "| law | where | since | consent | breach notice | access | erasure | age | GPC | fine |",
        "|" + "---|" * 10,
    ]
    lines += [_table_line(row) for row in regulations_table(packs.laws)]
    for pack in packs.laws:
        lines += _law(pack)
    return "\n".join(lines).rstrip() + "\n"


def _cells(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _table_line(row: Row) -> str:
    return _cells(row.code, row.where, row.since, row.consent, row.breach, row.access, row.erasure, row.age, row.gpc, row.fine)


def _purposes(purposes: Purposes) -> Iterator[str]:
    yield from ("## Purposes", "", "| purpose | meaning | needs no consent | event types by default |", "|---|---|---|---|")
    for name, entry in purposes.entries.items():
        yield _cells(f"`{name}`", entry.meaning, "yes" if entry.necessary else "", ", ".join(entry.events))
    yield ""


def _strictest(merged: Strictest, at: date) -> Iterator[str]:
    yield from (f"## Strictest requirements on {at.isoformat()}", "", "| requirement | value | from |", "|---|---|---|")

    def line(name: str, found: Source | None, unit: str = "") -> str:
        return _cells(name, "-" if found is None else f"{found.value}{unit}", "" if found is None else ", ".join(found.sources))

    for clock, found in merged.breach_authority_hours_by_clock.items():
        yield line(f"notice of a breach to the authority, from {clock}", found, " h")
    yield line("answer to an access request", merged.access_days, " d")
    yield line("answer to an erasure request", merged.erasure_days, " d")
    yield line("parental consent below the age of", merged.parental_consent_below_age)
    yield line("fine, percent of turnover", merged.fine_pct_turnover, " %")
    for currency, found in merged.fine_cap_amount.items():
        yield line(f"fine, amount in {currency}", found)
    yield from ("", "Hours that do not bind a streaming service (ePrivacy's 24 h) are left out.", "")


def _law(pack: Pack) -> Iterator[str]:
    yield from ("", f"## {pack.code}: {pack.name}", "")
    facts = (
        ("Where", " ".join(pack.jurisdiction_codes)),
        ("In force", f"{pack.in_force_since.isoformat()} ({pack.status_2026_11})"),
        ("Consent", ". ".join(part for part in (pack.consent_model, pack.legal_bases) if part)),
        ("Age of consent by country", " ".join(f"{code} {age}" for code, age in sorted(pack.age_by_country.items()))),
        ("Breach, authority", pack.breach_authority_text),
        ("Breach, people", pack.breach_individuals),
        ("Access", pack.access_text),
        ("Erasure", pack.erasure_text),
        ("Portability", pack.portability),
        ("Sale and advertising", pack.opt_out_sale_or_targeted_ads),
        ("Opt-out signal binding since", pack.gpc_since.isoformat() if pack.gpc_since else None),
        ("Transfers", pack.cross_border),
        ("Fine", pack.max_fine_text),
        ("Retention and records", pack.retention_or_records),
        ("Citation", pack.citation),
        ("Confidence", "; checked: ".join(part for part in (pack.confidence, pack.verified) if part)),
        ("Note", pack.note),
    )
    yield from (f"- {name}: {text}" for name, text in facts if text)
    for earlier in pack.earlier:
        yield f"- Before {earlier.until.isoformat()} other facts held: {', '.join(sorted((*earlier.facts, *earlier.unset)))}."
    if pack.check:
        yield from ("", "| check | purposes | provision | severity | in force |", "|---|---|---|---|---|")
        for check in pack.check:
            since = f"from {check.since.isoformat()}" if check.since else ""
            until = f"until {check.until.isoformat()}" if check.until else ""
            when = " ".join(part for part in (since, until) if part)
            yield _cells(_describe(check), ", ".join(check.purposes) or "all", check.article, check.severity, when)


def _describe(check: AnyCheck) -> str:
    match check:
        case OptIn():
            return "opt-in" + (", separate" if check.separate else "")
        case OptOut():
            return "opt-out" + (f", within {check.grace.amount} {check.grace.unit}" if check.grace else "")
        case Signal():
            return "opt-out signal"
        case Minor():
            ages = f"{check.from_age} to {check.below_age}" if check.from_age else f"under {check.below_age or 'the age of consent'}"
            return f"minors {ages}: {check.requires.replace('-', ' ')}"
        case Transfer():
            trusted = " ".join(check.adequate) or "none"
            consent = {"alternative": "or consent", "required": "and consent", "no": "consent is not enough"}[check.consent]
            return f"transfer: adequate {trusted}; safeguards {', '.join(check.safeguards) or 'none'}; {consent}"
        case Localisation():
            return f"stored at home, or {', '.join(check.safeguards)}"
        case Disclosure():
            return "disclosure of titles" + (f", consent valid {check.valid_months} months" if check.valid_months else "")
        case Minimisation():
            return f"must not carry {', '.join(check.categories)}"
