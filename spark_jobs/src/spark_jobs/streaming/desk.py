"""The desk: takes requests one by one, in a thread beside the queries, and carries them out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from data_platform_core import requests
from data_platform_core.errors import CrmError
from data_platform_core.requests import Request
from spark_jobs.streaming.failures import in_one_line

_log = logging.getLogger(__name__)

Handler = Callable[[Request, Callable[[dict[str, Any]], None]], dict[str, Any]]
"""Carries out a request, reporting how far it is; what it returns is the result. Safe to repeat."""


class RequestDesk:
    """Polls `ops.requests` every few seconds; a database that goes away is waited for."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection],
        handlers: Mapping[str, Handler],
        seconds: float,
        told: Callable[[str, str], None] = lambda kind, state: None,
    ) -> None:
        self._connect, self._handlers, self._seconds, self._told = connect, handlers, seconds, told
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)

    def start(self) -> None:
        """Begin to look for requests."""
        self._thread.start()

    def close(self, within_seconds: float = 20.0) -> None:
        """Take no more; what is under way is finished, or taken up again by the next application."""
        self._ended.set()
        self._thread.join(within_seconds)

    def _run(self) -> None:
        is_silent = False
        while not self._ended.is_set():
            try:
                with self._connect() as connection:
                    if is_silent:
                        _log.info("the warehouse answers again: requests are taken")
                    is_silent = False
                    requests.requeue_interrupted(connection)
                    self._serve(connection)
            except (psycopg.Error, CrmError) as error:
                if not is_silent:
                    words = str(error).strip().splitlines()[0]
                    _log.warning("no requests are taken while the warehouse is out of reach: %s", words)
                is_silent = True
            self._ended.wait(self._seconds)

    def _serve(self, connection: psycopg.Connection) -> None:
        while not self._ended.is_set():
            request = requests.claim_next(connection)
            if request is None:
                self._ended.wait(self._seconds)
                continue
            _log.info("request %d: %s", request.id, request.kind)
            state = self._carry_out(connection, request)
            self._told(request.kind, state)
            _log.info("request %d: %s", request.id, state)

    def _carry_out(self, connection: psycopg.Connection, request: Request) -> str:
        handler = self._handlers.get(request.kind)
        try:
            if handler is None:
                raise CrmError(f"nobody knows how to do {request.kind!r}: there are {', '.join(self._handlers)}")
            result = handler(request, lambda progress: requests.report(connection, request.id, progress))
        except psycopg.Error:
            raise
        except Exception as error:
            if self._ended.is_set():  # what it uses is being closed
                _log.info("request %d was broken off: the next application takes it up", request.id)
                return "broken off"
            return self._failed(connection, request, error)
        requests.finish(connection, request.id, result)
        return "done"

    @staticmethod
    def _failed(connection: psycopg.Connection, request: Request, error: Exception) -> str:
        if isinstance(error, CrmError):
            requests.fail(connection, request.id, str(error))
            return "failed"
        _log.error("request %d broke off", request.id, exc_info=error)
        words = f"{type(error).__name__}: {in_one_line(str(error)) or 'no words'}; the stream's log has more"
        requests.fail(connection, request.id, words)
        return "failed"
