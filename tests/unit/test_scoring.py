from __future__ import annotations

import random
import struct
from dataclasses import replace

import pytest

from agents.scoring import MAX_REASONS, learn_feedback, new_memory, score_events
from agents.step import user_key
from models.ensemble import Ensemble, EnsembleConfig
from schemas.codec import Case, Codec
from schemas.records import Feedback, Score
from tables.features import FEATURE_VERSION, FEATURES
from tables.profile import Profile, decode, encode
from tests.scoring_samples import DAY_S, case, event, settled

KEY = user_key("default", "u1")
QUICK = EnsembleConfig(
    epoch=32, first_fit=64, reservoir=128, trees=8, samples=64, neighbours=10, references=64, hst_trees=4, hst_height=4, hst_window=64
)


def memory() -> Ensemble:
    return Ensemble(len(FEATURES), QUICK, feature_version=FEATURE_VERSION)


def traffic(count: int, users: int = 12) -> list[Case]:
    rng = random.Random(3)
    cases = []
    at_s = 0.0
    for number in range(count):
        at_s += rng.expovariate(1 / 20)
        kind = rng.choice(("PLAY", "HEARTBEAT", "HEARTBEAT", "STOP", "SEARCH", "LOGIN", "LOGIN_FAILED", "ERROR", "PURCHASE"))
        user = rng.randrange(users)
        strange = number % 90 == 89
        address = f"198.51.{rng.randrange(99)}.4" if strange else f"203.0.{user}.10"
        region = "BR" if strange else "NL"
        device = f"odd{number}" if strange else f"tv{user}"
        cases.append(
            case(
                event(
                    at_s,
                    kind,
                    user_id=f"u{user}",
                    device_id=device,
                    ip_address=address,
                    region=region,
                    event_id=f"e{number}",
                    offset=number,
                )
            )
        )
    return cases


def run(cases: list[Case], sizes: list[int]) -> tuple[list[Score | None], dict[str, bytes]]:
    """Scores in batches of the given sizes, state going through its bytes as it does in a table."""
    state: dict[str, bytes] = {}
    models = memory()
    scores: list[Score | None] = []
    start = 0
    for size in sizes:
        out = score_events(cases[start : start + size], {key: decode(data) for key, data in state.items()}, 5, memory=models)
        state |= {key: encode(profile) for key, profile in out.changes.items() if profile is not None}
        scores += [one.score for one in out.cases]
        start += size
    return scores, state


def test_results_do_not_depend_on_batches() -> None:
    cases = traffic(600)
    whole = run(cases, [600])
    assert run(cases, [1] * 40 + [100, 200, 7, 253]) == whole
    assert len(whole[0]) == 600


def test_a_score_is_whole_and_survives_the_log() -> None:
    scores, _ = run(traffic(600), [256, 256, 88])
    codec = Codec()
    for score, one in zip(scores, traffic(600), strict=True):
        assert score is not None
        assert 0.0 <= score.risk <= 1.0
        assert len(score.features) == len(FEATURES)
        assert len(score.reasons) <= MAX_REASONS
        shares = [reason.contribution for reason in score.reasons]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) <= score.risk + 1e-5
        assert score.members.rules is not None
        case_ = Case(one.event, one.compliance, score)
        read = codec.decode(codec.encode_case(case_, "ott.ScoredEvent"))
        assert isinstance(read, Case)
        assert read.score == score  # 32-bit numbers: the next stage sees what this one decided
    assert scores[0] is not None
    assert scores[-1] is not None
    assert scores[0].members.half_space_trees is None
    assert scores[-1].members.half_space_trees is not None
    assert any(reason.code.startswith("unusual-") for score in scores if score for reason in score.reasons)


def test_the_state_is_keyed_by_tenant_and_user() -> None:
    ours, theirs = case(event(0)), case(event(1, tenant_id="other"))
    out = score_events([ours, theirs], {}, 5, memory=memory())
    assert set(out.changes) == {KEY, user_key("other", "u1")}
    assert out.cases[0].parts == (b"event", b"compliance")
    assert out.cases[0].score is not None
    assert out.cases[0].score.scored_at == 5


def test_repeats_count_once() -> None:
    models = memory()
    one = event(0)
    first = score_events([case(one), case(one)], {}, 5, memory=models)
    assert (len(first.cases), first.repeats) == (1, 1)
    profile = first.changes[KEY]
    assert profile is not None
    second = score_events([case(one)], {KEY: profile}, 6, memory=models)
    assert (second.cases, second.changes, second.repeats) == ([], {}, 1)
    assert models.events == 1


def test_processing_time_decides_nothing() -> None:
    one, other = (score_events([case(event(0, offset=1))], {}, now, memory=memory()) for now in (1, 10**15))
    assert one.cases[0].score is not None
    assert other.cases[0].score is not None
    assert replace(one.cases[0], score=None) == replace(other.cases[0], score=None)
    assert (one.cases[0].score.risk, one.cases[0].score.features) == (other.cases[0].score.risk, other.cases[0].score.features)


def attack() -> list[Case]:
    thief = {"device_id": "thief", "ip_address": "198.51.100.7", "region": "BR"}
    at_s = 10 * DAY_S
    events = [
        event(at_s, "LOGIN_FAILED", **thief),
        event(at_s + 30, "LOGIN", **thief),
        event(at_s + 60, "ACCOUNT_CHANGE", event_id="hit", **thief),
    ]
    return [case(one) for one in events]


def test_alarms_and_feedback() -> None:
    models = new_memory()
    out = score_events(attack(), {KEY: settled()}, 5, memory=models)
    profile = out.changes[KEY]
    assert profile is not None
    assert len(profile.alarms_s) == 2
    score = out.cases[-1].score
    assert score is not None
    assert score.risk > 0.6
    assert score.segment == "suspicious"
    assert score.reasons[0].code == "takeover"
    assert score.reasons[0].contribution == struct.unpack("<f", struct.pack("<f", score.reasons[0].contribution))[0]
    verdict = Feedback(event_id="hit", tenant_id="default", user_id="u1", label="false_positive", analyst="a", given_at=1)
    learned = learn_feedback([verdict, verdict], {KEY: profile}, 6, memory=models)
    cleared = learned.changes[KEY]
    assert cleared is not None
    assert cleared.alarms_s == []
    assert models.metrics.by_member["rules"].false_positives == 1
    assert models.metrics.unmatched == 1


@pytest.mark.parametrize("label", ["true_positive", "takeover", "false_positive"])
def test_feedback_on_unknown_users_and_true_positives_changes_no_state(label: str) -> None:
    verdict = Feedback(event_id="x", tenant_id="default", user_id="u1", label=label, analyst="a", given_at=1)
    assert learn_feedback([verdict], {}, 6, memory=new_memory()).changes == {}
    quiet = {KEY: Profile()}
    assert learn_feedback([verdict], quiet, 6, memory=new_memory()).changes == {}
