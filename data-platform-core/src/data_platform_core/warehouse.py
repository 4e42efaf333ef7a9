"""The warehouse database: its schemas, its published tables, and who may do what in it."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.postgres import create_batch_index, create_table
from data_platform_core.errors import ComponentFailed

DATABASE = "warehouse"
PUBLISHER, MODELER, AIRFLOW = "crm_publisher", "crm_dbt", "airflow"

_OPS = """
create table if not exists ops.publish_runs (
  run_id text not null,
  entity text not null,
  table_id text not null,
  from_version bigint not null,
  to_version bigint not null,
  published_batch bigint,
  rows_read bigint,
  rows_written bigint,
  fixed_at timestamptz not null default now(),
  published_at timestamptz,
  primary key (run_id, entity)
);
comment on table ops.publish_runs is
  'What each publish run took: Delta versions (from, to] per entity, fixed before it read.';
create table if not exists ops.publish_marks (
  entity text primary key,
  table_id text not null,
  version bigint not null,
  published_batch bigint not null
);
comment on table ops.publish_marks is 'How far each entity is published; moves in the transaction of its rows.';
create sequence if not exists ops.published_batch;
create table if not exists ops.gate_results (
  run_id text not null,
  entity text not null,
  checked_at timestamptz not null default now(),
  expectation text not null,
  column_name text,
  success boolean not null,
  failed_rows bigint not null,
  failed_keys jsonb not null
);
comment on table ops.gate_results is 'One row per expectation and gate run.';
"""


def prepare_warehouse(admin_dsn: str, passwords: Mapping[str, str]) -> None:
    """Create what is missing: roles, databases, schemas, published tables, rights. Safe to repeat.

    Args:
        admin_dsn: a role that may create roles and databases.
        passwords: the password of each role: crm_publisher, crm_dbt, airflow.

    Raises:
        ComponentFailed: the server is out of reach or refuses.
    """
    try:
        with psycopg.connect(admin_dsn, autocommit=True, connect_timeout=10) as server:
            for role in (PUBLISHER, MODELER, AIRFLOW):
                _ensure_role(server, role, passwords[role])
            _ensure_database(server, DATABASE, owner=None)
            _ensure_database(server, "airflow", owner=AIRFLOW)
            server.execute("revoke all on database airflow from public")
        with psycopg.connect(admin_dsn, dbname=DATABASE) as warehouse:
            _prepare_schemas(warehouse)
    except psycopg.Error as error:
        raise ComponentFailed(f"the warehouse could not be prepared: {str(error).strip()}") from None


def _prepare_schemas(warehouse: psycopg.Connection) -> None:
    execute = warehouse.execute
    execute("revoke all on schema public from public")
    execute("create schema if not exists lake")
    execute("create schema if not exists ops")
    for contract in CONTRACTS.values():
        execute(create_table(contract))  # type: ignore[arg-type]
        execute(create_batch_index(contract))  # type: ignore[arg-type]
    execute(_OPS)
    execute(f"grant {MODELER} to current_user")  # type: ignore[arg-type]
    for schema in ("staging", "warehouse", "marts"):
        execute(f"create schema if not exists {schema} authorization {MODELER}")  # type: ignore[arg-type]
    for statement in (
        f"revoke all on database {DATABASE} from public",
        f"grant connect, temporary on database {DATABASE} to {PUBLISHER}",
        f"grant connect, temporary on database {DATABASE} to {MODELER}",
        f"grant usage on schema lake, ops to {PUBLISHER}, {MODELER}",
        f"grant select, insert, update, delete on all tables in schema lake to {PUBLISHER}",
        f"grant select on all tables in schema lake, ops to {MODELER}",
        f"grant select, insert, update on all tables in schema ops to {PUBLISHER}",
        f"grant usage on all sequences in schema ops to {PUBLISHER}",
    ):
        execute(statement)  # type: ignore[arg-type]


def _ensure_role(server: psycopg.Connection, role: str, password: str) -> None:
    exists = server.execute("select 1 from pg_roles where rolname = %s", (role,)).fetchone()
    verb = "alter" if exists else "create"
    server.execute(sql.SQL(f"{verb} role {{}} login password {{}}").format(sql.Identifier(role), sql.Literal(password)))


def _ensure_database(server: psycopg.Connection, name: str, owner: str | None) -> None:
    if server.execute("select 1 from pg_database where datname = %s", (name,)).fetchone():
        return
    clause: sql.Composable = sql.SQL("")
    if owner:
        server.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(owner)))
        clause = sql.SQL(" owner {}").format(sql.Identifier(owner))
    server.execute(sql.SQL("create database {}").format(sql.Identifier(name)) + clause)
