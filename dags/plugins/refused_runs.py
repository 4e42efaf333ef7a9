"""Ends a run whose logical date has not come, as soon as it begins.

Airflow would keep it in its DAG's only slot without a word, and the hourly runs behind it, until its `dagrun_timeout`.
The run's note says why, in the UI and the API, and so does the webhook (`failure_webhook.py`).
"""

import sys
from datetime import UTC, datetime, timedelta

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin
from airflow.utils.state import DagRunState

_CLOCKS_DIFFER = timedelta(minutes=10)
"""A form sends the browser's time; for so long Airflow just waits."""


@hookimpl
def on_dag_run_running(dag_run, msg):
    """Airflow calls this in the scheduler, in the transaction that starts the run."""
    if dag_run.logical_date is None or dag_run.logical_date <= datetime.now(UTC) + _CLOCKS_DIFFER:
        return
    dag_run.note = (
        f"refused: the logical date {dag_run.logical_date.isoformat()} has not come; trigger it without one, "
        "or when it has"
    )
    dag_run.set_state(DagRunState.FAILED)
    dag_run.notify_dagrun_state_changed(msg="refused")


class RefusedRuns(AirflowPlugin):
    """What Airflow loads of this file."""

    name = "refused_runs"
    listeners = [sys.modules[__name__]]
