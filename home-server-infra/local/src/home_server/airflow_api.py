"""Airflow over its REST API, as any other client would use it."""

from __future__ import annotations

import time
from typing import Any

import httpx

from data_platform_core.errors import ComponentFailed
from data_platform_core.settings import Settings
from home_server.steps import cancelled


class AirflowApi:
    """A logged-in client of the stack's Airflow.

    Raises:
        ComponentFailed: from every method, where Airflow is out of reach or refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self._http = httpx.Client(base_url=settings.airflow_url, timeout=30, trust_env=False)
        login = {"username": "admin", "password": settings.secret("airflow_admin_password")}
        token = self._call("POST", "/auth/token", json=login)["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def trigger(self, dag: str, params: dict[str, Any] | None = None, logical_date: str | None = None) -> str:
        """Start a run; returns its run id."""
        body = {"logical_date": logical_date, "conf": params or {}}
        return str(self._call("POST", f"/api/v2/dags/{dag}/dagRuns", json=body)["dag_run_id"])

    def wait_for_dag(self, dag: str, within_seconds: float = 120.0) -> None:
        """Wait until Airflow has read a DAG's file."""
        deadline = time.monotonic() + within_seconds
        while not self._knows(dag):
            if cancelled.is_set() or time.monotonic() > deadline:
                raise ComponentFailed(
                    f"Airflow does not know the DAG {dag}: `airflow dags list-import-errors` says why"
                )
            time.sleep(0.5)

    def _knows(self, dag: str) -> bool:
        try:
            return self._http.get(f"/api/v2/dags/{dag}").status_code == 200
        except httpx.HTTPError:
            return False

    def pause(self, dag: str) -> None:
        """Have a DAG run by no schedule, nor when it is triggered."""
        self._call("PATCH", f"/api/v2/dags/{dag}", json={"is_paused": True})

    def links(self, dag: str, run: str, task: str) -> dict[str, str]:
        """The links that a task shows beside its log, by their names."""
        return dict(self._call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/links")["extra_links"])

    def page(self, path: str) -> str:
        """The text of a page, as a browser that has logged in gets it."""
        return self._request("GET", path).text

    def wait_for_run(self, dag: str, run: str, within_seconds: float = 900.0) -> str:
        """Wait until a run has ended; returns `success` or `failed`."""
        deadline = time.monotonic() + within_seconds
        while (state := self.run(dag, run)["state"]) not in ("success", "failed"):
            if cancelled.is_set() or time.monotonic() > deadline:
                raise ComponentFailed(f"the run {run} of {dag} is still {state} after {within_seconds:.0f} s")
            time.sleep(0.5)
        return str(state)

    def run(self, dag: str, run: str) -> dict[str, Any]:
        """A run as Airflow tells it."""
        return self._call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """All runs of a DAG."""
        return list(self._call("GET", f"/api/v2/dags/{dag}/dagRuns")["dag_runs"])

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        return list(self._call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"])

    def clear(self, dag: str, run: str, only_failed: bool = False) -> None:
        """Clear a run's tasks, so that Airflow runs them again."""
        body = {"dry_run": False, "dag_run_id": run, "only_failed": only_failed, "reset_dag_runs": True}
        self._call("POST", f"/api/v2/dags/{dag}/clearTaskInstances", json=body)

    def log(self, dag: str, run: str, task: str, attempt: int, map_index: int = -1) -> str:
        """The text of a task's log; of a mapped task's, that of one index."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}"
        answer = self._call("GET", path, params={"map_index": map_index})
        return "\n".join(
            str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in answer["content"]
        )

    def _call(self, method: str, path: str, **words: Any) -> dict[str, Any]:
        return dict(self._request(method, path, **words).json())

    def _request(self, method: str, path: str, **words: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **words)
        except httpx.HTTPError as error:
            raise ComponentFailed(
                f"Airflow at {self._http.base_url} is out of reach: {error}; see `crm status`"
            ) from None
        if answer.is_error:
            raise ComponentFailed(f"Airflow refused {method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer
