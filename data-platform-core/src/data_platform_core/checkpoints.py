"""The stream's checkpoints in the lake, read without Spark: how far a query is, and whether it is whole.

A checkpoint has `metadata` (the query's id), `offsets/N` (what batch N takes; written before it runs)
and `commits/N` (written after it).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from data_platform_core.errors import CrmError
from data_platform_core.layers import TOPICS, checkpoint, recovered_start
from data_platform_core.s3 import lake_errors, names_below, read_object, s3_client
from data_platform_core.settings import Settings

_LINES_OF_OFFSETS = 3
"""A version, the batch's settings, and the offsets of its one source."""


class CheckpointBroken(CrmError):
    """A checkpoint is damaged, gone, or does not fit the tables; nothing is started on it."""

    def __init__(self, entity: str, what: str) -> None:
        super().__init__(
            f"the checkpoint of {entity} {what}: nothing is read on it, since records could be lost or doubled. "
            f"`crm stream recover {entity}` makes a new one that goes on from what bronze holds"
        )


@dataclass(frozen=True)
class Checkpoint:
    """How far a query is: the offset of each partition up to which its last finished batch went."""

    query_id: str
    planned: int
    """number of the last batch that was planned; -1: none"""
    finished: int
    """number of the last batch that was finished; -1: none"""
    position: dict[int, int]


@dataclass(frozen=True)
class Start:
    """Where a new checkpoint begins after a recovery: the next offset of each partition."""

    offsets: dict[int, int]
    bronze_version: int


def read_checkpoint(settings: Settings, entity: str) -> Checkpoint | None:
    """The checkpoint of an entity's stream; None where there is none.

    Raises:
        CheckpointBroken: it is damaged; says where.
        ComponentFailed: the store is out of reach.
    """
    address = checkpoint(settings.lake_root, entity)
    client = s3_client(settings)
    with lake_errors(settings):
        names = names_below(client, address)
        return _read(client, entity, address, names) if names else None


def _read(client: Any, entity: str, address: str, names: list[str]) -> Checkpoint:
    def lines(name: str) -> list[str]:
        found = read_object(client, f"{address}/{name}")
        if found is None:
            raise CheckpointBroken(entity, f"lacks {name}")
        try:
            text = found.decode()
            for line in text.splitlines()[name != "metadata" :]:
                if line.strip():
                    json.loads(line)
        except ValueError:
            raise CheckpointBroken(entity, f"is damaged in {name}") from None
        if not text.strip():
            raise CheckpointBroken(entity, f"is empty in {name}")
        return text.splitlines()

    def numbers(folder: str) -> list[int]:
        words = [name.rpartition("/")[2] for name in names if name.split("/")[-2] == folder]
        return sorted(int(word) for word in words if word.isdigit())

    planned, finished = numbers("offsets"), numbers("commits")
    try:
        query_id = str(json.loads("".join(lines("metadata")))["id"])
    except (KeyError, TypeError, ValueError):
        raise CheckpointBroken(entity, "is damaged in metadata") from None
    if not planned and not finished:
        return Checkpoint(query_id, -1, -1, {})
    last_planned, last_finished = max(planned, default=-1), max(finished, default=-1)
    if last_finished > last_planned:
        raise CheckpointBroken(entity, f"lacks offsets/{last_finished}, which commits has")
    if last_planned - last_finished > 1:
        raise CheckpointBroken(entity, f"lacks commits/{last_planned - 1}, which offsets has")
    for number in planned[-2:]:
        if len(lines(f"offsets/{number}")) < _LINES_OF_OFFSETS:
            raise CheckpointBroken(entity, f"is cut short in offsets/{number}")
    if last_finished < 0:
        return Checkpoint(query_id, last_planned, -1, {})
    lines(f"commits/{last_finished}")
    try:
        offsets = json.loads(lines(f"offsets/{last_finished}")[-1])[TOPICS[entity]]
    except (KeyError, TypeError, IndexError):
        raise CheckpointBroken(entity, f"is damaged in offsets/{last_finished}") from None
    return Checkpoint(query_id, last_planned, last_finished, {int(p): int(o) for p, o in offsets.items()})


def read_start(settings: Settings, entity: str) -> Start | None:
    """What the last recovery of an entity left; None where there was none."""
    with lake_errors(settings):
        found = read_object(s3_client(settings), recovered_start(settings.lake_root, entity))
    if found is None:
        return None
    try:
        words = json.loads(found)
        return Start({int(p): int(o) for p, o in words["offsets"].items()}, int(words["bronze_version"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CheckpointBroken(entity, "does not say where it begins: what a recovery left is damaged") from None


def stream_position(settings: Settings, entity: str) -> dict[int, int]:
    """Offset per partition up to which the stream has finished: of its last finished batch, or of its recovery."""
    found = read_checkpoint(settings, entity)
    if found and found.finished >= 0:
        return found.position
    start = read_start(settings, entity)
    return start.offsets if start else {}
