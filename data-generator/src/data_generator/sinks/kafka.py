"""Kafka: idempotent, acknowledged by all, keyed by owner as Java clients partition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import polars as pl
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from data_generator.faults.plan import Plan
from data_generator.messages import Delayed, Messages, messages_of
from data_platform_core.errors import ComponentFailed
from data_platform_core.layers import TOPICS
from data_platform_core.ledger.made import Unit


class KafkaSink:
    """Sends records to the entities' topics. The broker stamps the time of arrival."""

    def __init__(self, client: Mapping[str, Any], timeout_seconds: float = 60.0) -> None:
        self._bootstrap = client["bootstrap.servers"]
        self._timeout = timeout_seconds
        self._failed: list[KafkaError] = []
        self._producer = Producer(
            {
                **client,
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 20,
                "batch.size": 1_000_000,
                "partitioner": "murmur2_random",
                "delivery.report.only.error": True,
                "message.timeout.ms": int(timeout_seconds * 1000),
                "queue.buffering.max.messages": 500_000,
                "on_delivery": self._on_failure,
            }
        )
        self._check_topics()

    @property
    def prepare(self) -> Callable[[Unit, pl.DataFrame], Messages]:
        """Records become messages."""
        return messages_of

    @property
    def prepare_messages(self) -> Callable[[Unit, Messages], Messages]:
        """They are messages already."""
        return _as_they_are

    def check_faults(self, plan: Plan) -> None:
        """Kafka takes whatever there is."""

    def put(self, unit: Unit, prepared: Messages) -> None:
        """Hand the messages to the producer; waits where its queue is full."""
        self._put(unit.entity, zip(prepared.keys, prepared.values, strict=True))

    def put_delayed(self, entity: str, message: Delayed) -> None:
        """Hand over one message."""
        self._put(entity, [(message.key, message.value)])

    def _put(self, entity: str, messages: Iterable[tuple[bytes, bytes]]) -> None:
        topic, produce = TOPICS[entity], self._producer.produce
        for key, value in messages:
            while True:
                try:
                    produce(topic, value, key)
                    break
                except BufferError:  # the queue is full: the broker catches up, or the messages time out
                    self._producer.poll(1.0)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until the broker has acknowledged every record."""
        left = self._producer.flush(self._timeout)
        if left or self._failed:
            reason = str(self._failed[0]) if self._failed else "no answer in time"
            raise ComponentFailed(
                f"Kafka at {self._bootstrap} did not take {left + len(self._failed):,} records: {reason}; "
                "see `crm status`, then run the same command again: it goes on where it stopped"
            )

    def _on_failure(self, error: KafkaError | None, message: Message) -> None:
        if error:
            self._failed.append(error)

    def _check_topics(self) -> None:
        try:
            known = self._producer.list_topics(timeout=10).topics
        except KafkaException:
            raise ComponentFailed(
                f"no Kafka answers at {self._bootstrap}: start the stack with `crm up`, "
                "or set CRM_KAFKA_BOOTSTRAP to yours"
            ) from None
        missing = sorted(set(TOPICS.values()) - set(known))
        if missing:
            raise ComponentFailed(
                f"Kafka at {self._bootstrap} has no topic {', '.join(missing)}: `crm up` creates them"
            )


def _as_they_are(unit: Unit, messages: Messages) -> Messages:
    return messages
