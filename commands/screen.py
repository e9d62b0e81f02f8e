"""How decisions and laws look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rules.packs import Pack
from rules.requirements import Row, merge_strictest, regulations_table
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


def print_laws(laws: Sequence[Pack], console: Console) -> None:
    """The laws as a table, then the strictest requirement of all, each with the laws it comes from."""
    rows = regulations_table(laws)
    table = Table(*Row.__struct_fields__, title=f"Laws ({len(rows)})")
    for row in rows:
        table.add_row(*(getattr(row, name) for name in Row.__struct_fields__))
    console.print(table)
    merged = Table("requirement", "strictest", "from", title="Strictest of all")
    strictest = merge_strictest(laws)
    for name in strictest.__struct_fields__:
        found = getattr(strictest, name)
        for part, source in found.items() if isinstance(found, dict) else ((None, found),):
            if source is not None:
                title = name.replace("_", " ") + (f" ({part})" if part else "")
                merged.add_row(
                    title, f"{source.value:,}" if isinstance(source.value, int) else str(source.value), ", ".join(source.sources)
                )
    console.print(merged)
