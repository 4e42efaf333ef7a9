"""What a batch did, in figures: for metrics and the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Landed:
    """What became of a batch's messages, and how long it took."""

    rows: int
    accepted: int
    repeated: int
    refused: Mapping[str, int]
    """reason → messages"""
    future_dated: int
    remembered_keys: int
    remembered_bytes: int
    watermark: datetime | None
    """the latest event time of the batch, capped where it lay in the future"""
    seconds: Mapping[str, float]
    """step → seconds"""
