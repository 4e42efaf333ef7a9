"""What the streaming application reads and writes in the warehouse's schema `ops`."""

from __future__ import annotations

import json

import psycopg

from data_platform_core.settings import Settings
from data_platform_core.warehouse import connect as connect_as


def connect(settings: Settings) -> psycopg.Connection:
    """A connection as the publisher.

    Raises:
        ComponentFailed: the warehouse is out of reach.
    """
    return connect_as(settings)


def fingerprints(settings: Settings) -> list[str]:
    """The customers who were forgotten; asked before anything is landed, for none may come back.

    Raises:
        ComponentFailed: the warehouse is out of reach.
    """
    with connect(settings) as connection:
        return [row[0] for row in connection.execute("select fingerprint from ops.tombstones")]


def leave_tombstone(settings: Settings, fingerprint: str) -> None:
    """Say that a customer is forgotten from now on."""
    with connect(settings) as connection:
        connection.execute(
            "insert into ops.tombstones (fingerprint) values (%s) on conflict do nothing", (fingerprint,)
        )


def freed_in(settings: Settings, fingerprint: str, versions: dict[str, int]) -> None:
    """Say in which versions silver was freed of a customer."""
    with connect(settings) as connection:
        connection.execute(
            "update ops.tombstones set silver_versions = %s::jsonb where fingerprint = %s",
            (json.dumps(versions), fingerprint),
        )


def versions_freed(settings: Settings, fingerprint: str) -> dict[str, int] | None:
    """The versions in which silver was freed of a customer; None where it was not."""
    with connect(settings) as connection:
        row = connection.execute(
            "select silver_versions from ops.tombstones where fingerprint = %s", (fingerprint,)
        ).fetchone()
    return dict(row[0]) if row and row[0] else None


def purged(settings: Settings, fingerprint: str) -> None:
    """Say that no file holds a customer any more."""
    with connect(settings) as connection:
        connection.execute("update ops.tombstones set purged_at = now() where fingerprint = %s", (fingerprint,))


def note_forgotten(settings: Settings, entity: str, hashes: list[str]) -> None:
    """Keep the hashes of records that are taken out or kept out of silver; again is no harm."""
    if not hashes:
        return
    with connect(settings) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into ops.forgotten_records (entity, record_hash) values (%s, %s) on conflict do nothing",
            [(entity, one) for one in hashes],
        )


def publish_marks(settings: Settings) -> dict[str, int]:
    """Silver's version up to which each entity is published."""
    with connect(settings) as connection:
        return dict(connection.execute("select entity, version from ops.publish_marks").fetchall())
