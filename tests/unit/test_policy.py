"""The policy file: what is refused, what thresholds and weights come out, and that the documentation says the same."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from rules.policy import PolicyError, default_policy, read_policy
from rules.policy_tables import policy_tables, with_policy_tables

TEXT = resources.files("rules").joinpath("policy.toml").read_text("utf-8")
PAGE = Path(__file__).parents[2] / "docs" / "decisions.md"
POLICY = default_policy()


def changed(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "."),
        (changed("block_at = 0.85", ""), "block_at"),
        (changed("caution_at = 0.5", "caution_at = 1.5"), "caution_at"),
        (changed("caution_at = 0.5", "caution = 0.5"), "caution"),
        (changed("caution_at = 0.5", "caution_at = 0.85"), "below block_at"),
        (changed("max_threshold = 0.95", "max_threshold = 0.2"), "max_threshold"),
        (changed("min_threshold = 0.3 ", "min_threshold = 0.94 "), "brings the threshold for caution up"),
        (changed("MEDIUM = 0.2\n", "MEDIUM = 0.05\n"), "must rise with severity"),
        (changed("LOW = 0.1\n", ""), "needs LOW"),
        (changed("HIGH = 0.75\n", ""), "needs MEDIUM, HIGH"),
        (changed("HIGH = 0.75\n", "HIGH = 0.95\n"), "from MEDIUM to CRITICAL"),
        (changed("[sharing.kinds.email]", "[sharing.kinds.shoe]"), "shoe"),
        (changed("max_users = 24", "max_users = 4"), "still connects"),
        (changed("max_failed_users = 64", "max_failed_users = 4"), "max_failed_users"),
        (changed("refresh_s = 86_400", "refresh_s = 2_592_000"), "refresh_s"),
        (changed("max_users = 1_000", "max_users = 4"), "rings.min_users"),
        (changed('kind = "STEP_UP"', 'kind = "UNKNOWN"'), "not an action"),
        (changed('reasons = ["credential-stuffing*"]', "reasons = []"), "needs a reason"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        read_policy(text)


def test_all_contradictions_are_named_at_once() -> None:
    with pytest.raises(PolicyError, match=r"needs LOW.*; .*refresh_s"):
        read_policy(changed("refresh_s = 86_400", "refresh_s = 2_592_000").replace("LOW = 0.1\n", ""))


def test_a_missing_kind_is_refused() -> None:
    start, end = TEXT.index("[sharing.kinds.email]"), TEXT.index("[sharing.kinds.ip]")
    with pytest.raises(PolicyError, match="email is missing"):
        read_policy(TEXT[:start] + TEXT[end:])


def test_the_version_changes_with_the_text() -> None:
    assert read_policy(TEXT).version == POLICY.version
    assert read_policy(TEXT + "\n# a note\n").version != POLICY.version


def test_a_riskier_segment_is_never_treated_more_mildly() -> None:
    order = ("power", "normal", "inactive", "dormant", "suspicious")
    thresholds = [POLICY.decision.thresholds(segment) for segment in order]
    assert thresholds == sorted(thresholds, reverse=True)
    assert len(set(thresholds)) == len(order)


def test_thresholds_keep_their_bounds() -> None:
    policy = read_policy(changed("suspicious = -0.1", "suspicious = -0.45").replace("power = 0.05", "power = 0.4"))
    assert policy.decision.thresholds("suspicious")[0] == policy.decision.min_threshold
    assert policy.decision.thresholds("power")[1] == policy.decision.max_threshold
    assert policy.decision.thresholds("unheard-of") == (policy.decision.caution_at, policy.decision.block_at)


def test_a_weight_falls_with_the_number_of_users() -> None:
    address = POLICY.sharing.kinds["ip"]
    weights = [address.weight_of(count) for count in range(1, 30)]
    assert weights[:2] == [0.0, address.weight]
    assert weights[1:] == sorted(weights[1:], reverse=True)
    assert address.weight < POLICY.rings.strong_weight, "an address alone is no proof"
    assert address.weight_of(4) >= POLICY.rings.min_link_weight > address.weight_of(5)


def test_the_documentation_is_current() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_policy_tables(page, POLICY), "write `with_policy_tables(page, default_policy())` to docs/decisions.md"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="marks"):
        with_policy_tables("# A page", POLICY)


def test_the_tables_name_every_action_and_segment() -> None:
    tables = policy_tables(POLICY)
    assert all(rule.kind in tables for rule in POLICY.actions)
    assert all(f"| {segment} |" in tables for segment in POLICY.decision.segment_shift)


def test_spans_are_told_in_whole_units() -> None:
    tables = policy_tables(read_policy(changed("hold_s = 3_600", "hold_s = 45")))
    assert "| 45 s |" in tables
    assert "| 24 h |" in tables
