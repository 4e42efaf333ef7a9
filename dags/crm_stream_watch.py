"""Looks whether the stream lives and lands what Kafka has, and has the supervisor start it again where it does not.

Owner: data platform. Runs every five minutes, or when triggered with its form. Safe to clear and to retry: a stream
that is well, or was stopped on purpose (then the task is skipped), is left alone.

When `watch` fails: its log says what it found (a new start that did not help, a lag that stays long, a store out of
reach); `crm logs stream` has the stream's own words.
"""

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Param, dag


@dag(
    schedule="*/5 * * * *",
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={"owner": "data-platform", "retries": 1, "retry_delay": timedelta(seconds=30)},
    dagrun_timeout=timedelta(hours=2),
    params={
        "silent_seconds": Param(180, type="integer", minimum=30, description="How long messages may wait for a batch"),
        "waiting_messages": Param(1_000_000, type="integer", minimum=1, description="How many of an entity may wait"),
    },
    tags=["layer:lake"],
    doc_md=__doc__,
)
def crm_stream_watch():
    BashOperator(
        task_id="watch",
        bash_command="crm watch --silent {{ params.silent_seconds }} --waiting {{ params.waiting_messages }}",
        execution_timeout=timedelta(minutes=90),
    )


crm_stream_watch()
