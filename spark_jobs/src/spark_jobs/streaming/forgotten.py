"""Customers who asked to be forgotten: what still comes of them is kept out, and blanked in bronze."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from data_platform_core.contracts import Record

FORGOTTEN = "forgotten"
"""What stands as the reason of such a message within a batch; it is neither landed in silver nor in quarantine."""


class Forgotten:
    """The fingerprints (SHA-256 of the id, in hexadecimal) of forgotten customers."""

    def __init__(self, fingerprints: Iterable[str] = ()) -> None:
        self._fingerprints = frozenset(fingerprints)
        self._lock = threading.Lock()

    def add(self, fingerprint: str) -> None:
        """Forget one more."""
        with self._lock:
            self._fingerprints |= {fingerprint}

    def concerns(self, contract: type[Record]) -> bool:
        """Whether messages of a contract need to be looked at."""
        return bool(self._fingerprints) and contract.owner == "customer_id"

    def marked(self, rows: DataFrame) -> DataFrame:
        """Parsed messages, with `FORGOTTEN` as the reason of those of forgotten customers.

        A message is theirs by its key, or where it names them, in whatever state it is.
        """
        is_theirs = speaks_of(sorted(self._fingerprints))
        return rows.withColumn("reason_as_read", F.col("reason")).withColumn(
            "reason", F.when(is_theirs, FORGOTTEN).otherwise(F.col("reason"))
        )


def speaks_of(fingerprints: list[str]) -> Column:
    """Whether a message is keyed by a customer with one of these fingerprints, or names one.

    By fingerprint, since Delta's log keeps the condition of what is deleted.
    """
    text = "cast(value as string)"
    by_key = f"coalesce(sha2(key, 256) in ({_listed(fingerprints)}), false)"
    # letters may be written as \\u…: then what it says is not what stands there
    said = f"sha2(get_json_object({text}, '$.customer_id'), 256)"
    escaped = f"coalesce(instr({text}, '\\\\u') > 0 and {said} in ({_listed(fingerprints)}), false)"
    return F.expr(by_key) | F.expr(escaped) | names_one_of(fingerprints, text)


def names_one_of(fingerprints: list[str], text: str) -> Column:
    """Whether a text, as Spark SQL, names a customer with one of these fingerprints."""
    named = f"regexp_extract_all({text}, 'cus_[0-9a-f]{{16}}', 0)"
    return F.expr(f"coalesce(exists({named}, id -> sha2(id, 256) in ({_listed(fingerprints)})), false)")


def _listed(fingerprints: list[str]) -> str:
    return ", ".join(f"'{one}'" for one in fingerprints)


def blanked(rows: DataFrame) -> DataFrame:
    """Rows of bronze without what forgotten customers' messages say; their coordinates stay."""
    is_theirs = F.coalesce(F.col("reason") == FORGOTTEN, F.lit(False))
    return rows.withColumns({name: F.when(~is_theirs, F.col(name)) for name in ("key", "value")})
