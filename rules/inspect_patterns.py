"""The attack patterns: read from `rules/inspection/*.toml`, checked, and compiled into one RE2 set a view.

RE2 matches in time linear in the text whatever the pattern (Cox, "Regular Expression Matching in the Wild", 2010), and a set
finds all of its patterns in one pass.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Literal, get_args

import re2

Kind = Literal["sql_injection", "xss", "path_traversal", "command_injection"]
"""What is looked for."""

Context = Literal["text", "id", "url", "user_agent"]
"""What a string is: free text (titles, searches, metadata), an opaque id, a URL, or a user agent."""

View = Literal["raw", "text", "compact", "path", "tokens", "flat"]
"""How a text is read for a pattern: as it came, decoded in lower case, without white space, as a path, as SQL tokens (without parentheses)."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
CONTEXTS: Final[tuple[Context, ...]] = get_args(Context)
VIEWS: Final[tuple[View, ...]] = get_args(View)

_FOLDER: Final = files("rules").joinpath("inspection")
_MAX_SET_BYTES: Final = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pattern:
    """One reviewed pattern.

    Attributes:
        id: unique name, kebab-case.
        kind: the attack that it shows.
        over: the view it reads.
        regex: RE2 expression; searched, not anchored.
        reason: why a text with this is an attack and not a value.
        match: texts it must find (each is a test).
        clean: texts that no pattern may find (each is a test).
        contexts: where it applies.
    """

    id: str
    kind: Kind
    over: View
    regex: str
    reason: str
    match: tuple[str, ...]
    clean: tuple[str, ...]
    contexts: frozenset[Context]


class PatternError(ValueError):
    """The pattern files are wrong; the text lists every error."""


def parse_patterns(name: str, text: str) -> tuple[tuple[Pattern, ...], list[str]]:
    """The patterns of one file and the errors found in it. `name` is only used in the errors."""
    document = tomllib.loads(text)
    kind: Any = document.get("kind")
    errors = [] if kind in KINDS else [f"{name}: kind {kind!r} is none of {', '.join(KINDS)}"]
    found: list[Pattern] = []
    for position, row in enumerate(document.get("pattern", ())):
        where = f"{name}: {row.get('id', f'pattern {position}')}"
        problems = _problems(row)
        errors.extend(f"{where}: {problem}" for problem in problems)
        if not problems and not errors:
            contexts: frozenset[Context] = frozenset(row.get("contexts", CONTEXTS))
            found.append(
                Pattern(row["id"], kind, row["over"], row["regex"], row["reason"], tuple(row["match"]), tuple(row["clean"]), contexts)
            )
    return tuple(found), errors


def _problems(row: dict[str, Any]) -> list[str]:
    problems = [f"{key} is missing" for key in ("id", "over", "regex", "reason", "match", "clean") if not row.get(key)]
    problems += [f"{key} is not a known key" for key in row if key not in {"id", "over", "regex", "reason", "match", "clean", "contexts"}]
    if row.get("over") not in VIEWS:
        problems.append(f"over is none of {', '.join(VIEWS)}")
    problems += [f"context {one!r} is not known" for one in row.get("contexts", ()) if one not in CONTEXTS]
    try:
        re2.compile(row.get("regex", ""), _options())
    except re2.error as error:
        problems.append(f"regex: {error}")
    return problems


def load_patterns() -> tuple[Pattern, ...]:
    """All patterns of the package, in the order of kinds.

    Raises:
        PatternError: with every error of every file.
    """
    found: list[Pattern] = []
    errors: list[str] = []
    for kind in KINDS:
        name = f"{kind}.toml"
        patterns, problems = parse_patterns(name, _FOLDER.joinpath(name).read_text("utf-8"))
        found.extend(patterns)
        errors.extend(problems)
    ids = [one.id for one in found]
    errors.extend(f"id {one} is used twice" for one in sorted({one for one in ids if ids.count(one) > 1}))
    if errors:
        raise PatternError("\n".join(errors))
    return tuple(found)


def load_gate() -> str:
    """The expression of the first gate."""
    parts = tomllib.loads(_FOLDER.joinpath("gate.toml").read_text("utf-8"))["parts"]
    return "|".join(f"(?:{part})" for part in parts)


def _options() -> Any:
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = _MAX_SET_BYTES
    return options


class PatternSet:
    """Some patterns compiled together. `find` gives those that a text holds, in one linear pass."""

    __slots__ = ("_set", "patterns")

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self.patterns = patterns
        self._set = re2.Set.SearchSet(_options())
        for one in patterns:
            self._set.Add(one.regex)
        self._set.Compile()

    def find(self, text: str) -> list[Pattern]:
        """The patterns found in `text`."""
        return [self.patterns[index] for index in self._set.Match(encode(text)) or ()]


class Gate:
    """The cheap first look; `passes` is False for text that certainly holds no attack."""

    __slots__ = ("_set",)

    def __init__(self, regex: str) -> None:
        options = _options()
        options.case_sensitive = False
        self._set = re2.Set.SearchSet(options)
        self._set.Add(regex)
        self._set.Compile()

    def passes(self, text: str) -> bool:
        """Whether `text` has to be inspected in full."""
        return bool(self._set.Match(encode(text)))


def encode(text: str) -> bytes:
    """UTF-8, with a question mark for lone surrogates, which JSON can smuggle in."""
    return text.encode("utf-8", "replace")
