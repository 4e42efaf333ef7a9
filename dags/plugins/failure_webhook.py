"""Tells a webhook of what failed for good, a task or a run as a whole, where CRM_ALERT_WEBHOOK names one.

It gets a POST of JSON: {"dag", "run", "task", "tries", "error", "log"}; of a run, the last four but `error` are null. A
webhook that does not answer is told in the log of the task, or the scheduler's, and changes nothing else.
"""

import json
import logging
import os
import sys
import urllib.request

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

_log = logging.getLogger(__name__)


@hookimpl
def on_task_instance_failed(previous_state, task_instance, error):
    """Airflow calls this in the task's own process, also before a retry, of which nobody needs to hear."""
    if task_instance.try_number <= task_instance.max_tries:
        return
    _tell({
        "dag": task_instance.dag_id,
        "run": task_instance.run_id,
        "task": task_instance.task_id,
        "tries": task_instance.try_number,
        "error": str(error)[:2000],
        "log": getattr(task_instance, "log_url", None),
    })  # fmt: skip


@hookimpl
def on_dag_run_failed(dag_run, msg):
    """Airflow calls this in the scheduler, also where tasks failed, which have told of themselves."""
    if msg not in ("timed_out", "refused"):
        return
    error = dag_run.note if msg == "refused" else "the run took longer than its dagrun_timeout: a task hangs"
    _tell({"dag": dag_run.dag_id, "run": dag_run.run_id, "task": None, "tries": None, "error": error, "log": None})


def _tell(told):
    webhook = os.environ.get("CRM_ALERT_WEBHOOK")
    if not webhook:
        return
    request = urllib.request.Request(webhook, json.dumps(told).encode(), {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except (OSError, ValueError) as failure:
        _log.warning("the webhook %s was not told: %s", webhook, failure)


class FailureWebhook(AirflowPlugin):
    """What Airflow loads of this file."""

    name = "failure_webhook"
    listeners = [sys.modules[__name__]]
