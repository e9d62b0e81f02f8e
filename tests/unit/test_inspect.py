import orjson
import pytest

from rules.inspect import CLEAN, MAX_CHARS, Finding, LineVerdict, inspect, inspect_event, inspect_line
from rules.inspect_decode import MAX_ROUNDS, compact_views, path_view, readings
from rules.inspect_evaluate import InspectionRow, LabelledText, evaluate_inspection, render_table
from rules.inspect_sql import token_streams, tokenise, without_parentheses
from schemas.records import RawEvent


def raw_event(**fields: object) -> RawEvent:
    given = {
        "event_id": "e1",
        "user_id": "u1",
        "device_id": "d1",
        "event_type": "PLAY",
        "timestamp": 1_768_566_896_000,
        "region": "NL",
        "ip_address": "203.0.113.10",
    }
    return RawEvent(**(given | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "Ocean's Eleven",
        "Tom & Jerry",
        "(500) Days of Summer",
        "Who's Afraid of Virginia Woolf?",
        "tick, tick... BOOM!",
        "Mission: Impossible - Dead Reckoning",
        "Union Square",
        "Drop Dead Gorgeous",
        "Rock 'n' Roll High School",
        "https://www.example.com/watch?v=abc123&list=PL-xyz&t=42s",
        "ERR_NETWORK (code=-105); retry in 5s",
        "user+tag@example.com",
        '"star wars" AND "empire"',
        "Español: ¿Qué pasó?",
        "東京物語",
        "",
    ],
)
def test_ordinary_text_is_clean(text: str) -> None:
    assert inspect(text) == CLEAN
    assert not inspect(text).is_attack


PLAIN = "' or 1=1 --"


@pytest.mark.parametrize(
    "text",
    [
        "%27%20or%201%3D1%20--",
        "%2527%2520or%25201%253D1%2520--",
        "&#39; or 1=1 --",
        "&#x27; or 1=1 --",
        r"\u0027 or 1=1 --",
        r"\x27 or 1=1 --",
        "＇ or 1=1 --",
        "%u0027 or 1=1 --",
        "'+or+1=1+--",
        "'/**/or/**/1=1/**/--",
        "' oR 1=1 --",
    ],
)
def test_encoded_and_disguised_forms_are_found_like_the_plain_one(text: str) -> None:
    assert inspect(PLAIN).kinds == ("sql_injection",)
    assert "sql_injection" in inspect(text).kinds


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("%3Cscript%3Ealert(1)%3C/script%3E", "xss"),
        ("<scr\x00ipt>alert(1)</script>", "xss"),
        ("<a href='java&#09;script:alert(1)'>", "xss"),
        ("..%c0%af..%c0%afetc", "path_traversal"),
        ("..%255c..%255cboot.ini", "path_traversal"),
        ("$(sleep 5)", "command_injection"),
        ("%0Aid", "command_injection"),
    ],
)
def test_each_kind_is_named(text: str, kind: str) -> None:
    assert kind in inspect(text).kinds


def test_the_context_counts() -> None:
    agent = "Mozilla/5.0 (Windows; U; Windows NT 5.1; id; rv:1.9) Gecko/2008 Firefox/3.0"
    assert "command_injection" in inspect(agent).kinds
    assert inspect(agent, "user_agent") == CLEAN


def test_an_attack_behind_a_lot_of_text_is_found() -> None:
    for length in (0, MAX_CHARS - 5, MAX_CHARS, 3 * MAX_CHARS):
        assert inspect("a;b " * (length // 4) + " <script>alert(1)</script>").kinds == ("xss",)


@pytest.mark.parametrize(
    "piece", ["'", '"', "/*", "--\n", "(", "<", "%25", "&amp;", "\\u0027", "a;", "../", "`", "[", "1 or ", "<!--", "\x00", "\ud800"]
)
def test_long_hostile_text_is_judged(piece: str) -> None:
    assert isinstance(inspect(piece * 20_000).kinds, tuple)


def test_inspect_line_is_what_the_command_prints() -> None:
    assert inspect_line("Heat") == LineVerdict("clean", ())
    assert inspect_line("1 union select 1") == LineVerdict("attack", ("sql_injection",))


def test_an_event_is_inspected_in_every_string() -> None:
    event = raw_event(
        user_id="' or 1=1 --",
        user_agent="<script>alert(1)</script>",
        extra_metadata=orjson.dumps(
            {"a": {"b": ["ok", "../../etc/passwd"]}, "x'><script>alert(1)</script>": {"c": "; cat /etc/passwd"}}
        ).decode(),
    )
    found = inspect_event(event)
    assert Finding("user_id", "sql_injection") in found
    assert Finding("user_agent", "xss") in found
    assert Finding("extra_metadata.a.b[1]", "path_traversal") in found
    assert Finding("extra_metadata.*", "xss") in found
    assert Finding("extra_metadata.*.c", "command_injection") in found
    assert not any("script" in one.path or "passwd" in one.path for one in found)


def test_a_clean_event_has_no_findings() -> None:
    event = raw_event(
        content_id="Ocean's Eleven",
        user_agent="Mozilla/5.0 (Linux; Android 9; AFTMM Build/PS7242) AppleWebKit/537.36 (KHTML, like Gecko)",
        extra_metadata='{"url":"https://cdn.example.com/a.m3u8?sig=a%2Bb&x=1","n":1,"none":null}',
        timestamp="2026-01-16T12:34:56Z",
    )
    assert inspect_event(event) == ()


@pytest.mark.parametrize(
    "text",
    ['{"a":"<script>alert(1)</script>"', '{"a":' * 100 + '"<script>alert(1)</script>"' + "}" * 100, '"\ud800<script>alert(1)</script>"'],
)
def test_metadata_that_is_not_json_is_inspected_as_text(text: str) -> None:
    assert inspect_event(raw_event(extra_metadata=text)) == (Finding("extra_metadata", "xss"),)


def test_metadata_beyond_the_limit_is_inspected_as_one_text() -> None:
    text = orjson.dumps({"a": ["x"] * MAX_CHARS, "b": "<script>alert(1)</script>"}).decode()
    assert inspect_event(raw_event(extra_metadata=text)) == (Finding("extra_metadata", "xss"),)


def test_a_very_long_user_agent_is_inspected() -> None:
    assert inspect_event(raw_event(user_agent="x" * 5000 + "<script>alert(1)</script>")) == (Finding("user_agent", "xss"),)


def test_readings_undo_layers_and_stop() -> None:
    assert readings("plain") == ("plain",)
    assert readings("%2541") == ("%2541", "%41", "A")
    assert readings("a+b")[-1] == "a b"
    assert readings("a\x00b") == ("ab", "a b")
    assert len(readings("%25" * 3 + "25" * 50 + "41")) <= MAX_ROUNDS + 3
    assert readings("%C3%A9")[-1] == "é"
    assert readings("%ff")[-1] == "\ufffd"
    assert readings(r"\u{110000}\ud800x")[-1] == "x"


def test_many_tokens_or_an_open_comment_hide_nothing() -> None:
    assert inspect("," * 10_000 + "1 union select 1").kinds == ("sql_injection",)
    assert inspect("/*!" * 1_000 + " <a href='javascript:alert(1)'>").is_attack
    assert inspect("*/ <!-- <a href='java script:alert(1)'>").is_attack


def test_views() -> None:
    assert path_view("..\\0x2e0x2e0X2F\u2215") == "../..//"
    assert compact_views("Java\tScript:\\A") == ("javascript:a",)
    assert compact_views("java/*x*/script:a<!-- y -->") == ("java/*x*/script:a<!--y-->", "javascript:a")
    assert inspect("/*<script src=//evil.example>*/").kinds == ("xss",)


@pytest.mark.parametrize(
    ("text", "stream"),
    [
        ("1 union select 1,2", "nuen,n"),
        ("1 or 1=1 -- ", "nlnonc"),
        ("x -- rest", "iC"),
        ("a.b.c(", "j("),
        ("left (0)", "i(n)"),
        ("left(0)", "f(n)"),
        ("sleep(5)", "f(n)"),
        ("pg_sleep(5)", "H(n)"),
        ("@@version", "H"),
        ("@x", "v"),
        ("information_schema.tables", "H"),
        ("`a b` [c]", "ii"),
        ("not 1 /* x */ <> -2", "non"),
        ("drop table users", "DOi"),
        ("a ? b", "izi"),
    ],
)
def test_sql_tokens(text: str, stream: str) -> None:
    assert tokenise(text) == stream


def test_sql_is_read_behind_every_open_quote() -> None:
    assert token_streams("' or 'a'='a") == ("sisi", "'slsos")
    assert token_streams('say "hi" now')[1].startswith('"')
    assert token_streams("1 /*!50000union*/ /*!select*/ 1")[0] == "nuen"
    assert without_parentheses("n(f(n))") == "nfn"


def test_evaluation_counts_by_label_and_source() -> None:
    rows = [
        LabelledText("1 union select 1", "sqli", "a"),
        LabelledText("hello", "sqli", "b"),
        LabelledText("<script>alert(1)</script>", "sqli", "b"),
        LabelledText("Heat", "benign", "a"),
    ]
    table = evaluate_inspection(rows)
    assert table == (
        InspectionRow("benign", "a", 1, 0, 0),
        InspectionRow("benign", "all", 1, 0, 0),
        InspectionRow("sqli", "a", 1, 1, 1),
        InspectionRow("sqli", "b", 2, 1, 0),
        InspectionRow("sqli", "all", 3, 2, 1),
    )
    assert table[-1].flagged_share == pytest.approx(2 / 3)
    assert InspectionRow("xss", "a", 0, 0, 0).flagged_share == 0.0
    assert "| sqli | all | 3 | 2 | 66.67 % | 1 |" in render_table(table)
