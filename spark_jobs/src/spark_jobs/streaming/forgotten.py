"""Customers who asked to be forgotten: what still comes of them is dropped before it is written."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from data_platform_core.contracts import Record
from data_platform_core.layers import OWNER_FIELD


class Forgotten:
    """The fingerprints (SHA-256 of the id, in hexadecimal) of forgotten customers."""

    def __init__(self, fingerprints: Iterable[str] = ()) -> None:
        self._fingerprints = frozenset(fingerprints)
        self._lock = threading.Lock()

    def add(self, fingerprint: str) -> None:
        """Forget one more."""
        with self._lock:
            self._fingerprints |= {fingerprint}

    def without(self, messages: DataFrame, contract: type[Record]) -> DataFrame:
        """Messages without those of forgotten customers."""
        if not self._fingerprints or OWNER_FIELD[contract.entity] != "customer_id":
            return messages
        return messages.where(~self.is_forgotten())

    def is_forgotten(self) -> Column:
        """Whether a message is keyed by, or speaks of, a forgotten customer."""
        listed = sorted(self._fingerprints)
        named = F.regexp_extract_all(F.col("value").cast("string"), F.lit("cus_[0-9a-f]{16}"), F.lit(0))
        hashed = F.transform(F.coalesce(named, F.array()), lambda one: F.sha2(one, 256))
        return F.coalesce(F.sha2("key", 256).isin(listed), F.lit(False)) | F.arrays_overlap(
            hashed, F.array(*[F.lit(one) for one in listed])
        )
