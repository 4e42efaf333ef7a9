"""Requests to the streaming application: rows in `ops.requests`, asked and waited for, carried out between batches.

The application is the only writer of the lake's tables; backfill, maintenance and forgetting are asked of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_platform_core.errors import ComponentFailed, CrmError

if TYPE_CHECKING:
    import psycopg

_NOT_TAKEN_SECONDS = 60.0
_LOOK_SECONDS = 5.0
_MOST_ATTEMPTS = 5


@dataclass(frozen=True)
class Request:
    """What is to be done."""

    id: int
    kind: str
    arguments: dict[str, Any]


def ask(connection: psycopg.Connection, kind: str, arguments: dict[str, Any]) -> int:
    """Ask for something; returns the request's number. The same, where it is still open, is not asked twice."""
    words = json.dumps(arguments, sort_keys=True)
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext('crm.requests'))")
        found = connection.execute(
            "select id from ops.requests where kind = %s and arguments = %s::jsonb and state in ('asked', 'running')",
            (kind, words),
        ).fetchone()
        found = (
            found
            or connection.execute(
                "insert into ops.requests (kind, arguments) values (%s, %s::jsonb) returning id", (kind, words)
            ).fetchone()
        )
    assert found is not None
    return int(found[0])


def wait(
    connection: psycopg.Connection,
    number: int,
    within_seconds: float,
    on_progress: Callable[[dict[str, Any]], None] = lambda progress: None,
    is_alive: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """Wait until a request is carried out; returns its result.

    Args:
        is_alive: whether there is an application to carry it out; asked every few seconds.

    Raises:
        ComponentFailed: the application does not take it, or not in time; the request stands.
        CrmError: it could not be done, and why.
    """
    started = lived_at = looked_at = time.monotonic()
    while True:
        row = connection.execute(
            "select state, progress, result, message from ops.requests where id = %s", (number,)
        ).fetchone()
        connection.commit()
        if row is None:
            raise CrmError(f"there is no request {number}")
        state, progress, result, message = row
        if progress:
            on_progress(progress)
        if state == "done":
            return dict(result or {})
        if state == "failed":
            raise CrmError(f"request {number} failed: {message}")
        waited = time.monotonic() - started
        if state == "asked" and waited > _NOT_TAKEN_SECONDS and running_seconds(connection) is None:
            raise ComponentFailed(
                f"request {number} was not taken up within {waited:.0f} s: does the streaming application run? "
                "`crm status` tells, `crm up stream` starts it; the request stands, and is carried out then"
            )
        if time.monotonic() - looked_at > _LOOK_SECONDS:
            looked_at = time.monotonic()
            lived_at = looked_at if is_alive() else lived_at
        if time.monotonic() - lived_at > _NOT_TAKEN_SECONDS:
            raise ComponentFailed(
                f"nobody is at request {number}: the streaming application has ended. `crm status` tells, "
                "`crm up stream` starts it; the request stands, and is carried out then"
            )
        if waited > within_seconds:
            raise ComponentFailed(
                f"request {number} is not done after {waited:.0f} s; it goes on, and `crm requests` shows it"
            )
        time.sleep(0.5)


def running_seconds(connection: psycopg.Connection) -> float | None:
    """How long the application has been at the request that it carries out; None where it is at none."""
    row = connection.execute(
        "select extract(epoch from now() - min(started_at)) from ops.requests where state = 'running'"
    ).fetchone()
    return float(row[0]) if row and row[0] is not None else None


def requeue_interrupted(connection: psycopg.Connection) -> None:
    """Put back what an application that ended had begun; what it ended at time and again has failed."""
    with connection.transaction():
        connection.execute(
            "update ops.requests set state = 'failed', ended_at = now(),"
            " message = 'it was begun ' || attempts || ' times and broken off; the stream''s log may say why'"
            " where state = 'running' and attempts >= %s",
            (_MOST_ATTEMPTS,),
        )
        connection.execute("update ops.requests set state = 'asked' where state = 'running'")


def claim_next(connection: psycopg.Connection) -> Request | None:
    """The oldest request that nobody has taken, taken; None where there is none."""
    with connection.transaction():
        row = connection.execute(
            "update ops.requests set state = 'running', started_at = now(), attempts = attempts + 1 where id ="
            " (select min(id) from ops.requests where state = 'asked') returning id, kind, arguments"
        ).fetchone()
    return Request(int(row[0]), str(row[1]), dict(row[2])) if row else None


def report(connection: psycopg.Connection, number: int, progress: dict[str, Any]) -> None:
    """Say how far a request is."""
    with connection.transaction():
        connection.execute("update ops.requests set progress = %s::jsonb where id = %s", (json.dumps(progress), number))


def finish(connection: psycopg.Connection, number: int, result: dict[str, Any]) -> None:
    """Say that a request is done."""
    with connection.transaction():
        connection.execute(
            "update ops.requests set state = 'done', ended_at = now(), result = %s::jsonb where id = %s",
            (json.dumps(result), number),
        )


def fail(connection: psycopg.Connection, number: int, message: str) -> None:
    """Say that a request cannot be done, and why."""
    with connection.transaction():
        connection.execute(
            "update ops.requests set state = 'failed', ended_at = now(), message = %s where id = %s", (message, number)
        )


def scrub(connection: psycopg.Connection, customer_id: str, arguments: dict[str, Any]) -> None:
    """Replace what requests said of a customer: a forgotten one's id stays in none, nor in those that failed."""
    with connection.transaction():
        connection.execute(
            "update ops.requests set arguments = %s::jsonb where arguments ->> 'customer_id' = %s",
            (json.dumps(arguments), customer_id),
        )
