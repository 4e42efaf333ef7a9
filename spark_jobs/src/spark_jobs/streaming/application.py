"""The streaming application: the owner of bronze, silver and quarantine."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql.streaming import StreamingQuery

from data_platform_core.contracts import CONTRACTS, MASTERS
from data_platform_core.errors import ComponentFailed
from data_platform_core.settings import Settings
from spark_jobs.session import spark_session
from spark_jobs.streaming import ops
from spark_jobs.streaming.desk import RequestDesk
from spark_jobs.streaming.failures import in_one_line, is_a_full_store, is_out_of_reach, reason_of
from spark_jobs.streaming.forgotten import Forgotten
from spark_jobs.streaming.handlers import Handlers
from spark_jobs.streaming.land import Landing
from spark_jobs.streaming.lease import Lease
from spark_jobs.streaming.metrics import Metrics
from spark_jobs.streaming.progress import Watch
from spark_jobs.streaming.queries import place_to_start, start_query
from spark_jobs.tables import create_tables

_log = logging.getLogger(__name__)
_PAUSE_SECONDS = 5.0


class Application:
    """All queries and what watches them, in one Spark session; a context that gives back what it holds."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lease = Lease(settings)
        self._lease.take()  # before Spark is started: a second application is told at once
        try:
            self._spark = spark_session("crm-stream")
            self._forgotten = Forgotten(ops.fingerprints(settings))
        except BaseException:
            self._lease.release()
            raise
        self._landings: dict[str, Landing] = {}
        self._queries: dict[str, StreamingQuery] = {}
        self._masters_to_start: dict[str, str] = {}
        self._failing_since: dict[str, float] = {}
        self._again_at: dict[str, float] = {}
        self._masters_start_at = 0.0
        self._desk: RequestDesk | None = None
        self._metrics = Metrics()
        self._watch = Watch(self._metrics)

    def __enter__(self) -> Application:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._desk:
            self._desk.close()
        for query in self._queries.values():
            query.stop()
        self._metrics.close()
        self._spark.stop()
        self._lease.release()  # last: what still ran could have committed until here

    def start(self) -> None:
        """Create what tables are missing and start the queries; those of masters follow soon (`look`).

        Raises:
            CrmError: a checkpoint is broken, Kafka has lost messages, a table is of another version.
        """
        self._metrics.serve(self._settings.stream_metrics_host, self._settings.port("stream-metrics"))
        create_tables(self._spark, self._settings)
        for contract in CONTRACTS.values():
            self._landings[contract.entity] = Landing(
                self._spark,
                self._settings,
                contract,
                self._forgotten,
                check_owner=self._lease.check,
                told=self._watch.landed,
                note_forgotten=lambda entity, hashes: ops.note_forgotten(self._settings, entity, hashes),
            )
        with ThreadPoolExecutor(len(self._landings)) as pool:
            # all are looked at before any is started
            places = dict(zip(self._landings, pool.map(self._place_to_start, self._landings), strict=True))
            self._masters_to_start = {entity: places.pop(entity) for entity in MASTERS}
            list(pool.map(self._start_query, places.keys(), places.values()))
        self._masters_start_at = time.monotonic() + self._settings.stream_masters_trigger_seconds
        handlers = Handlers(self._spark, self._settings, self._landings, self._forgotten)
        self._desk = RequestDesk(
            lambda: ops.connect(self._settings),
            handlers.by_kind(),
            self._settings.stream_requests_seconds,
            self._metrics.request,
        )
        self._desk.start()

    def look(self) -> None:
        """Look after the queries: one whose store was out of reach is started again.

        Raises:
            ComponentFailed: a query failed for good, or a store was out of reach for too long.
        """
        self._watch.look(self._queries)
        self._start_masters()
        for entity in self._landings:
            query = self._queries.get(entity)
            if query and query.isActive:
                if query.lastProgress and entity in self._failing_since:
                    self._has_recovered(entity)
            elif entity in self._again_at:
                if time.monotonic() >= self._again_at[entity]:
                    self._try_again(entity)
            elif query:
                self._has_failed(entity, reason_of(query.exception()))

    def _start_query(self, entity: str, place: str) -> None:
        try:
            self._queries[entity] = start_query(self._spark, self._settings, self._landings[entity], place)
        except (Py4JError, PySparkException) as error:
            raise ComponentFailed(f"the query {entity} could not be started: {in_one_line(str(error))}") from None

    def _place_to_start(self, entity: str) -> str:
        try:
            return place_to_start(self._spark, self._settings, entity)
        except (Py4JError, PySparkException) as error:
            raise ComponentFailed(f"the tables of {entity} could not be read: {in_one_line(str(error))}") from None

    def _start_masters(self) -> None:
        """Start what may wait a trigger's time, once the others have had their first batch: a start is all planning."""
        have_begun = all(query.lastProgress for query in self._queries.values())
        if have_begun or time.monotonic() >= self._masters_start_at:
            for entity in list(self._masters_to_start):
                try:
                    self._start_query(entity, self._masters_to_start.pop(entity))
                except ComponentFailed as error:
                    self._has_failed(entity, str(error))

    def _has_failed(self, entity: str, reason: str) -> None:
        self._check_owner()  # of whatever a query ends where another application has taken over: that is why
        is_full = is_a_full_store(reason)
        if not (is_full or is_out_of_reach(reason)):
            raise ComponentFailed(f"the query {entity} ended: {reason}")
        since = self._failing_since.setdefault(entity, time.monotonic())
        silent = time.monotonic() - since
        if silent > self._settings.stream_give_up_seconds:
            raise ComponentFailed(f"the query {entity} was given up after {silent:.0f} s: {reason}")
        what = "the lake's store is full" if is_full else f"a store of the query {entity} is out of reach"
        _log.warning("%s; trying again in %.0f s: %s", what, _PAUSE_SECONDS, reason)
        self._again_at[entity] = time.monotonic() + _PAUSE_SECONDS

    def _try_again(self, entity: str) -> None:
        del self._again_at[entity]
        try:
            self._check_owner()
            self._start_query(entity, self._place_to_start(entity))
        except ComponentFailed as error:
            self._has_failed(entity, str(error))

    def _check_owner(self) -> None:
        if not self._lease.regain():
            self._lease.check()

    def _has_recovered(self, entity: str) -> None:
        seconds = time.monotonic() - self._failing_since.pop(entity)
        _log.info("the query %s goes on after %.0f s, from where it was", entity, seconds)
