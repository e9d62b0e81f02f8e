"""SQL text as a string of token letters, so that patterns can speak of grammar instead of spelling.

The idea is libinjection's (Galbreath, "libinjection: a C library for SQLi detection", Black Hat USA 2012): what is injected must
parse as SQL behind an open number, '…' or "…", so the text is read in each of these three situations. Code, token classes
and patterns are our own.

| letter | token |
|---|---|
| `n` | number |
| `N` `K` | null; true, false, unknown |
| `s` | string in quotes, also one that the end of the text closes |
| `i` | name |
| `v` | @variable |
| `f` | known SQL function before `(` |
| `j` | any other name directly before `(` |
| `H` | a name that has no use outside SQL: information_schema, xp_cmdshell, pg_sleep, @@version … |
| `o` | comparison sign: = <> < > … |
| `p` | comparing word that seldom compares in prose: rlike, regexp, like … |
| `P` | comparing word that prose uses all the time: in, is, between |
| `l` | and, or, xor, &&, \\|\\| |
| `m` | arithmetic sign |
| `u` `a` `e` `F` `w` `h` `g` `b` `L` `A` | union, all/distinct, select, from, where, having, order/group, by, limit/offset, as |
| `x` `W` `T` `E` | case, when, then, else/end |
| `D` `O` | drop/alter/truncate/create, table/database/view … |
| `d` `I` `U` `S` `t` `V` `X` `y` `Q` `B` | delete, insert/replace, update, set, into, values, exec/call, declare, shutdown, begin |
| `R` `G` | waitfor, outfile/dumpfile |
| `c` `C` | comment to the end with nothing in it, with text in it |
| `(` `)` `,` `;` `.` | themselves |
| `z` | anything else |

`not`, unary signs and closed comments are left out. A text read behind an open quote starts with `'`, or with `"` where blanks stand
on the outer sides of its quotes, as they do around a quoted word in prose.
"""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from typing import Final

_TOKEN: Final = re.compile(
    r"""
      (?P<space>\s++)
    | (?P<inline>/\*(?:[^*]|\*(?!/))*+\*/)
    | (?P<comment>(?:--|\#)[^\n]*+|/\*(?:[^*]|\*(?!/))*+)
    | (?P<string>n?'(?:[^'\\]|\\.|'')*+(?:'|\\?\Z)|"(?:[^"\\]|\\.|"")*+(?:"|\\?\Z))
    | (?P<variable>@@?[\w$.]*+|@`[^`]*+`)
    | (?P<number>0x[0-9a-f]*+|(?:\d++(?:\.\d*+)?|\.\d++)(?:e[+-]?\d++)?)
    | (?P<name>[^\W\d][\w$]*+(?:\.{1,2}(?:[^\W\d][\w$]*+|\*))*+|`[^`]*+`?|\[[^\]]*+\])
    | (?P<compare><=>|<>|!=|<=|>=|==|:=|[=<>])
    | (?P<logic>&&|\|\|)
    | (?P<sign>::|[-+*/%^|&~!])
    | (?P<mark>[(),;.])
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_VERSION_COMMENT: Final = re.compile(r"/\*!\d{0,6}((?:[^*]|\*(?!/))*+)(?:\*/|\Z)")
_EMPTY_COMMENT: Final = re.compile(r"(?:--|#|/\*)[\s+\-;*'\"]*")
_CALL: Final = re.compile(r"\s*+\(")

_VOCABULARY: Final = tomllib.loads(files("rules").joinpath("inspection", "sql_words.toml").read_text("utf-8"))
_WORDS: Final[dict[str, str]] = {
    word: "" if letter == "skip" else letter for letter, words in _VOCABULARY["keywords"].items() for word in words.split()
}
_FUNCTIONS: Final = frozenset(_VOCABULARY["functions"]["known"].split())
_PROSE_FUNCTIONS: Final = frozenset(_VOCABULARY["functions"]["prose"].split())
_HARD_CALLS: Final = frozenset(_VOCABULARY["functions"]["hard"].split())

_HARD_NAMES: Final = re.compile(
    r"""(?:
      information_schema|performance_schema|mysql\.(?:user|db|host|func|usrs|proc|innodb_\w+)|sqlite_(?:master|schema|version)|msys(?:access)?objects
    | pg_(?:catalog|user|shadow|sleep|tables|database|class|group|roles|authid|stat_\w+|ls_dir|read_file)\b
    | (?:master|msdb|tempdb)\.(?:\.|dbo\b|sys\b)|sys\.(?:tables|objects|columns|databases|all_\w+|user\$|sql_\w+|dm_\w+)
    | sys(?:objects|columns|databases|processes|xlogins|configures|logins)\b
    | [xs]p_(?:cmdshell|executesql|oacreate|oamethod|makewebtask|reg(?:read|write|delete\w*|enum\w*)|dirtree|fileexist|addlogin|addsrvrolemember
              |configure|msforeachtable|msforeachdb|msdropretry|delete_backuphistory|start_job|add_job\w*|availablemedia|servicecontrol|enumdsn
              |loginconfig|ntsec\w*|terminate_process|sqlexec|execresultset)
    | utl_(?:inaddr|http|file|smtp|tcp|raw)\b|dbms_\w+|ctxsys\.\w+|sysibm\b|syscat\b|rdb\$\w+|mon\$\w+|v\$\w+
    | all_(?:tables|users|tab_columns|objects)\b|user_(?:tables|tab_columns)\b|dba_(?:users|tables)\b|domain\.(?:domains|columns|tables)\b
    )""",
    re.VERBOSE,
)
"""Catalogues and system procedures of the database products."""


def tokenise(text: str, quote: str = "") -> str:
    """The token letters of `text` (lower case), read behind an open `quote` (`'`, `"` or none)."""
    letters: list[str] = []
    if quote:
        letters.append('"' if _quotes_a_word(text, quote) else "'")
        text = quote + text
    previous = ""
    for found in _TOKEN.finditer(text):
        kind = found.lastgroup
        if kind in {"space", "inline"}:
            continue
        if kind == "name":
            letter = _name_letter(found[0], text, found.end())
        elif kind == "mark":
            letter = found[0]
        elif kind == "comment":
            letter = "c" if _EMPTY_COMMENT.fullmatch(found[0]) else "C"
        elif kind == "variable":
            letter = "H" if _HARD_VARIABLE.match(found[0]) else "v"
        elif kind == "sign" and (not previous or previous in _BEFORE_UNARY):
            continue
        else:
            letter = _LETTERS[kind or "other"]
        if not letter:
            continue
        previous = letter
        letters.append(letter)
    return "".join(letters)


def _quotes_a_word(text: str, quote: str) -> bool:
    first, last = text.find(quote), text.rfind(quote)
    return last > first and (text[first - 1 : first].isspace() or text[last + 1 : last + 2].isspace())


_LETTERS: Final = {"string": "s", "number": "n", "compare": "o", "logic": "l", "sign": "m", "other": "z"}
_BEFORE_UNARY: Final = frozenset("(,olmePpuwhbTW;")
_HARD_VARIABLE: Final = re.compile(
    r"@@(?:version|hostname|basedir|datadir|servername|identity|language|global|tmpdir|innodb\w*|plugin_dir|spid|rowcount)"
)


_OR_FUNCTION: Final = frozenset({None, "O", "I"})


def _name_letter(name: str, text: str, end: int) -> str:
    letter = _WORDS.get(name)
    called = _CALL.match(text, end) is not None
    if called:
        if name in _HARD_CALLS:
            return "H"
        if name in _FUNCTIONS and letter in _OR_FUNCTION and (text[end] == "(" or name not in _PROSE_FUNCTIONS):
            return "f"
    if letter is not None:
        return letter
    if _HARD_NAMES.match(name):
        return "H"
    if name[0] == "`":
        return "i"
    return "j" if called and text[end] == "(" else "i"


def token_streams(text: str) -> tuple[str, ...]:
    """The readings of a text as SQL: behind an open number, and behind an open quote where the text has one.

    `/*!50000 …*/` counts as what stands in it, as MySQL reads it.
    """
    lowered = text.lower()
    if "/*!" in lowered:
        lowered = _VERSION_COMMENT.sub(r" \1 ", lowered)
    streams = [tokenise(lowered)]
    streams.extend(tokenise(lowered, quote) for quote in "'\"" if quote in lowered)
    return tuple(streams)


_PARENTHESES: Final = str.maketrans("", "", "()")


def without_parentheses(stream: str) -> str:
    """A token stream without its parentheses."""
    return stream.translate(_PARENTHESES)
