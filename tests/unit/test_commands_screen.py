"""How decisions and laws look on a terminal."""

from dataclasses import replace

import pytest
from rich.console import Console

from commands.screen import decision_line, print_laws, risk_bar
from rules.packs import load_packs
from schemas.codec import Case
from schemas.records import Breach, Compliance, Network, Reason, Verdict
from tests.conftest import make_event

REASONS = tuple(Reason(code=f"code-{n}", detail=f"detail [{n}] of [/red]", contribution=0.5 - n / 10) for n in range(5))


def case(outcome: str = "BLOCK", risk: float = 0.87) -> Case:
    return Case(
        make_event(user_id="user_[bold]42"),
        Compliance(laws=("GDPR",), purpose="ads", consent="DENIED", checked_at=1, rules_version="r", breaches=(
            Breach(law="GDPR", rule="consent", article="6", severity="HIGH", facts=()), Breach(law="GDPR", rule="other", article="7", severity="LOW", facts=()),
            Breach(law="EPRIVACY", rule="consent", article="5", severity="HIGH", facts=()),
        )),
        network=Network(links=(), ring_id="ring-1", ring_size=7, linked_at=1),
        verdict=Verdict(outcome=outcome, risk=risk, threshold=0.5, severity="HIGH", reasons=REASONS, policy_version="p", decided_at=1),  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_decision_shows_when_what_who_which_laws_and_the_three_strongest_reasons() -> None:
    text = decision_line(case()).plain
    first, *reasons = text.splitlines()
    assert first.startswith("20:26:40 BLOCK")
    for part in ("0.87", "play", "NL", "user_[bold]42", "breaks GDPR, EPRIVACY", "ring of 7"):
        assert part in first
    assert [line.split() for line in reasons] == [
        [f"{0.5 - n / 10:.2f}", f"code-{n}:", "detail", f"[{n}]", "of", "[/red]"] for n in range(3)
    ]


@pytest.mark.parametrize(("outcome", "word"), [("ALLOW", "allow"), ("ALLOW_WITH_CAUTION", "caution"), ("BLOCK", "BLOCK"), ("UNKNOWN", "?")])
def test_every_outcome_has_its_word(outcome: str, word: str) -> None:
    assert decision_line(case(outcome)).plain.split()[1] == word


def test_a_lawful_decision_names_no_law_and_no_ring() -> None:
    text = decision_line(replace(case(), compliance=None, network=None)).plain
    assert "breaks" not in text
    assert "ring" not in text


def test_a_case_that_was_not_decided_has_no_line() -> None:
    with pytest.raises(ValueError, match="not decided"):
        decision_line(replace(case(), verdict=None))


@pytest.mark.parametrize(
    ("risk", "bar"), [(-1.0, "··········"), (0.0, "··········"), (0.51, "█████·····"), (1.0, "██████████"), (9.0, "██████████")]
)
def test_the_bar_has_ten_cells(risk: float, bar: str) -> None:
    assert risk_bar(risk) == bar


def test_laws_are_shown_with_the_strictest_requirement_and_its_source() -> None:
    console = Console(record=True, width=300, file=open("/dev/null", "w"))  # noqa: SIM115
    packs = load_packs()
    found = [law for law in packs.laws if law.code in ("GDPR", "CCPA")]
    print_laws(found, console)
    text = console.export_text()
    assert "Laws (2)" in text
    assert "Strictest of all" in text
    assert "GDPR" in text.partition("Strictest of all")[2]
