from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from agents.step import Received
from agents.validation import ValidationPolicy, validate_event, validate_events
from rules import domain, sanitise
from rules.faults import CATALOGUE
from rules.inspect import inspect
from schemas.records import Event, Origin, RawEvent

NOW_MS = 1_768_566_900_000
MOMENTS = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1))
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TEXTS = st.text(max_size=60)

RAW_EVENTS = st.builds(
    RawEvent,
    event_id=TEXTS,
    user_id=TEXTS,
    device_id=TEXTS,
    content_id=TEXTS,
    event_type=st.sampled_from(["PLAY", "login", "x"]) | TEXTS,
    timestamp=st.integers(-(2**63), 2**63 - 1) | st.integers(NOW_MS - 10**7, NOW_MS) | TEXTS,
    region=st.sampled_from(["NL", "us-ca", "EU", ""]) | TEXTS,
    is_eu=st.booleans(),
    has_consent=st.booleans(),
    ip_address=st.sampled_from(["8.8.8.8", "::1"]) | TEXTS,
    subscription_plan=st.none() | TEXTS,
    error_code=st.none() | TEXTS,
    extra_metadata=st.none() | TEXTS | st.sampled_from(['{"a":1}', "[]", "{", '{"a":"\\u0000"}']),
    payment_token=st.none() | TEXTS,
    email_hash=st.none() | TEXTS,
    user_agent=st.none() | TEXTS,
    session_id=st.none() | TEXTS,
    purpose=st.none() | TEXTS,
    consent_string=st.none() | TEXTS,
    amount=st.none() | st.floats(),
    tenant_id=st.none() | st.just("acme") | TEXTS,
)
RECEIVED = st.builds(
    Received, RAW_EVENTS, st.just(Origin(partition=0, offset=1)), st.just(NOW_MS), st.none() | st.binary(max_size=9), st.integers(0, 10**6)
)


@given(RECEIVED)
def test_every_event_ends_in_one_place_with_documented_codes(received: Received) -> None:
    found = validate_event(received)
    if isinstance(found, Event):
        assert set(found.warnings) <= {code for code, reason in CATALOGUE.items() if reason.effect == "warn"}
        assert found.event_id
        assert not sanitise.has_controls(found.user_id + found.content_id + (found.user_agent or ""))
    else:
        assert found
        assert {fault.code for fault in found} <= {code for code, reason in CATALOGUE.items() if reason.effect == "reject"}


@given(st.lists(RECEIVED, max_size=6), st.integers(0, 6))
def test_cutting_the_log_into_batches_changes_nothing(batch: list[Received], cut: int) -> None:
    whole = validate_events(batch, {}, 0)
    first, second = validate_events(batch[:cut], {}, 1), validate_events(batch[cut:], {}, 2)
    assert whole.cases == first.cases + second.cases
    assert [one.faults for one in whole.rejects] == [one.faults for one in first.rejects + second.rejects]
    assert len(whole.cases) + len(whole.rejects) == len(batch)


@given(RECEIVED)
def test_an_accepted_event_is_accepted_again_unchanged(received: Received) -> None:
    policy = ValidationPolicy(accept_null_keys=True)
    event = validate_event(received, policy)
    if not isinstance(event, Event):
        return
    again = RawEvent(
        **{name: getattr(event, name) for name in RawEvent.__struct_fields__ if name not in {"region", "is_eu"}},
        region=event.subdivision or event.region,
        is_eu=event.is_eu,
    )
    repeated = validate_event(received._replace(record=again), policy)
    assert isinstance(repeated, Event)
    ignored = {"warnings", "is_eu"}
    for name in Event.__struct_fields__:
        if name not in ignored:
            assert getattr(repeated, name) == getattr(event, name)


@given(MOMENTS, OFFSETS, st.sampled_from(["T", " ", "t"]))
def test_iso_8601_means_the_same_instant_in_every_offset(moment: datetime, offset: timezone, separator: str) -> None:
    moment = moment.replace(tzinfo=UTC)
    text = moment.astimezone(offset).isoformat(separator if separator != "t" else "T")
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    found = domain.parse_timestamp(text.lower() if separator == "t" else text)
    assert found == domain.Instant(expected)


@given(MOMENTS)
def test_numbers_in_any_unit_mean_the_same_instant(moment: datetime) -> None:
    seconds = int(moment.replace(tzinfo=UTC).timestamp())
    expected = seconds * 1000
    for value in (seconds, seconds * 1000, seconds * 10**6, seconds * 10**9, str(seconds), str(seconds * 1000)):
        found = domain.parse_timestamp(value)
        assert found is not None
        assert found.ms == expected


@given(st.ip_addresses())
def test_an_address_is_canonical_and_stable(address: IPv4Address | IPv6Address) -> None:
    found = domain.parse_ip(address.exploded)
    assert found is not None
    assert domain.parse_ip(found.text) == found


@given(st.text(alphabet='[]{}",:\\a1', max_size=80), st.integers(0, 5))
def test_depth_scan_agrees_with_a_plain_walk(text: str, limit: int) -> None:
    depth = deepest = 0
    inside = escaped = False
    for c in text:
        if inside:
            inside, escaped = (True, False) if escaped else (c != '"', c == "\\")
        elif c == '"':
            inside = True
        elif c in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif c in "]}":
            depth -= 1
    assert domain.nests_deeper_than(text, limit) == (deepest > limit)


@given(st.text(max_size=200), st.integers(1, 50))
def test_cleaning_is_idempotent_and_bounded(text: str, max_chars: int) -> None:
    once = sanitise.clean_text(text, max_chars).text
    assert len(once) <= max_chars
    assert sanitise.clean_text(once, max_chars).text == once


@given(st.text(max_size=300))
def test_inspection_takes_any_text(text: str) -> None:
    assert inspect(text).is_attack == bool(inspect(text).patterns)


@given(st.text(alphabet=st.characters(categories=["L", "Nd", "Zs"]), max_size=60).filter(lambda text: text.isascii()))
def test_words_and_numbers_alone_are_never_an_attack(text: str) -> None:
    keywords = {"union", "select", "or", "and", "drop", "insert", "delete", "update", "order", "group", "having", "limit", "like", "where"}
    if not keywords & set(text.lower().split()):
        assert not inspect(text).is_attack
