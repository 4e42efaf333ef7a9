"""What each kind of request does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from pyspark.sql import SparkSession

from data_platform_core.contracts import known_entities
from data_platform_core.errors import CrmError
from data_platform_core.requests import Request, scrub
from data_platform_core.settings import Settings
from spark_jobs.batch.backfill import Days, backfill_files, backfill_topic
from spark_jobs.maintenance.fingerprint import fingerprint_of
from spark_jobs.maintenance.forget import forget_in_tables, purge_files
from spark_jobs.maintenance.upkeep import maintain
from spark_jobs.streaming import ops
from spark_jobs.streaming.desk import Handler
from spark_jobs.streaming.forgotten import Forgotten
from spark_jobs.streaming.land import Landing

Report = Callable[[dict[str, Any]], None]


class Handlers:
    """The application's side of `crm backfill`, `crm maintenance` and `crm forget`."""

    def __init__(
        self, spark: SparkSession, settings: Settings, landings: dict[str, Landing], forgotten: Forgotten
    ) -> None:
        self._spark, self._settings, self._landings, self._forgotten = spark, settings, landings, forgotten

    def by_kind(self) -> dict[str, Handler]:
        """The handlers by the kind of request."""
        return {"backfill": self._backfill, "maintenance": self._maintain, "forget": self._forget, "purge": self._purge}

    def _backfill(self, request: Request, report: Report) -> dict[str, Any]:
        words = request.arguments
        (entity,) = known_entities([str(words.get("entity"))])
        landing = self._landings[entity]
        if words.get("topic"):
            return backfill_topic(self._spark, self._settings, landing, str(words["topic"]), report)
        days = None
        if words.get("from"):
            first, last = (date.fromisoformat(words[name]) for name in ("from", "to"))
            if landing.contract.is_master:
                first = date(1970, 1, 1)  # what happened on a day refers to versions of long before
            days = Days(first, last, ZoneInfo(self._settings.shop_time_zone))
        return backfill_files(self._spark, self._settings, landing, str(words["folder"]), days, report)

    def _maintain(self, request: Request, report: Report) -> dict[str, Any]:
        words = request.arguments
        return maintain(
            self._spark,
            self._settings,
            known_entities(words.get("entities") or ()),
            float(words.get("retention_hours", self._settings.lake_retention_hours)),
            bool(words.get("compact_only")),
            ops.publish_marks(self._settings),
            lambda entity: self._landings[entity].held(),
            report,
        )

    def _forget(self, request: Request, report: Report) -> dict[str, Any]:
        customer_id = str(request.arguments.get("customer_id"))
        if "fingerprint" in request.arguments:
            return {"fingerprint": request.arguments["fingerprint"]}  # done, and the id taken out of the request
        fingerprint = fingerprint_of(customer_id)
        # from here on nothing of the customer comes in, and what is in goes out
        ops.leave_tombstone(self._settings, fingerprint)
        self._forgotten.add(fingerprint)
        versions = forget_in_tables(
            self._spark,
            self._settings,
            fingerprint,
            lambda entity: self._landings[entity].held(),
            lambda entity, hashes: ops.note_forgotten(self._settings, entity, hashes),
        )
        ops.freed_in(self._settings, fingerprint, versions)
        with ops.connect(self._settings) as connection:
            scrub(connection, customer_id, {"fingerprint": fingerprint})
        return {"fingerprint": fingerprint, "silver_versions": versions}

    def _purge(self, request: Request, report: Report) -> dict[str, Any]:
        fingerprint = str(request.arguments.get("fingerprint"))
        versions = ops.versions_freed(self._settings, fingerprint)
        if versions is None:
            raise CrmError("nothing was taken out of the tables yet: `crm forget` does both")
        marks = ops.publish_marks(self._settings)
        purge_files(self._spark, self._settings, versions, marks, lambda entity: self._landings[entity].held())
        ops.purged(self._settings, fingerprint)
        return {"fingerprint": fingerprint}
