"""One suite over every regulation pack: a new file in `rules/regulations/` is tested unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules.applicability import Applicability
from rules.examples import run_example, run_examples
from rules.pack_errors import validate_packs
from rules.packs import Example, Pack, load_packs, pack_sources
from rules.regulation_docs import render_regulations

LAWS = Applicability(load_packs())
EXAMPLES = [pytest.param(pack, one, id=f"{pack.code}: {one.name}") for pack in load_packs().laws for one in pack.example]


def test_no_pack_has_a_fault() -> None:
    assert [str(error) for error in validate_packs()] == []


@pytest.mark.parametrize(("pack", "example"), EXAMPLES)
def test_example_comes_out_as_its_law_says(pack: Pack, example: Example) -> None:
    assert run_example(LAWS, pack, example) is None


def test_run_examples_covers_all_packs() -> None:
    assert run_examples(load_packs()) == []


@pytest.mark.parametrize("name", [name for name, _ in pack_sources()])
def test_pack_is_cited_and_dated(name: str) -> None:
    pack = load_packs().find(name.removesuffix(".toml").upper())
    assert pack is not None
    assert pack.citation
    assert pack.jurisdiction_codes
    assert pack.in_force(pack.in_force_since)


def test_the_rendered_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "regulations.md"
    assert page.read_text() == render_regulations(load_packs()), "run: usher regulations --markdown > docs/regulations.md"
