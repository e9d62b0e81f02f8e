"""How decisions and laws look on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.codec import Case

COLOURS: Final = {"ALLOW": "green", "ALLOW_WITH_CAUTION": "yellow", "BLOCK": "bold red", "UNKNOWN": "magenta"}
WORDS: Final = {"ALLOW": "allow", "ALLOW_WITH_CAUTION": "caution", "BLOCK": "BLOCK", "UNKNOWN": "?"}
BAR_CELLS: Final = 10


def risk_bar(risk: float) -> str:
    """Risk in [0, 1] as a bar of ten cells."""
    full = round(max(0.0, min(1.0, risk)) * BAR_CELLS)
    return "█" * full + "·" * (BAR_CELLS - full)


def decision_line(case: Case) -> Text:
    """One decision on one or more lines: when, outcome, risk, who did what where, and why.

    Raises:
        ValueError: the case was not decided.
    """
    verdict, event = case.verdict, case.event
    if verdict is None:
        raise ValueError("the case was not decided")
    colour = COLOURS[verdict.outcome]
    at = datetime.fromtimestamp(event.timestamp / 1000, UTC).strftime("%H:%M:%S")
    line = Text(f"{at} ", style="dim")
    line.append(f"{WORDS[verdict.outcome]:<8}", style=colour)
    line.append(f"{risk_bar(verdict.risk)} {verdict.risk:4.2f}  ", style=colour)
    line.append(f"{event.event_type.lower():<20}", style="bold")
    line.append(f"{event.region}  {event.user_id}  ", style="cyan")
    if case.compliance is not None and case.compliance.breaches:
        laws = ", ".join(dict.fromkeys(breach.law for breach in case.compliance.breaches))
        line.append(f"breaks {laws}  ", style="magenta")
    if case.network is not None and case.network.ring_id:
        line.append(f"ring of {case.network.ring_size}  ", style="yellow")
    for reason in verdict.reasons[:3]:
        line.append(f"\n                  {reason.contribution:5.2f} {reason.code}: ", style="dim")
        line.append(reason.detail, style="default")
    return line


def print_regulations(found: Any, console: Console) -> None:
    """The laws of `rules.laws.regulations_json` as a table, then the strictest merge."""
    columns = {
        "code": "law", "jurisdictions": "where", "effective_from": "since", "consent_model": "consent",
        "breach_authority_hours": "breach, h", "access_days": "access, d", "erasure_days": "erasure, d", "fine_pct_turnover": "% turnover", "fine_cap_amount": "cap",
    }  # fmt: skip
    laws = found["regulations"]
    shown = {key: title for key, title in columns.items() if any(key in law for law in laws)}
    table = Table(*shown.values(), title=f"Laws in force ({len(laws)})")
    for law in laws:
        cells = []
        for key in shown:
            value = law.get(key)
            text = (
                " ".join(value)
                if isinstance(value, list)
                else ""
                if value is None
                else f"{value:,}"
                if isinstance(value, int)
                else str(value)
            )
            cells.append(text if len(text) <= 32 else text[:31] + "…")
        table.add_row(*cells)
    console.print(table)
    merged = Table("requirement", "strictest", "from", title="Strictest of all")
    for name, requirement in found["strictest"].items():
        merged.add_row(name, str(requirement["value"]), str(requirement["source"]))
    console.print(merged)
