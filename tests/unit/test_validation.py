import math

import pytest

from agents.step import Fault, Received, Rejected
from agents.validation import ValidationPolicy, validate_event, validate_events
from rules import domain, sanitise
from schemas.records import Event, Origin, RawEvent

NOW_MS = 1_768_566_900_000


def received(*, key: bytes | None = b"k", size_bytes: int = 500, at_ms: int = NOW_MS, **fields: object) -> Received:
    given = {
        "event_id": "evt_20260116_001",
        "user_id": "user_42",
        "device_id": "tv_lg_abc123",
        "content_id": "movie_987",
        "event_type": "PLAY",
        "timestamp": "2026-01-16T12:34:56Z",
        "region": "NL",
        "is_eu": True,
        "ip_address": "8.8.8.8",
    }
    return Received(RawEvent(**(given | fields)), Origin(partition=3, offset=7), at_ms, key, size_bytes)  # type: ignore[arg-type]


def accepted(policy: ValidationPolicy = ValidationPolicy(), **given: object) -> Event:  # noqa: B008
    found = validate_event(received(**given), policy)  # type: ignore[arg-type]
    assert isinstance(found, Event), found
    return found


def codes(policy: ValidationPolicy = ValidationPolicy(), **given: object) -> list[str]:  # noqa: B008
    found = validate_event(received(**given), policy)  # type: ignore[arg-type]
    assert not isinstance(found, Event), found
    return [fault.code for fault in found]


def test_the_example_event_is_normalised() -> None:
    event = accepted(
        event_type="play",
        region="us-ca",
        is_eu=False,
        ip_address="::ffff:8.8.8.8",
        subscription_plan="Premium",
        extra_metadata='{ "app_version": "1.2.3" }',
        amount=9.99,
        purpose="Analytics",
        error_code="",
    )
    assert event == Event(
        event_id="evt_20260116_001",
        tenant_id="default",
        user_id="user_42",
        device_id="tv_lg_abc123",
        content_id="movie_987",
        event_type="PLAY",
        timestamp=1_768_566_896_000,
        received_at=NOW_MS,
        region="US",
        subdivision="US-CA",
        is_eu=False,
        has_consent=False,
        ip_address="8.8.8.8",
        subscription_plan="premium",
        extra_metadata='{"app_version":"1.2.3"}',
        purpose="analytics",
        amount=9.99,
        origin=Origin(partition=3, offset=7),
    )


def test_a_batch_keeps_order_and_names_positions() -> None:
    outputs = validate_events([received(event_id="a"), received(region="nowhere"), received(event_id="c")], {}, 0)
    assert [case.event.event_id for case in outputs.cases] == ["a", "c"]
    assert outputs.rejects == [Rejected(1, (Fault("region-invalid", "region is no ISO 3166 code"),))]
    assert outputs.changes == {}
    assert outputs.emits == []


def test_all_faults_are_found_at_once() -> None:
    assert codes(
        key=None,
        size_bytes=10**6,
        event_id=" ",
        user_id="a\x00b",
        device_id="d" * 256,
        event_type="dance",
        timestamp="yesterday",
        region="Germany",
        ip_address="010.1.1.1",
        extra_metadata="{",
        amount=-1.0,
        tenant_id="a b",
    ) == [
        "null-key",
        "too-large",
        "id-empty",
        "id-control-characters",
        "field-too-long",
        "unknown-event-type",
        "timestamp-invalid",
        "region-invalid",
        "ip-invalid",
        "metadata-not-json",
        "amount-invalid",
        "tenant-invalid",
    ]


def test_faults_do_not_repeat_what_was_sent() -> None:
    faults = validate_event(received(user_id="secret\x00", region="secret", ip_address="secret", event_type="secret"))
    assert isinstance(faults, tuple)
    assert "secret" not in str(faults)


def test_policy_opens_what_is_closed() -> None:
    open_policy = ValidationPolicy(accept_null_keys=True, accept_unknown_types=True, inspect_attacks=False)
    event = accepted(open_policy, key=None, event_type="dance", content_id="1 union select 1")
    assert event.event_type == "UNKNOWN"
    assert event.warnings == ("event-type-unknown",)


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [
        (0, "ok"),
        (300, "ok"),
        (301, "timestamp-in-future"),
        (-3600, "ok"),
        (-3601, "late"),
        (-366 * 86400, "late"),
        (-366 * 86400 - 1, "timestamp-too-old"),
    ],
)
def test_skew_is_measured_against_the_broker(seconds: int, outcome: str) -> None:
    found = validate_event(received(timestamp=NOW_MS + 1000 * seconds))
    if isinstance(found, Event):
        assert found.warnings == (() if outcome == "ok" else (outcome,))
        assert found.timestamp == NOW_MS + 1000 * seconds
    else:
        assert [fault.code for fault in found] == [outcome]


@pytest.mark.parametrize(
    ("timestamp", "code"),
    [
        (0, "timestamp-too-old"),
        (-5, "timestamp-too-old"),
        (2**63 - 1, "timestamp-in-future"),
        ("9999-12-31T23:59:59Z", "timestamp-in-future"),
    ],
)
def test_absurd_times_are_refused(timestamp: int | str, code: str) -> None:
    assert codes(timestamp=timestamp) == [code]
    assert codes(ValidationPolicy(max_age_days=10**6), timestamp=946_684_799_999) == ["timestamp-too-old"]


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ("{}x", "metadata-not-json"),
        ('{"a":NaN}', "metadata-not-json"),
        ('{"a":"\ud800"}', "metadata-not-json"),
        ("[1]", "metadata-not-object"),
        ('"a"', "metadata-not-object"),
        ('{"a":' * 17 + "1" + "}" * 17, "metadata-too-deep"),
        ('{"a":' * 100 + "1" + "}" * 100, "metadata-too-deep"),
        ("{" + ",".join(f'"k{i}":1' for i in range(257)) + "}", "metadata-too-many-keys"),
        ('{"a":[{"b":{' + ",".join(f'"k{i}":1' for i in range(255)) + "}}]}", "metadata-too-many-keys"),
    ],
)
def test_bad_metadata_is_refused(metadata: str, code: str) -> None:
    assert codes(extra_metadata=metadata) == [code]


@pytest.mark.parametrize("levels", [100, 100_000])
def test_deep_nesting_does_no_harm(levels: int) -> None:
    for text in ("[" * levels, '{"a":' * levels, '{"a":' * levels + "1" + "}" * levels):
        assert "metadata-too-deep" in codes(extra_metadata=text)


def test_large_metadata_is_refused_and_the_limits_are_inclusive() -> None:
    assert codes(extra_metadata='{"a":"' + "x" * 16_377 + '"}') == ["metadata-too-large"]
    assert accepted(extra_metadata='{"a":"' + "x" * 16_376 + '"}').extra_metadata is not None
    assert codes(extra_metadata='{"a":"' + "é" * 9_000 + '"}') == ["metadata-too-large"]
    assert accepted(extra_metadata='{"a":' * 16 + "1" + "}" * 16).extra_metadata is not None
    assert accepted(extra_metadata='{"a":"' + "{[" * 50 + '\\"{"}').extra_metadata is not None
    assert accepted(extra_metadata='{"a":"' + ":" * 300 + '"}').extra_metadata is not None


@pytest.mark.parametrize("metadata", ["", "  ", "null", None])
def test_no_metadata(metadata: str | None) -> None:
    assert accepted(extra_metadata=metadata).extra_metadata is None


def test_metadata_is_sanitised_and_written_anew() -> None:
    event = accepted(extra_metadata='{"a":"x\\u0000y","k\\u0007":["e\u0301", 1],"d":1,"d":2}')
    assert event.extra_metadata == '{"a":"xy","k":["é",1],"d":2}'
    assert event.warnings == ("controls-removed",)
    assert accepted(extra_metadata='{"a":"b\\\\c"}').warnings == ()


@pytest.mark.parametrize(("amount", "ok"), [(0.0, True), (1e9, True), (1.1e9, False), (-0.01, False), (math.nan, False), (math.inf, False)])
def test_amount(amount: float, ok: bool) -> None:
    assert isinstance(validate_event(received(amount=amount)), Event) is ok


def test_text_is_cleaned_and_cut() -> None:
    event = accepted(content_id=" A\x00 film\n title ", error_code="e" * 2000, purpose="barter", user_agent="\x07")
    assert event.content_id == "A film  title"
    assert len(event.error_code or "") == 1024
    assert event.user_agent is None
    assert set(event.warnings) == {"controls-removed", "truncated-text", "purpose-unknown"}
    assert accepted(content_id="<b>Tom & Jerry's</b>").content_id == "<b>Tom & Jerry's</b>"


def test_tokens_are_never_cut() -> None:
    assert codes(session_id="s" * 1025, consent_string="c" * 8193) == ["field-too-long", "field-too-long"]
    assert codes(payment_token="a\u202eb") == ["id-control-characters"]
    assert accepted(user_id=" u1 ", session_id="").user_id == "u1"


def test_warnings_of_place_and_address() -> None:
    assert accepted(is_eu=False).warnings == ("eu-claim-differs",)
    assert accepted(ip_address="192.168.0.1").warnings == ("ip-not-global",)
    event = accepted(region="EU")
    assert (event.region, event.is_eu, event.warnings) == ("ZZ", True, ("region-unknown",))
    event = accepted(region="", is_eu=True)
    assert (event.region, event.is_eu, event.warnings) == ("ZZ", False, ("region-unknown", "eu-claim-differs"))


def test_attacks_are_named_by_field_and_not_by_content() -> None:
    found = validate_event(received(user_id="x' or 1=1 --", extra_metadata='{"q":{"t":"<script>alert(1)</script>"}}'))
    assert found == (Fault("attack-sql-injection", "found in user_id"), Fault("attack-xss", "found in extra_metadata.q.t"))
    assert codes(size_bytes=10**6, content_id="<script>alert(1)</script>") == ["too-large"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PLAY", "PLAY"),
        ("login_failed", "LOGIN_FAILED"),
        ("Login-Failed", "LOGIN_FAILED"),
        (" data access ", "DATA_ACCESS"),
        ("unknown", None),
        ("", None),
    ],
)
def test_event_types(text: str, expected: str | None) -> None:
    assert domain.parse_event_type(text) == expected


@pytest.mark.parametrize(
    ("value", "ms", "warning"),
    [
        (1_768_566_896_123, 1_768_566_896_123, None),
        (1_768_566_896, 1_768_566_896_000, "timestamp-unit"),
        (1_768_566_896_123_456, 1_768_566_896_123, "timestamp-unit"),
        (1_768_566_896_123_456_789, 1_768_566_896_123, "timestamp-unit"),
        ("1768566896123", 1_768_566_896_123, None),
        ("1768566896.5", 1_768_566_896_500, "timestamp-unit"),
        ("2026-01-16T12:34:56Z", 1_768_566_896_000, None),
        ("2026-01-16t12:34:56.789123z", 1_768_566_896_789, None),
        ("2026-01-16T18:04:56+05:30", 1_768_566_896_000, None),
        ("20260116T123456Z", 1_768_566_896_000, None),
        ("2026-W03-5T12:34:56Z", 1_768_566_896_000, None),
        ("2026-01-16 12:34:56", 1_768_566_896_000, "timestamp-no-offset"),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000, None),
        ("2016-12-31T23:59:60.5Z", 1_483_228_800_000, None),
        ("20161231T235960Z", 1_483_228_800_000, None),
    ],
)
def test_timestamps(value: int | str, ms: int, warning: str | None) -> None:
    assert domain.parse_timestamp(value) == domain.Instant(ms, warning)


@pytest.mark.parametrize(
    "text",
    ["", "nope", "2026-13-01", "2026-01-16T25:00:00Z", "٢٠٢٦-01-16", "2026-01-16X12:00", "12.5", "1" * 65, "2026-01-16T12:34:56+25:00"],
)
def test_texts_that_are_no_time(text: str) -> None:
    assert domain.parse_timestamp(text) is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("NL", domain.Place("NL", None, True)),
        ("nl", domain.Place("NL", None, True)),
        ("no", domain.Place("NO", None, True)),
        ("CH", domain.Place("CH", None, False)),
        ("RE", domain.Place("RE", None, True)),
        ("XK", domain.Place("XK", None, False)),
        ("us_ca", domain.Place("US", "US-CA", False)),
        ("US-ZZ", domain.Place("US", None, False, ("subdivision-unknown",))),
        ("uk", domain.Place("GB", None, False, ("region-alias",))),
        ("UK-ENG", domain.Place("GB", "GB-ENG", False, ("region-alias",))),
        ("EL", domain.Place("GR", None, True, ("region-alias",))),
        ("deu", domain.Place("DE", None, True, ("region-alias",))),
        ("eu", domain.Place("ZZ", None, True, ("region-unknown",))),
        ("T1", domain.Place("ZZ", None, False, ("region-unknown",))),
        ("Germany", None),
        ("QX", None),
        ("US-", None),
        ("EU-1", None),
        ("USA-CA", None),
        ("far too long a region", None),
    ],
)
def test_regions(text: str, place: domain.Place | None) -> None:
    assert domain.parse_region(text) == place


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8.8.8.8", domain.Address("8.8.8.8", True)),
        (" 8.8.8.8 ", domain.Address("8.8.8.8", True)),
        ("10.0.0.1", domain.Address("10.0.0.1", False)),
        ("224.0.0.1", domain.Address("224.0.0.1", False)),
        ("2A00:1450:4001:0:0:0:0:1", domain.Address("2a00:1450:4001::1", True)),
        ("::ffff:8.8.8.8", domain.Address("8.8.8.8", True)),
        ("fe80::1%eth0", None),
        ("010.1.1.1", None),
        ("1.2.3.4:80", None),
        ("1.2.3.4, 5.6.7.8", None),
        ("256.1.1.1", None),
        ("1", None),
        ("", None),
    ],
)
def test_addresses(text: str, address: domain.Address | None) -> None:
    assert domain.parse_ip(text) == address


def test_nesting_counts_only_brackets_outside_strings() -> None:
    assert not domain.nests_deeper_than('{"a":"[[[["}', 2)
    assert domain.nests_deeper_than("[[]]", 1)
    assert not domain.nests_deeper_than("[],[],[]", 1)
    assert not domain.nests_deeper_than('"[[[[', 2)


def test_sanitise_leaves_good_text_alone() -> None:
    assert sanitise.clean_text("Amélie <3 & 'co'", 100) == sanitise.Cleaned("Amélie <3 & 'co'", False, False)
    assert sanitise.clean_text("a\u202eb", 9) == sanitise.Cleaned("ab", True, False)
    assert sanitise.clean_text("a\u00a0b", 9).text == "a\u00a0b"
    assert sanitise.normal_form("e\u0301") == "é"
    assert sanitise.has_controls("a\tb")
    assert not sanitise.has_controls("a\u00a0b")
    assert sanitise.clean_json({"a\x01": ["\x02b", 1, None, True, 1.5]}) == {"a": ["b", 1, None, True, 1.5]}
