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
from typing import Final

MAX_TOKENS: Final = 4000
"""Tokens that are read of one text."""

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

_WORDS: Final[dict[str, str]] = {
    word: letter
    for letter, words in {
        "u": "union intersect except minus",
        "a": "all distinct distinctrow",
        "e": "select",
        "F": "from",
        "w": "where",
        "h": "having",
        "g": "order group",
        "b": "by",
        "L": "limit offset",
        "A": "as",
        "l": "and or xor",
        "p": "like rlike regexp ilike glob similar sounds div",
        "P": "in is between",
        "N": "null",
        "K": "true false unknown",
        "x": "case",
        "W": "when",
        "T": "then",
        "E": "else end",
        "D": "drop alter truncate create rename",
        "O": "table database schema view index procedure function trigger login column user",
        "d": "delete",
        "I": "insert replace",
        "U": "update",
        "S": "set",
        "t": "into",
        "V": "values",
        "X": "exec execute call",
        "y": "declare",
        "Q": "shutdown",
        "B": "begin",
        "R": "waitfor",
        "G": "outfile dumpfile",
        "": "not binary",
    }.items()
    for word in words.split()
}

_FUNCTIONS: Final = frozenset(
    """abs acos ascii asin atan avg bin bit_length cast ceil ceiling char char_length chr coalesce concat conv convert cos cot count crc32
    curdate current_user current_database database date date_add day db_name decode degrees encode encrypt exists exp export_set field
    find_in_set floor format from_base64 getdate greatest hex host_name if ifnull iif instr isnull json_keys json_extract last_insert_id
    lcase left len length ln local load lower lpad ltrim max md5 mid min mod now nullif nvl object_id oct ord pi position power quarter
    quote rand randn regexp_like repeat replace reverse right round row row_count rpad rtrim schema session_user sha sha1 sha2 sign sin
    sleep soundex space sqrt str strcmp substr substring sum suser_name suser_sname sysdate system_user tan to_char to_number trim ucase
    upper user user_id user_name uuid version xmltype year bitand bitor db_id substring_index time_to_sec sysdatetime lag dump""".split()
)
"""Functions whose name may also be an ordinary word: they count where `(` follows."""

_PROSE_FUNCTIONS: Final = frozenset(
    """bin char cast count date day decode dump encode encrypt exists exp field format hex insert left length load local lower max mid min
    mod now position power quarter quote repeat replace reverse right round row schema sign sleep space sum tan trim upper user version
    year lag database if""".split()
)
"""Of these functions those that prose puts before a bracket, "left (0)": they count only where no blank stands between."""

_HARD_CALLS: Final = frozenset(
    """aes_decrypt aes_encrypt analyse array_agg array_to_json benchmark concat_ws crypt_key elt extractvalue
    fn_listextendedproperty generate_series getpgusername group_concat gtid_subset gtid_subtraction json_agg json_arrayagg
    load_extension load_file make_set master_pos_wait name_const openquery openrowset opendatasource pg_ls_dir pg_read_file
    pg_sleep quote_ident query_to_xml randomblob regexp_substring row_to_json string_agg unhex updatexml xmlagg
    xmlelement zeroblob multipoint linestring multilinestring multipolygon st_latfromgeohash st_longfromgeohash
    st_pointfromgeohash database_to_xml current_setting inet_server_addr lo_import dblink_connect dblink""".split()
)
"""Functions that no prose names: a call of one is SQL."""

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
        if len(letters) >= MAX_TOKENS:
            break
    return "".join(letters)


def _quotes_a_word(text: str, quote: str) -> bool:
    first, last = text.find(quote), text.rfind(quote)
    return last > first and (text[first - 1 : first].isspace() or text[last + 1 : last + 2].isspace())


_LETTERS: Final = {"string": "s", "number": "n", "compare": "o", "logic": "l", "sign": "m", "other": "z"}
_BEFORE_UNARY: Final = frozenset("(,olmePpuwhbTW;")
_HARD_VARIABLE: Final = re.compile(r"@@(?:version|hostname|basedir|datadir|servername|identity|language|global|tmpdir|innodb\w*|plugin_dir|spid|rowcount)")


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
