"""Whether the stream lives and lands what Kafka has; where it does not, it is started again."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console

from data_platform_core.checkpoints import stream_position
from data_platform_core.contracts import ENTITIES
from data_platform_core.errors import ComponentFailed
from data_platform_core.ledger.stores import kafka_ends
from data_platform_core.requests import running_seconds
from data_platform_core.settings import Settings
from data_platform_core.warehouse import connect
from home_server import stack
from home_server.processes import Processes

STREAM = "stream"
_LOOK_SECONDS = 2.0
_LONGEST_REQUEST_SECONDS = 3600.0
"""So long the application may be at a request, for which batches wait, before it is taken for stuck."""


class StreamStopped(ComponentFailed):
    """Somebody stopped the stream: it is not for a watch to start it."""


@dataclass(frozen=True)
class Place:
    """Where an entity's stream is, in messages of all partitions."""

    finished: int
    waiting: int


def watch(settings: Settings, console: Console, silent_seconds: float, most_waiting: int) -> None:
    """See that the stream lives and gets on; start it again where it died, or gets nowhere.

    Args:
        silent_seconds: how long messages may wait while no batch of their entity is finished.
        most_waiting: messages of an entity that may wait while batches are finished.

    Raises:
        StreamStopped: it was stopped by `crm down`, or never started.
        ComponentFailed: a store is out of reach, it does not start, or it gets on and does not keep up.
    """
    processes = Processes(settings.stack_dir)
    if processes.has_died(STREAM):
        _start_again(settings, console, "the stream died")
    elif processes.find(STREAM) is None:
        raise StreamStopped("the stream was stopped, or never started: `crm up stream` starts it")
    stuck = _stuck(settings, silent_seconds)
    if stuck:
        _start_again(settings, console, f"no batch of {', '.join(stuck)} was finished for {silent_seconds:.0f} s")
        stuck = _stuck(settings, silent_seconds)
        if stuck:
            raise ComponentFailed(
                f"the stream was started again and still finishes no batch of {', '.join(stuck)}: "
                "`crm logs stream` says at what it is"
            )
    behind = {entity: place.waiting for entity, place in _places(settings).items() if place.waiting > most_waiting}
    if behind:
        told = ", ".join(f"{waiting:,} messages of {entity}" for entity, waiting in behind.items())
        raise ComponentFailed(
            f"the stream gets on and does not keep up: {told} wait. Nothing is lost while Kafka keeps them; "
            "`crm maintenance --compact-only` helps where silver has many small files"
        )
    console.print("the stream lives and lands what Kafka has")


def _stuck(settings: Settings, silent_seconds: float) -> list[str]:
    """Entities of which messages wait and no batch is finished within a time; looks for as long as it is not clear."""
    first = _places(settings)
    left = [entity for entity, place in first.items() if place.waiting]
    deadline = time.monotonic() + silent_seconds
    while left and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        now = _places(settings)
        left = [entity for entity in left if now[entity].waiting and now[entity].finished <= first[entity].finished]
        if left and _is_at_a_request(settings):
            deadline = time.monotonic() + silent_seconds
    return left


def _is_at_a_request(settings: Settings) -> bool:
    with connect(settings) as connection:
        seconds = running_seconds(connection)
    return seconds is not None and seconds < _LONGEST_REQUEST_SECONDS


def _places(settings: Settings) -> dict[str, Place]:
    found = {}
    for entity in ENTITIES:
        ends, position = kafka_ends(settings, entity), stream_position(settings, entity)
        waiting = sum(max(0, end - position.get(partition, 0)) for partition, end in ends.items())
        found[entity] = Place(sum(position.values()), waiting)
    return found


def _start_again(settings: Settings, console: Console, why: str) -> None:
    console.print(f"{why}: it is started again")
    Processes(settings.stack_dir).end(STREAM)
    stack.up(settings, console, (STREAM,))
