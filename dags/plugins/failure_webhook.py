"""Tells a webhook of every task that failed for good, where CRM_ALERT_WEBHOOK names one.

It gets a POST of JSON: {"dag", "run", "task", "tries", "error", "log"}. A webhook that does not answer is told in the
task's log, and changes nothing else.
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
    webhook = os.environ.get("CRM_ALERT_WEBHOOK")
    if not webhook or task_instance.try_number <= task_instance.max_tries:
        return
    told = {
        "dag": task_instance.dag_id,
        "run": task_instance.run_id,
        "task": task_instance.task_id,
        "tries": task_instance.try_number,
        "error": str(error)[:2000],
        "log": getattr(task_instance, "log_url", None),
    }
    request = urllib.request.Request(webhook, json.dumps(told).encode(), {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except (OSError, ValueError) as failure:
        _log.warning("the webhook %s was not told: %s", webhook, failure)


class FailureWebhook(AirflowPlugin):
    """What Airflow loads of this file."""

    name = "failure_webhook"
    listeners = [sys.modules[__name__]]
