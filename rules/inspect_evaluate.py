"""How well the inspection finds attacks and leaves clean text alone, measured on labelled texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from rules.inspect import inspect
from rules.inspect_patterns import Kind

KIND_OF_LABEL: Final[dict[str, Kind]] = {
    "sqli": "sql_injection",
    "xss": "xss",
    "path": "path_traversal",
    "cmdi": "command_injection",
}
"""Labels of attacks. `benign` is clean text; any other label is shown and counts neither way."""

BENIGN: Final = "benign"


class LabelledText(msgspec.Struct, frozen=True):
    """One line of an evaluation file (JSON): the text, its label and where it comes from."""

    text: str
    kind: str
    src: str


@dataclass(frozen=True, slots=True)
class InspectionRow:
    """Texts of one label and source.

    Attributes:
        kind: label.
        source: where they come from; `all` sums the label up.
        texts: how many.
        flagged: how many were found to be any attack.
        right_kind: how many were found to be (also) an attack of the labelled kind; 0 for clean ones.
    """

    kind: str
    source: str
    texts: int
    flagged: int
    right_kind: int

    @property
    def flagged_share(self) -> float:
        """Recall for attacks, false-positive rate for clean text, in [0, 1]."""
        return self.flagged / self.texts if self.texts else 0.0


def evaluate_inspection(rows: Iterable[LabelledText]) -> tuple[InspectionRow, ...]:
    """Counts by label and source, and by label over all sources; sorted by label, sums last in each."""
    counts: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        kinds = inspect(row.text).kinds
        for source in (row.src, "all"):
            count = counts.setdefault((row.kind, source), [0, 0, 0])
            count[0] += 1
            count[1] += bool(kinds)
            count[2] += KIND_OF_LABEL.get(row.kind) in kinds
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], item[0][1] == "all", item[0][1]))
    return tuple(InspectionRow(kind, source, *count) for (kind, source), count in ordered)


def render_table(rows: Iterable[InspectionRow]) -> str:
    """The counts as a Markdown table; shares in per cent."""
    lines = ["| label | source | texts | flagged | share | right kind |", "|---|---|---:|---:|---:|---:|"]
    for row in rows:
        right = f"{row.right_kind:,}" if row.kind in KIND_OF_LABEL else ""
        lines.append(f"| {row.kind} | {row.source} | {row.texts:,} | {row.flagged:,} | {100 * row.flagged_share:.2f} % | {right} |")
    return "\n".join(lines) + "\n"
