import ast
import re
from pathlib import Path

from rules.faults import ATTACK_CODES, CATALOGUE, render_catalogue
from rules.inspect_patterns import KINDS
from schemas import codec

ROOT = Path(__file__).parents[2]


def strings(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_the_page_is_current() -> None:
    assert (ROOT / "docs" / "dead-letters.md").read_text("utf-8") == render_catalogue()


def test_every_code_is_kebab_case_and_explained() -> None:
    for code, reason in CATALOGUE.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
        assert reason.code == code
        assert reason.meaning.endswith(".")
        assert reason.remedy.endswith(".")


def test_every_decode_code_is_in_the_catalogue() -> None:
    source = Path(codec.__file__).read_text("utf-8")
    used = set(re.findall(r'DecodeError\("([a-z-]+)"', source))
    assert used
    assert used <= {code for code, reason in CATALOGUE.items() if reason.found_by == "decoding" and reason.effect == "reject"}


def test_every_code_of_validation_is_in_the_catalogue_and_used() -> None:
    used = strings(ROOT / "agents" / "validation.py") | strings(ROOT / "rules" / "domain.py") | set(ATTACK_CODES.values())
    source = (ROOT / "agents" / "validation.py").read_text("utf-8")
    named = set(re.findall(r'Fault\(\s*"([a-z-]+)"', source)) | set(re.findall(r'warnings\.append\("([a-z-]+)"', source))
    assert named <= set(CATALOGUE)
    assert {code for code, reason in CATALOGUE.items() if reason.found_by != "decoding"} <= used


def test_every_kind_of_attack_has_a_code() -> None:
    assert set(ATTACK_CODES) == set(KINDS)
    assert set(ATTACK_CODES.values()) <= set(CATALOGUE)
