"""Brings whole days of files into the lake, chunk by chunk; the publish and the models follow by themselves.

Owner: data platform. Runs when triggered with its form. It asks the streaming application, the tables' only writer, and
waits; live traffic lands in between. Safe to clear and to run again: a file that has landed is passed over.

When `chunks` fails: the days are no window, or have not been yet. When a `land` fails: its log names the file and what
to do; clear it when that is done, the others stay as they are. When `book` fails: what `crm audit` expects lacks the
files that `crm generate` made; its log says why.
"""

import json
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Asset, Param, chain, dag

ENTITIES = json.loads((Path(__file__).parent / "entities.json").read_text())
SOME = {"type": "array", "minItems": 1, "items": {"enum": ENTITIES["all"]}}
DAY = {"type": "string", "format": "date"}


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={
        "owner": "data-platform",
        "retries": 1,
        "retry_delay": timedelta(seconds=30),
        "execution_timeout": timedelta(hours=12),
    },
    dagrun_timeout=timedelta(days=2),
    params={
        "folder": Param(
            "s3://lake/export", type="string", pattern=r"^[\w:/.@+-]+$", description="Has a folder an entity in it"
        ),
        "first_day": Param("2025-11-01", **DAY, description="The shop's days, both included"),
        "last_day": Param("2025-11-02", **DAY),
        "days_a_chunk": Param(7, type="integer", minimum=1, maximum=366, description="A chunk is one request"),
        "entities": Param(ENTITIES["generated"], **SOME, description="Whose records to land"),
    },
    tags=["layer:lake"],
    doc_md=__doc__,
)
def crm_backfill():
    days = "--from {{ params.first_day }} --to {{ params.last_day }}"
    entities = "{{ params.entities | join(' ') }}"
    chunks = BashOperator(
        task_id="chunks",
        bash_command=f"crm chunks {days} --days {{{{ params.days_a_chunk }}}} {entities}",
        append_env=True,
        output_processor=json.loads,
        retries=0,  # days that are wrong stay wrong
    )
    land = BashOperator.partial(
        task_id="land",
        bash_command="crm backfill $ENTITY {{ params.folder }}/$ENTITY --from $FIRST --to $LAST",
        append_env=True,
        max_active_tis_per_dag=1,  # the application carries out one at a time; the hourly run keeps its slots
        map_index_template="{{ task.env['ENTITY'] }} {{ task.env['FIRST'] }}",
    ).expand(env=chunks.output)
    book = BashOperator(
        task_id="book",
        bash_command=f"crm generate book {{{{ params.folder }}}} {entities} {days}",
        append_env=True,
        retries=10,  # a generator that sends holds the ledger
    )
    chain(land, [EmptyOperator(task_id="landed", outlets=[Asset("silver")]), book])


crm_backfill()
