"""The warehouse database: its schemas, its published tables, and who may do what in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from data_platform_core.errors import ComponentFailed, CrmError
from data_platform_core.settings import Settings

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

DATABASE = "warehouse"
PUBLISHER, MODELER, AIRFLOW = "crm_publisher", "crm_dbt", "airflow"

_LAKE = """
create table if not exists lake.deleted_keys (
  entity text not null,
  record_key text[] not null,
  belongs_to text not null,
  published_batch bigint not null
);
alter table lake.deleted_keys drop constraint if exists deleted_keys_pkey;  -- of a version that knew one whole a key
create unique index if not exists deleted_keys_part on lake.deleted_keys (entity, record_key, belongs_to);
create index if not exists deleted_keys_published_batch on lake.deleted_keys (published_batch);
comment on table lake.deleted_keys is
  'Keys that silver no longer has in a whole that they were a part of, and the publish that took them out.';
create or replace function lake.new_partition(entity text, batch bigint) returns void
language plpgsql security definer set search_path = pg_catalog as $$
begin
  execute format('create table lake.%I (like lake.%I)', entity || '_from_' || batch, entity);
  execute format('grant select, insert, delete on lake.%I to crm_publisher', entity || '_from_' || batch);
end $$;
comment on function lake.new_partition is 'A table like a published one, to be filled and put into its place.';
create or replace function lake.put_in_place(entity text, batch bigint) returns void
language plpgsql security definer set search_path = pg_catalog as $$
declare
  parent regclass := format('lake.%I', entity)::regclass;
  old regclass := (select inhrelid from pg_inherits where inhparent = parent);
  new regclass := format('lake.%I', entity || '_from_' || batch)::regclass;
begin
  execute format('alter table %s add %s', new,
    (select pg_get_constraintdef(oid) from pg_constraint where conrelid = parent and contype = 'p'));
  -- what increments read by: what came later, and not by BRIN, since it fills the room that is left on any page
  execute format('create index on %s (published_batch) where published_batch > %s', new, batch);
  execute format('alter table %s detach partition %s', parent, old);
  execute format('drop table %s', old);
  execute format('alter table %s attach partition %s default', parent, new);
end $$;
comment on function lake.put_in_place is 'Gives a filled table its key, and swaps it with what was published before.';
create or replace function lake.take_statistics(entity text) returns void
language plpgsql security definer set search_path = pg_catalog as $$
begin
  execute format('analyze %s',
    (select inhrelid::regclass from pg_inherits where inhparent = format('lake.%I', entity)::regclass));
end $$;
comment on function lake.take_statistics is 'Has the planner know what was published just now.';
revoke execute on function lake.new_partition, lake.put_in_place, lake.take_statistics from public;
"""
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
create table if not exists ops.model_marks (
  model text not null,
  entity text not null,
  published_batch bigint not null,
  next_batch bigint not null,
  primary key (model, entity)
);
comment on table ops.model_marks is 'How far each model of dbt has each entity; moves in the transaction of its rows.';
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
alter table ops.gate_results add column if not exists layer text not null default 'published';
comment on table ops.gate_results is 'One row per expectation and gate run of the last 90 days.';
create table if not exists ops.gate_marks (
  entity text primary key,
  published_batch bigint not null
);
comment on table ops.gate_marks is 'Up to which publish each entity has come through an open gate.';
create table if not exists ops.model_results (
  run_id text not null,
  node text not null,
  kind text not null,
  layer text not null,
  model text not null,
  status text not null,
  row_count bigint,
  seconds double precision not null,
  message text,
  ended_at timestamptz not null default now()
);
create index if not exists model_results_run_id on ops.model_results (run_id);
comment on table ops.model_results is 'One row per model, test or other node and run of dbt, of the last 90 days.';
create table if not exists ops.requests (
  id bigint generated always as identity primary key,
  kind text not null,
  arguments jsonb not null,
  state text not null default 'asked' check (state in ('asked', 'running', 'done', 'failed')),
  asked_at timestamptz not null default now(),
  started_at timestamptz,
  ended_at timestamptz,
  progress jsonb,
  result jsonb,
  message text,
  attempts integer not null default 0
);
alter table ops.requests add column if not exists attempts integer not null default 0;
comment on table ops.requests is 'What the streaming application, the lake''s only writer, is asked to do.';
create table if not exists ops.tombstones (
  fingerprint text primary key,
  forgotten_at timestamptz not null default now(),
  silver_versions jsonb,
  purged_at timestamptz
);
comment on table ops.tombstones is
  'Customers who were forgotten, by the SHA-256 of their id; silver_versions: the deletes in silver, by entity.';
create table if not exists ops.forgotten_records (
  entity text not null,
  record_hash text not null,
  primary key (entity, record_hash)
);
comment on table ops.forgotten_records is
  'Hashes of the records that were taken out or kept out of silver: the audit counts them as made and not there.';
create table if not exists ops.quarantine_replays (
  kafka_topic text not null,
  kafka_partition integer not null,
  kafka_offset bigint not null,
  entity text not null,
  record_hash text not null,
  state text not null default 'begun' check (state in ('begun', 'sent')),
  begun_at timestamptz not null default now(),
  sent_at timestamptz,
  primary key (kafka_topic, kafka_partition, kafka_offset)
);
comment on table ops.quarantine_replays is 'Which quarantined messages were mended and sent again, once each.';
"""


def connect(settings: Settings, role: str = "crm_publisher") -> psycopg.Connection:
    """A connection to the warehouse in one of its roles.

    Raises:
        ComponentFailed: the server is out of reach or refuses the role.
    """
    import psycopg

    password = settings.secret({"crm_publisher": "publisher_password", "crm_dbt": "dbt_password"}[role])
    try:
        return psycopg.connect(warehouse_dsn(settings, role), password=password, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise ComponentFailed(
            f"the warehouse did not let {role} in: {str(error).strip().splitlines()[0][:300]}"
        ) from None


def warehouse_dsn(settings: Settings, role: str) -> str:
    """The DSN of the warehouse for a role, without its password."""
    host, port = warehouse_address(settings)
    return f"postgresql://{role}@{host}:{port}/warehouse{_query(settings)}"


def sqlalchemy_url(settings: Settings, role: str, password: str, database: str = DATABASE) -> str:
    """The URL of a database of the server for a role, for programs that take the password in it only."""
    host, port = warehouse_address(settings)
    return f"postgresql+psycopg2://{role}:{quote(password, safe='')}@{host}:{port}/{database}{_query(settings)}"


def warehouse_address(settings: Settings) -> tuple[str, int]:
    """Host and port of the PostgreSQL server."""
    if settings.postgres_dsn:
        parts = _parts_of(settings.postgres_dsn)
        return str(parts.get("host", "127.0.0.1")), int(parts.get("port") or 5432)
    return "127.0.0.1", settings.port("postgres")


def tls_words(settings: Settings) -> dict[str, str]:
    """How the connection is secured: what CRM_POSTGRES_DSN says of it holds for every role."""
    said = _parts_of(settings.postgres_dsn) if settings.postgres_dsn else {}
    return {name: str(said[name]) for name in ("sslmode", "sslrootcert", "sslcert", "sslkey") if name in said}


def _parts_of(dsn: str) -> dict[str, Any]:
    from psycopg.conninfo import conninfo_to_dict

    return dict(conninfo_to_dict(dsn))


def _query(settings: Settings) -> str:
    words = tls_words(settings)
    return f"?{urlencode(words)}" if words else ""


def prepare_warehouse(admin_dsn: str, passwords: Mapping[str, str]) -> None:
    """Create what is missing: roles, databases, schemas, published tables, rights. Safe to repeat.

    Args:
        admin_dsn: a role that may create roles and databases.
        passwords: the password of each role: crm_publisher, crm_dbt, airflow.

    Raises:
        ComponentFailed: the server is out of reach or refuses.
    """
    import psycopg

    try:
        with psycopg.connect(admin_dsn, autocommit=True, connect_timeout=10) as server:
            for role in (PUBLISHER, MODELER, AIRFLOW):
                _ensure_role(server, role, passwords[role])
            for role in (PUBLISHER, MODELER):  # a query ends with the task that asked
                server.execute(f"alter role {role} set client_connection_check_interval = '5s'")  # type: ignore[arg-type]
            _ensure_database(server, DATABASE, owner=None)
            _ensure_database(server, "airflow", owner=AIRFLOW)
            server.execute("revoke all on database airflow from public")
        with psycopg.connect(admin_dsn, dbname=DATABASE) as warehouse:
            _prepare_schemas(warehouse)
    except psycopg.Error as error:
        may_not = isinstance(error, psycopg.errors.InsufficientPrivilege)
        hint = "; CRM_POSTGRES_DSN must name a role that may create roles and databases" if may_not else ""
        raise ComponentFailed(f"the warehouse could not be prepared: {str(error).strip()}{hint}") from None


def _prepare_schemas(warehouse: psycopg.Connection) -> None:
    from data_platform_core.contracts import CONTRACTS
    from data_platform_core.derive.postgres import create_first_partition, create_table, published_columns

    execute = warehouse.execute
    execute("revoke all on schema public from public")
    execute("create schema if not exists lake")
    execute("create schema if not exists ops")
    execute(_OPS)
    for contract in CONTRACTS.values():
        if execute("select to_regclass(%s)", (f"lake.{contract.entity}",)).fetchone() == (None,):
            # a table that somebody dropped is published whole again
            execute("delete from ops.publish_marks where entity = %s", (contract.entity,))
        execute(create_table(contract))  # type: ignore[arg-type]
        kind = execute(
            "select relkind::text from pg_class where oid = %s::regclass", (f"lake.{contract.entity}",)
        ).fetchone()
        held = execute(f"select * from lake.{contract.entity} limit 0").description or ()  # type: ignore[arg-type]
        if kind != ("p",) or [column.name for column in held] != list(published_columns(contract)):
            raise CrmError(
                f"lake.{contract.entity} was made by another version, with other columns or as a table that cannot be "
                "replaced as a whole: drop the schemas lake, staging, warehouse and marts and empty ops.publish_marks, "
                "or begin anew with `crm reset`"
            )
        execute(create_first_partition(contract))  # type: ignore[arg-type]
    execute(_LAKE)
    execute(f"grant {MODELER} to current_user")  # type: ignore[arg-type]
    for schema in ("staging", "warehouse", "marts"):
        execute(f"create schema if not exists {schema} authorization {MODELER}")  # type: ignore[arg-type]
    for statement in (
        f"revoke all on database {DATABASE} from public",
        f"grant connect, temporary on database {DATABASE} to {PUBLISHER}",
        f"grant connect, temporary on database {DATABASE} to {MODELER}",
        f"grant usage on schema lake, ops to {PUBLISHER}, {MODELER}",
        f"grant select, insert, update, delete on all tables in schema lake to {PUBLISHER}",
        f"grant execute on function lake.new_partition, lake.put_in_place, lake.take_statistics to {PUBLISHER}",
        f"grant select on all tables in schema lake, ops to {MODELER}",
        f"grant insert, update, delete on ops.model_marks to {MODELER}",
        f"grant insert on ops.model_results to {MODELER}",
        f"grant select, insert, update on all tables in schema ops to {PUBLISHER}",
        f"grant delete on ops.gate_results, ops.model_results to {PUBLISHER}",
        f"grant usage on all sequences in schema ops to {PUBLISHER}",
    ):
        execute(statement)  # type: ignore[arg-type]


def _ensure_role(server: psycopg.Connection, role: str, password: str) -> None:
    from psycopg import sql

    exists = server.execute("select 1 from pg_roles where rolname = %s", (role,)).fetchone()
    verb = "alter" if exists else "create"
    server.execute(sql.SQL(f"{verb} role {{}} login password {{}}").format(sql.Identifier(role), sql.Literal(password)))


def _ensure_database(server: psycopg.Connection, name: str, owner: str | None) -> None:
    from psycopg import sql

    if server.execute("select 1 from pg_database where datname = %s", (name,)).fetchone():
        return
    clause: sql.Composable = sql.SQL("")
    if owner:
        server.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(owner)))
        clause = sql.SQL(" owner {}").format(sql.Identifier(owner))
    server.execute(sql.SQL("create database {}").format(sql.Identifier(name)) + clause)
