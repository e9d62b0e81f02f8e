"""Whether Kafka serves a consumer, for readiness; and what the client complains of, for the log, without its repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog
from confluent_kafka import KafkaException, TopicPartition

from streams.sinks.consumer import Consumer

log: Final = structlog.get_logger("usher.sink")

LOOK_EVERY_S: Final = 5.0
LOOK_AGAIN_S: Final = 1.0
"""Between looks while Kafka does not answer, so that its return shows soon."""
ANSWER_WITHIN_S: Final = 1.0
QUIET_S: Final = 60.0
"""How long the same complaint is not logged again."""


class KafkaWatch:
    """Watches one consumer's Kafka by asking the group's coordinator every few seconds: librdkafka tells when all brokers are
    gone, but neither that one hangs nor that one is back, and a quiet topic's consumer hears nothing either way.

    Args:
        sink: name in logs.
        consumer: the consumer.
        topic: some topic it reads.
        patience_s: how long Kafka may be silent before it is called away; the session timeout, after which the group gives the
            partitions to others.
        clock: monotonic seconds.
    """

    def __init__(self, sink: str, consumer: Consumer, topic: str, patience_s: float, clock: Callable[[], float]) -> None:
        self._sink = sink
        self._consumer = consumer
        self._asked = [TopicPartition(topic, 0)]
        self._patience_s = patience_s
        self._clock = clock
        self._answered_at = clock()
        self._look_at = self._answered_at + LOOK_EVERY_S
        self._silent = ""
        self._out = "joining the group"
        self._logged: dict[tuple[str, int], float] = {}

    @property
    def away(self) -> str:
        """Why nothing can come from Kafka now; empty while it can."""
        return self._silent or self._out

    def joined(self) -> None:
        """The group has given its partitions, which may be none."""
        self._out = ""

    def lost(self) -> None:
        """The group went on without this member."""
        self._out = "lost its partitions, joining the group again"

    def look(self) -> None:
        """Asks Kafka where it is time to; takes up to `ANSWER_WITHIN_S` while Kafka is away, and a millisecond or so otherwise."""
        if self._clock() < self._look_at:
            return
        try:
            self._consumer.committed(self._asked, timeout=ANSWER_WITHIN_S)
        except KafkaException as error:
            silent_s = self._clock() - self._answered_at
            if silent_s > self._patience_s:
                self._say(f"Kafka does not answer: {error.args[0].name()}")
            self._look_at = self._clock() + LOOK_AGAIN_S
        else:
            self._say("")
            self._answered_at = self._clock()
            self._look_at = self._answered_at + LOOK_EVERY_S

    def complain(self, about: str | None, error: Any) -> None:
        """Logs an error of the client, once a minute for each topic and code: the texts hold times and never repeat.

        Args:
            about: topic, or what was tried.
            error: `confluent_kafka.KafkaError`.
        """
        kind, now = (about or "", error.code()), self._clock()
        if now >= self._logged.get(kind, now):
            self._logged[kind] = now + QUIET_S
            log.warning("kafka", sink=self._sink, about=about, code=error.name(), cause=error.str())

    def _say(self, silent: str) -> None:
        if silent and not self._silent:
            log.warning("kafka is away", sink=self._sink, cause=silent)
        elif self._silent and not silent:
            log.info("kafka is back", sink=self._sink)
        self._silent = silent
