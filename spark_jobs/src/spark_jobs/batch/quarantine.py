"""Quarantined messages: read, mended, and put back once.

A mended message goes to its topic and takes the stream's way. Who was sent stands in
`ops.quarantine_replays`, begun before the sending and confirmed after it: what a crash leaves between is
sent again as it was, and settled by its key as any repeat.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import ValidationError

from data_platform_core.contracts import CONTRACTS, Part, Record
from data_platform_core.derive.fields import fields_of
from data_platform_core.errors import ComponentFailed
from data_platform_core.kafka import client_settings
from data_platform_core.layers import TOPICS
from data_platform_core.ledger.stores import open_table
from data_platform_core.settings import Settings

if TYPE_CHECKING:
    import psycopg
    from confluent_kafka import KafkaError

_MESSAGES_ON_THEIR_WAY = 10_000


@dataclass(frozen=True)
class Message:
    """A quarantined message: untouched bytes, coordinates, reason."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str

    @property
    def place(self) -> str:
        """Where it was, as commands take it: partition and offset, and before them what is no topic of the stream's."""
        place = f"{self.partition}:{self.offset}"
        return place if self.topic in TOPICS.values() else f"{self.topic}:{place}"


@dataclass(frozen=True)
class Replayed:
    """What became of the chosen messages."""

    sent: list[Message]
    there: list[Message]
    """sent before"""
    refused: list[tuple[Message, str]]
    """still against the contract, and why"""


def quarantined(settings: Settings, entity: str, columns: list[str] | None = None) -> pl.DataFrame:
    """The quarantine table of an entity, or some columns of it; empty where there is none yet."""
    table = open_table(settings, "quarantine", entity)
    if table is None:
        return pl.DataFrame(schema={"reason": pl.String, "arrived_at": pl.Datetime("us", "UTC")})
    frame = pl.from_arrow(table.to_pyarrow_table(columns=columns))
    assert isinstance(frame, pl.DataFrame)
    return frame


def chosen(rows: pl.DataFrame, reason: str | None, places: Iterable[str]) -> list[Message]:
    """The messages of a reason (a code, or `code:field`), or at some places, as `Message.place` names them."""
    wanted = set(places)
    found = []
    for row in rows.iter_rows(named=True):
        place = row["kafka_topic"], row["kafka_partition"], row["kafka_offset"]
        message = Message(*place, row["key"], row["value"], row["reason"])
        is_of_reason = reason is None or row["reason"] == reason or row["reason"].partition(":")[0] == reason
        if is_of_reason and (not wanted or message.place in wanted):
            found.append(message)
    return sorted(found, key=lambda message: (message.topic, message.partition, message.offset))


def mended(value: bytes | None, changes: Mapping[str, Any], drops: Iterable[str]) -> bytes:
    """A message's JSON with some fields set and others dropped.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        words = json.loads(value or b"")
    except RecursionError:
        raise ValueError("it is nested too deep to be mended: give its whole text by --value") from None
    if not isinstance(words, dict):
        raise ValueError("it is no JSON object: give its whole text by --value")
    kept = {name: one for name, one in words.items() if name not in set(drops)} | dict(changes)
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()


def refusal_of(contract: type[Record], value: bytes) -> str | None:
    """Why a message is against its contract, in words; None where it is not."""
    try:
        contract.read(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place + ': ' if place else ''}{first['msg']}"
    except UnicodeDecodeError:
        return "its bytes are no UTF-8"
    return None


def replay(
    settings: Settings,
    connection: psycopg.Connection,
    entity: str,
    mends: Iterable[tuple[Message, bytes]],
) -> Replayed:
    """Send mended messages to the entity's topic, each once.

    Raises:
        ComponentFailed: Kafka did not take them; what was begun is sent again by the same command.
    """
    from confluent_kafka import KafkaException, Producer

    contract = CONTRACTS[entity]
    done = Replayed([], [], [])
    begun, failures = 0, []
    producer = Producer(client_settings(settings) | {"enable.idempotence": True, "acks": "all"})

    def told(message: Message, error: KafkaError | None, _: object) -> None:
        if error:
            failures.append(f"{message.place}: {error.str()}")
        else:
            done.sent.append(message)

    for message, value in mends:
        why = refusal_of(contract, value)
        if why:
            done.refused.append((message, why))
        elif _begin(connection, entity, message, record_hash(contract, contract.read(value))):
            came = f"{message.topic}/{message.partition}/{message.offset}".encode()
            begun += 1
            if begun % _MESSAGES_ON_THEIR_WAY == 0:
                producer.flush(60)
            try:
                producer.produce(
                    TOPICS[entity], value, key=message.key, headers={"crm-replay-of": came},
                    on_delivery=partial(told, message),
                )  # fmt: skip
            except (KafkaException, BufferError) as error:
                failures.append(f"{message.place}: {error}")
        else:
            done.there.append(message)
    producer.flush(60)
    with connection.transaction():
        for message in done.sent:
            connection.execute(
                "update ops.quarantine_replays set state = 'sent', sent_at = now()"
                " where kafka_topic = %s and kafka_partition = %s and kafka_offset = %s",
                (message.topic, message.partition, message.offset),
            )
    if len(done.sent) < begun:
        raise ComponentFailed(
            f"Kafka at {settings.kafka_address} did not confirm {begun - len(done.sent)} of {begun} messages "
            f"({'; '.join(failures[:5]) or 'it does not answer'}): the same command sends them again"
        )
    return done


def _begin(connection: psycopg.Connection, entity: str, message: Message, digits: str) -> bool:
    """Say that a message is about to be sent; False where it was sent before."""
    place = (message.topic, message.partition, message.offset)
    with connection.transaction():
        row = connection.execute(
            "insert into ops.quarantine_replays as held"
            " (kafka_topic, kafka_partition, kafka_offset, entity, record_hash) values (%s, %s, %s, %s, %s)"
            " on conflict (kafka_topic, kafka_partition, kafka_offset)"
            " do update set record_hash = excluded.record_hash where held.state = 'begun' returning 1",
            (*place, entity, digits),
        ).fetchone()
    return row is not None


def record_hash(contract: type[Record], record: Record) -> str:
    """The hash of a record in canonical form: 32 hexadecimal digits."""
    import pyarrow as pa

    from data_platform_core.derive.arrow import arrow_schema
    from data_platform_core.derive.canonical import hashes_of_frame

    frame = pl.from_arrow(pa.Table.from_pylist([_values_of(record)], schema=arrow_schema(contract)))
    assert isinstance(frame, pl.DataFrame)
    high, low = hashes_of_frame(contract, frame).row(0)
    return f"{high:016x}{low:016x}"


def _values_of(part: Part) -> dict[str, Any]:
    """A record's values as they are; its own dump would spell times as text."""
    found = {field.name: getattr(part, field.name) for field in fields_of(type(part))}
    return {name: [_values_of(v) for v in value] if isinstance(value, list) else value for name, value in found.items()}
