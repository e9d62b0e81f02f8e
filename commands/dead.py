"""Dead letters: list them, show one, send them back to the topic they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from schemas.codec import Codec, DecodeError
from schemas.topics import ALL, Topic
from streams.admin import end_offsets
from streams.dead_letters import PREFIX, REASONS, attempt_of
from streams.publish import ProduceError, producer_config

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


def count_reasons(letters: Iterator[DeadRecord]) -> Counter[tuple[str, str, str]]:
    """How many letters there are by (topic, stage, reason); a letter with two reasons counts under both."""
    return Counter((one.topic.name, one.stage, reason) for one in letters for reason in one.reasons or ("unknown",))


def readable(letter: DeadRecord, codec: Codec) -> str:
    """The record as text where it can be decoded, else its first bytes in hexadecimal."""
    try:
        return repr(codec.decode(letter.value, letter.topic.record))
    except DecodeError as error:
        return f"{error}; bytes {(letter.value or b'')[:64].hex(' ')}{' …' if len(letter.value or b'') > 64 else ''}"


@dataclass(frozen=True, slots=True)
class Sent:
    """What a replay of dead letters did: sent back, and left because they had been tried too often."""

    sent: int
    left: int


def send_back(bootstrap_servers: str, letters: Iterator[DeadRecord], max_attempts: int = MAX_ATTEMPTS) -> Sent:
    """Produces letters to the topics they came from, bytes untouched; the count of attempts travels along.

    Letters stay on the dead-letter topic until its retention ends; one that is refused again is a new letter with one attempt more.

    Raises:
        ProduceError: Kafka did not take all of them.
    """
    producer = Producer(producer_config(bootstrap_servers))
    failed: list[str] = []
    sent = left = 0

    def note(error: KafkaError | None, message: Any) -> None:
        if error is not None:
            failed.append(error.str())

    for letter in letters:
        if letter.attempts >= max_attempts:
            left += 1
            continue
        kept = [(name, value) for name, value in letter.headers if not name.startswith(PREFIX)]
        producer.produce(letter.topic.name, letter.value, letter.key, headers=kept, on_delivery=note)
        producer.poll(0)
        sent += 1
    unsent = producer.flush(60.0)
    if failed or unsent:
        raise ProduceError(f"{len(failed) + unsent} of {sent} letters were not taken: {failed[0] if failed else 'no ack within 60 s'}")
    return Sent(sent, left)
