"""Every pattern file is right, and every example in it is a test."""

import pytest

from rules.inspect import inspect
from rules.inspect_decode import compact_views, path_view, readings
from rules.inspect_patterns import KINDS, Gate, Pattern, PatternSet, load_gate, load_patterns, parse_patterns
from rules.inspect_sql import token_streams, without_parentheses

PATTERNS = load_patterns()
GATE = Gate(load_gate())
MATCHES = [pytest.param(one, text, id=f"{one.id}-{text[:30]!r}") for one in PATTERNS for text in one.match]
CLEAN = sorted({text for one in PATTERNS for text in one.clean})


def views(text: str, over: str) -> list[str]:
    found = readings(text)
    if over == "raw":
        return [text]
    if over == "text":
        return [one.lower() for one in found]
    if over == "compact":
        return [view for one in found for view in compact_views(one)]
    if over == "path":
        return [path_view(one) for one in found]
    streams = [stream for one in found for stream in token_streams(one.lower())]
    return streams if over == "tokens" else [without_parentheses(stream) for stream in streams]


@pytest.mark.parametrize(("pattern", "text"), MATCHES)
def test_pattern_finds_its_examples(pattern: Pattern, text: str) -> None:
    only = PatternSet((pattern,))
    assert any(only.find(view) for view in views(text, pattern.over)), views(text, pattern.over)


@pytest.mark.parametrize(("pattern", "text"), MATCHES)
def test_examples_pass_the_gate_and_are_judged_an_attack_of_their_kind(pattern: Pattern, text: str) -> None:
    assert GATE.passes(text)
    context = next(iter(sorted(pattern.contexts, reverse=True)))
    assert pattern.kind in inspect(text, context).kinds


@pytest.mark.parametrize("text", CLEAN)
def test_clean_examples_are_clean_for_every_pattern(text: str) -> None:
    assert inspect(text).patterns == ()


def test_every_kind_has_patterns_with_a_reason_and_examples() -> None:
    assert {one.kind for one in PATTERNS} == set(KINDS)
    assert all(len(one.reason) > 20 and one.match and one.clean for one in PATTERNS)
    assert len({one.id for one in PATTERNS}) == len(PATTERNS)


def test_a_wrong_file_is_refused_with_all_its_errors() -> None:
    text = """
kind = "teapot"
[[pattern]]
id = "a"
over = "smell"
regex = "("
colour = "red"
contexts = ["tea"]
"""
    patterns, errors = parse_patterns("x.toml", text)
    assert patterns == ()
    found = "\n".join(errors)
    for part in (
        "kind 'teapot'",
        "reason is missing",
        "match is missing",
        "colour is not a known key",
        "over is none of",
        "'tea' is not known",
        "regex:",
    ):
        assert part in found
