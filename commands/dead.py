"""Dead letters: list them, show one, send them back to where they are tried again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from rules.domain import UNKNOWN_REGION
from schemas.codec import Case, Codec, DecodeError
from schemas.records import Event, RawEvent
from schemas.topics import ALL, CHECKED, LINKED, RAW, SCORED, VALID, Topic
from streams.admin import committed_offsets, end_offsets
from streams.chain import Message
from streams.dead_letters import PREFIX, REASONS, attempt_of
from streams.publish import ProduceError, producer_config

REPLAY_GROUP: Final = "usher-dead-replay"
"""Consumer group whose committed offsets say up to where letters were sent back; with a reason, `usher-dead-replay.<reason>`."""
FIRST_COUNTING_STAGE: Final = "check"
"""The stage that notes an event's id, and drops the same id for 24 hours."""
CUT: Final = "usher.value.cut"
"""Header of a letter whose value was too large to keep whole (`streams.dead_letters.storable`)."""
MAX_ATTEMPTS: Final = 3
"""A record that has died this often is not sent back unless that is asked for: something else has to change first."""


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A dead letter as it lies on its topic.

    Attributes:
        topic: the topic the record was refused on, not the dead-letter topic.
        partition, offset: where the letter lies on the dead-letter topic.
        timestamp_ms: when it was buried (Unix ms).
        reasons: documented codes.
        stage: who refused it.
        message: the reasons in words.
        attempts: how often it has been tried.
        key, value, headers: untouched.
    """

    topic: Topic
    partition: int
    offset: int
    timestamp_ms: int
    reasons: tuple[str, ...]
    stage: str
    message: str
    attempts: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def topic_called(name: str) -> Topic:
    """The topic with this name, with or without `.dlq`.

    Raises:
        KeyError: there is none.
    """
    return {topic.name: topic for topic in ALL}[name.removesuffix(".dlq")]


def read_dead(bootstrap_servers: str, topics: Sequence[Topic]) -> Iterator[DeadRecord]:
    """Every dead letter that lies on the topics now, oldest first within a partition.

    Raises:
        KafkaException: Kafka is away or refuses.
    """
    by_name = {topic.dead: topic for topic in topics}
    left = {(place.topic, place.partition): end for place, end in end_offsets(bootstrap_servers, by_name).items() if end > 0}
    if not left:
        return
    consumer = Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": "usher-dead", "enable.auto.commit": False, "auto.offset.reset": "earliest",
         "enable.partition.eof": True, "fetch.message.max.bytes": 10_000_000}
    )  # fmt: skip
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in left])
        while left:
            for message in consumer.consume(500, 1.0):
                error = message.error()
                place = (message.topic(), message.partition())
                if error is None:
                    if place in left and message.offset() < left[place]:
                        yield _dead(by_name[message.topic()], message)
                        if message.offset() == left[place] - 1:  # letters that come in meanwhile are the next call's
                            del left[place]
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.pop(place, None)
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()


def _dead(topic: Topic, message: Any) -> DeadRecord:
    headers = tuple((name, value) for name, value in message.headers() or () if value is not None)
    words = {name: value.decode(errors="replace") for name, value in headers}
    return DeadRecord(
        topic, message.partition(), message.offset(), message.timestamp()[1], tuple(filter(None, words.get(REASONS, "").split(","))),
        words.get(PREFIX + "stage", ""), words.get(PREFIX + "exception.message", ""), attempt_of(headers), message.key(), message.value(), headers,
    )  # fmt: skip


def count_reasons(letters: Iterable[DeadRecord]) -> Counter[tuple[str, str, str]]:
    """How many letters there are by (topic, stage, reason); a letter with two reasons counts under both."""
    return Counter((one.topic.name, one.stage, reason) for one in letters for reason in one.reasons or ("unknown",))


def readable(letter: DeadRecord, codec: Codec) -> str:
    """The record as text where it can be decoded, else its first bytes in hexadecimal."""
    try:
        return repr(codec.decode(letter.value, letter.topic.record))
    except DecodeError as error:
        return f"{error}; bytes {(letter.value or b'')[:64].hex(' ')}{' …' if len(letter.value or b'') > 64 else ''}"


def raw_again(event: Event) -> RawEvent:
    """A raw event that validation reads as this one, but for where and when it arrived."""
    fields = {name: getattr(event, name) for name in RawEvent.__struct_fields__}
    # Somewhere in the Union: validation keeps that in `is_eu` alone (see `rules.domain.parse_region`).
    nowhere = "EU" if event.region == UNKNOWN_REGION and event.is_eu else event.region
    return RawEvent(**{**fields, "region": event.subdivision or nowhere})


def way_back(letter: DeadRecord, codec: Codec) -> Message | str:
    """What to produce so that a letter is tried again, or why it cannot be.

    Most letters go back to the topic they were refused on, bytes untouched. Those of events that validation has passed cannot: they carry
    the origin of their raw event, and the user's later events have made every stage take that for a repeat (docs/adr/0003). What the
    first stage after validation could not decode enters anew as a raw event; what a later stage refused was already counted
    under its event id, so that it would be dropped as a gateway's retry.
    """
    topic, key, value = letter.topic, letter.key, letter.value
    if CUT in dict(letter.headers):
        return "only the beginning of its value was kept: the original lies where the letter's headers say"
    if topic in (VALID, CHECKED, SCORED, LINKED):
        if topic is not VALID or letter.stage != FIRST_COUNTING_STAGE:
            return f"{FIRST_COUNTING_STAGE} had counted the event before {letter.stage} refused it: sent again, it would be dropped as a repeat"
        try:
            case = codec.decode(value, topic.record)
        except DecodeError as error:
            return f"it can still not be read: {error.code}"
        if not isinstance(case, Case):
            raise TypeError(f"{topic.record} is not made of pieces")
        topic, key, value = RAW, case.event.user_id.encode(), codec.encode(raw_again(case.event))
    return Message(topic.name, key, value, [(name, value) for name, value in letter.headers if not name.startswith(PREFIX)])


@dataclass(slots=True)
class Resent:
    """What a replay of dead letters did.

    Attributes:
        sent: letters sent back.
        earlier: passed over, because an earlier replay took them.
        exhausted: left, because they had been tried too often.
        refused: left, because they cannot be sent back: how many by why.
    """

    sent: int = 0
    earlier: int = 0
    exhausted: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def replay_dead(
    bootstrap_servers: str, codec: Codec, topic: Topic, reason: str | None = None, max_attempts: int = MAX_ATTEMPTS, again: bool = False
) -> Resent:
    """Sends the letters of a topic back, each once: what an earlier call took is passed over, whether it went by this reason or by none.

    Up to where letters were taken is committed after Kafka has acked them all; a call that dies in between sends them again. Letters stay on
    the dead-letter topic until its retention ends; one that is refused again is a new letter with one attempt more.

    Args:
        reason: only letters with this reason; None: all.
        max_attempts: letters that have been tried so often are left.
        again: send what earlier calls took, too.

    Raises:
        KafkaException: Kafka is away or refuses.
        ProduceError: Kafka did not take all of them; nothing is committed.
    """
    letters = (one for one in read_dead(bootstrap_servers, [topic]) if reason is None or reason in one.reasons)
    done, taken = Resent(), _Taken(bootstrap_servers, topic)
    ends: dict[int, int] = {}
    with _Sender(bootstrap_servers) as send:
        for letter in letters:
            ends[letter.partition] = letter.offset + 1
            if not again and taken.earlier(letter):
                done.earlier += 1
            elif letter.attempts >= max_attempts:
                done.exhausted += 1
            else:
                message = way_back(letter, codec)
                if isinstance(message, str):
                    done.refused[message] += 1
                else:
                    send(message)
                    done.sent += 1
    taken.commit(reason, ends)
    return done


class _Taken:
    """Which letters of a topic earlier replays took.

    A replay takes every letter of its reason, or every letter, that lies below where it ended. So an offset for each reason and one for
    replays without a reason tell exactly what was taken, whatever order they came in.
    """

    def __init__(self, bootstrap_servers: str, topic: Topic) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._known: dict[str | None, Mapping[tuple[str, int], int]] = {}

    def earlier(self, letter: DeadRecord) -> bool:
        """Whether an earlier replay took the letter."""
        return any(letter.offset < self._end(reason, letter.partition) for reason in (None, *letter.reasons))

    def commit(self, reason: str | None, ends: Mapping[int, int]) -> None:
        """Notes that letters were taken up to `ends`, an offset a partition. Never goes back."""
        moved = [TopicPartition(self._topic.dead, part, end) for part, end in ends.items() if end > self._end(reason, part)]
        if not moved:
            return
        consumer = Consumer({"bootstrap.servers": self._bootstrap_servers, "group.id": _group(reason), "enable.auto.commit": False})
        try:
            for place in consumer.commit(offsets=moved, asynchronous=False) or ():
                if place.error is not None:
                    raise KafkaException(place.error)
        finally:
            consumer.close()

    def _end(self, reason: str | None, partition: int) -> int:
        if reason not in self._known:
            self._known[reason] = committed_offsets(self._bootstrap_servers, _group(reason))
        return self._known[reason].get((self._topic.dead, partition), 0)


def _group(reason: str | None) -> str:
    return REPLAY_GROUP if reason is None else f"{REPLAY_GROUP}.{reason}"


class _Sender:
    """Produces within a `with` block, at whose end every record is acked, or `ProduceError` is raised."""

    def __init__(self, bootstrap_servers: str, timeout_s: float = 60.0) -> None:
        self._producer = Producer(producer_config(bootstrap_servers))
        self._timeout_s = timeout_s
        self._sent = 0
        self._failed: list[str] = []

    def __enter__(self) -> Callable[[Message], None]:
        return self._send

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        unsent = self._producer.flush(self._timeout_s)
        if kind is None and (self._failed or unsent):
            why = self._failed[0] if self._failed else f"no ack within {self._timeout_s:.0f} s"
            raise ProduceError(f"{len(self._failed) + unsent} of {self._sent} letters were not taken: {why}")

    def _send(self, message: Message) -> None:
        while True:
            try:
                self._producer.produce(message.topic, message.value, message.key, headers=message.headers, on_delivery=self._note)
                break
            except BufferError:  # the local queue is full: let deliveries drain it
                self._producer.poll(0.1)
        self._sent += 1
        self._producer.poll(0)

    def _note(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failed.append(error.str())
