"""A decision as a picture for the README: rendered from a real replay, as an SVG without any outside font or script."""

from __future__ import annotations

import re
from collections.abc import Iterable
from io import StringIO
from typing import Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from commands.screen import decision_line
from schemas.codec import Case
from simulator import SimulationConfig, generate, to_json_line

EVENTS: Final = 20_000
SEED: Final = 4
WIDTH_CELLS: Final = 118


def _without_outside_fonts(template: str) -> str:
    """rich's template loads a font from a CDN; a viewer's own monospaced font does as well."""
    template = re.sub(r"@font-face\s*\{\{.*?\}\}\s*|<!--.*?-->\s*", "", template, flags=re.DOTALL)
    return template.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")


def decisions_svg(cases: Iterable[Case], title: str) -> str:
    """Decisions as they look in `usher tail`."""
    console = Console(record=True, width=WIDTH_CELLS, file=StringIO(), force_terminal=True, color_system="truecolor")
    for case in cases:
        console.print(decision_line(case))
    return console.export_svg(title=title, code_format=_without_outside_fonts(CONSOLE_SVG_FORMAT), unique_id="usher")


def chosen_decisions(count: int = 5) -> list[Case]:
    """Decisions of a seeded simulation that differ in their first reason: blocked ones first."""
    from commands.inputs import inputs_of
    from streams.replay import Replay
    from streams.settings import Settings
    from streams.topology import make_topology

    lines = (to_json_line(one) for one in generate(SimulationConfig(seed=SEED, events=EVENTS)))
    found: dict[str, Case] = {}
    replay = Replay(make_topology(Settings.model_construct()))
    for results in replay.feed(inputs_of(lines, lambda one: None)):
        for case in results.decisions:
            verdict = case.verdict
            if verdict is not None and verdict.outcome != "ALLOW" and verdict.reasons:
                key = f"{verdict.outcome} {verdict.reasons[0].code}"
                best = found.get(key)
                if best is None or best.verdict is None or len(verdict.reasons) > len(best.verdict.reasons):
                    found[key] = case
    ordered = sorted(
        found.values(), key=lambda case: (case.verdict.outcome != "BLOCK", -case.verdict.risk) if case.verdict else (True, 0.0)
    )
    return ordered[:count]
