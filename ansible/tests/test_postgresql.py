"""Role postgresql on a real host: who comes in, what the platform finds, and that a backup brings the same rows back."""

import json
import subprocess

import psycopg
import pytest
from conftest import wait_for

from data_platform_core.warehouse import prepare_warehouse

pytestmark = pytest.mark.drill
HOST, ADDRESS = "warehouse-1", "192.0.2.31"
PLATFORM = {"crm_publisher": "publishes", "crm_dbt": "models", "airflow": "schedules"}
ROWS = [("r1", "orders", 1, None), ("r1", "events", 2, 2), ("r2", "orders", 2, 2)]


@pytest.fixture(scope="module")
def server(hosts, playbook):
    hosts(HOST)
    return playbook("hosts.yml", "postgresql.yml", "--limit", HOST)


@pytest.fixture(scope="module")
def dsn(bed):
    """Where the server is, for a role and a database, as a client of the home network writes it."""

    def write(role="crm", password=None, database="postgres", tls="verify-full"):
        secret = password or PLATFORM.get(role) or bed.secret(f"vault_postgresql_{role}_password")
        authority = bed.authority / "ca.pem"
        return (
            f"postgresql://{role}:{secret}@{ADDRESS}/{database}?sslmode={tls}&sslrootcert={authority}&connect_timeout=5"
        )

    return write


@pytest.fixture(scope="module")
def warehouse(server, dsn):
    """The warehouse as `crm up` prepares it, with rows in it."""
    prepare_warehouse(dsn(), PLATFORM)
    with psycopg.connect(dsn("crm_publisher", database="warehouse")) as connection:
        for row in ROWS:
            connection.execute(
                "insert into ops.publish_runs (run_id, entity, table_id, from_version, to_version, published_batch) "
                "values (%s, %s, 't', 0, %s, %s) on conflict do nothing",
                row,
            )


def digest(dsn, database="warehouse"):
    """Every table of ours in a database, with the number of its rows and a digest of them."""
    with psycopg.connect(dsn(database=database)) as connection:
        tables = connection.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables "
            "where schemaname not in ('pg_catalog', 'information_schema') order by 1"
        ).fetchall()
        return {
            table: connection.execute(
                f"select count(*), md5(string_agg(t::text, '|' order by t::text)) from {table} t"
            ).fetchone()
            for (table,) in tables
        }


def test_a_second_run_changes_nothing_and_check_mode_is_clean(server, playbook):
    assert playbook("postgresql.yml").changed == 0
    assert playbook("postgresql.yml", "--check", "--diff").changed == 0


def test_without_tls_the_password_or_rights_nothing_is_to_be_had(server, bed, dsn):
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(dsn(tls="disable"))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn(password="not-the-password"))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn("postgres", password="postgres"))
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(dsn().replace(str(bed.authority / "ca.pem"), "/etc/ssl/certs/ca-certificates.crt"))
    with psycopg.connect(dsn("exporter")) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("create role mine")


def test_the_exporter_reads_the_measurements_of_all_sessions(server, dsn):
    with psycopg.connect(dsn()), psycopg.connect(dsn("exporter")) as connection:
        query = "select count(*) from pg_stat_activity where usename = 'crm' and state is not null"
        assert connection.execute(query).fetchone() == (1,)
        assert connection.execute("show password_encryption").fetchone() == ("scram-sha-256",)
        assert connection.execute("show data_checksums").fetchone() == ("on",)


def test_the_platform_prepares_its_warehouse(warehouse, dsn):
    prepare_warehouse(dsn(), PLATFORM)
    with psycopg.connect(dsn("airflow", database="airflow")) as connection:
        connection.execute("create table if not exists job (id int)")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(dsn("exporter", database="warehouse"))


def test_mistakes_in_the_settings_are_named(server, playbook):
    roles = {"postgresql_roles": [{"name": "crm", "password": ""}]}
    said = playbook("postgresql.yml", "-e", json.dumps(roles), fails=True).output
    assert "The password of crm in postgresql_roles is empty" in said
    databases = {"postgresql_databases": [{"name": "warehouse", "owner": "nobody"}]}
    said = playbook("postgresql.yml", "-e", json.dumps(databases), fails=True).output
    assert "names the owner nobody, who is not in postgresql_roles" in said
    settings = {"postgresql_settings": {"shared_bufers": "1GB"}}
    said = playbook("postgresql.yml", "-e", json.dumps(settings), fails=True).output
    assert 'unrecognized configuration parameter "shared_bufers"' in said.replace("\\", "")


def test_a_changed_password_is_all_that_a_run_changes_and_the_old_one_is_refused(warehouse, bed, dsn, playbook):
    old = dsn()
    bed.change_secret("vault_postgresql_crm_password")
    assert playbook("postgresql.yml").changed == 1  # what the platform has made is left
    psycopg.connect(dsn()).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(old)


def test_the_certificate_is_renewed(server, dsn, playbook):
    def certificate():
        shown = ["openssl", "s_client", "-starttls", "postgres", "-connect", f"{ADDRESS}:5432"]
        said = subprocess.run(shown, input="", capture_output=True, text=True).stdout
        return said[said.index("-----BEGIN") : said.index("-----END")]

    before = certificate()
    playbook("postgresql.yml", "-e", '{"internal_ca_renew": true}')
    assert certificate() != before
    psycopg.connect(dsn()).close()
    assert playbook("postgresql.yml").changed == 0


@pytest.fixture(scope="module")
def backup(warehouse, dsn, bed, playbook):
    """A backup on the machine, and its copy on the control node; with what was in the warehouse."""
    copies = bed.folder / "backups"
    playbook("postgresql_backup.yml", "-e", f"postgresql_backup_fetch_dir={copies}")
    (copy,) = copies.iterdir()
    return copy, digest(dsn)


@pytest.fixture
def restore(bed, playbook):
    def run(source, *more, fails=False, database="warehouse"):
        words = ("-e", f"postgresql_restore_database={database}", "-e", f"postgresql_restore_from={source}")
        return playbook("postgresql_restore.yml", *words, *more, fails=fails).output

    yield run
    bed.ssh(HOST, "sudo -u postgres dropdb --if-exists --force warehouse_before_restore")


CONFIRMED = ("-e", "postgresql_restore_confirm=warehouse")


def test_a_backup_holds_every_database_and_the_roles(backup):
    copy, _ = backup
    assert {file.name for file in copy.iterdir()} == {"warehouse.dump", "airflow.dump", "roles.sql"}
    assert "crm_publisher" in (copy / "roles.sql").read_text()


def test_a_changed_database_is_put_back_with_the_same_rows_and_kept_beside(backup, restore, dsn):
    _, before = backup
    with psycopg.connect(dsn(database="warehouse")) as connection:
        connection.execute("update ops.publish_runs set to_version = 99 where run_id = 'r1'")
        connection.execute("drop table lake.orders")
    changed = digest(dsn)
    assert changed != before

    held = f"warehouse on {HOST} holds"
    assert held in restore("latest", fails=True)
    assert held in restore("latest", "-e", "postgresql_restore_confirm=yes", fails=True)
    assert digest(dsn) == changed

    with psycopg.connect(dsn("crm_dbt", database="warehouse")):  # a session that does not go by itself
        assert "is kept as warehouse_before_restore" in restore("latest", *CONFIRMED)
    assert digest(dsn) == before
    assert digest(dsn, "warehouse_before_restore") == changed
    prepare_warehouse(dsn(), PLATFORM)  # owners and rights are there, too
    with psycopg.connect(dsn("crm_publisher", database="warehouse")) as connection:
        assert connection.execute("select count(*) from ops.publish_runs").fetchone() == (len(ROWS),)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(dsn("exporter", database="warehouse"))

    said = restore("latest", *CONFIRMED, fails=True)
    assert "warehouse_before_restore is still there, from an earlier restore" in said


def test_a_truncated_dump_is_named_and_changes_nothing(backup, restore, bed, dsn):
    copy, _ = backup
    before = digest(dsn)
    whole = (copy / "warehouse.dump").read_bytes()
    for name, size in {"head": 100, "half": len(whole) // 2, "all-but-one": len(whole) - 1}.items():
        broken = bed.folder / f"{name}.dump"
        broken.write_bytes(whole[:size])
        said = restore(broken, *CONFIRMED, fails=True)
        assert "has no whole dump of warehouse" in said and "The database is as it was" in said
    names = bed.ssh(HOST, "sudo -u postgres psql -Atc 'select datname from pg_database'").split()
    assert "warehouse_restoring" not in names and "warehouse_before_restore" not in names
    assert digest(dsn) == before


def test_a_dump_that_breaks_while_it_is_put_back_changes_nothing(backup, restore, bed, dsn):
    copy, _ = backup
    before = digest(dsn)
    other = bed.folder / "other"
    other.mkdir()
    (other / "warehouse.dump").write_bytes((copy / "warehouse.dump").read_bytes())
    (other / "roles.sql").write_text("this is not sql;\n")
    said = restore(other / "warehouse.dump", *CONFIRMED, fails=True)
    assert "warehouse was not put back, and is as it was" in said and "syntax error" in said
    assert digest(dsn) == before


def test_a_backup_that_breaks_off_is_not_taken_for_one(backup, bed, playbook):
    listing = "ls -A /var/backups/postgresql"
    before = bed.ssh(HOST, listing)
    shim = "/usr/local/sbin/pg_dumpall"
    bed.ssh(HOST, f"printf '#!/bin/sh\\necho no room >&2; exit 1\\n' > {shim}; chmod 755 {shim}")
    try:
        said = playbook("postgresql_backup.yml", "-e", "postgresql_backup_fetch_dir=", fails=True).output
    finally:
        bed.ssh(HOST, f"rm {shim}")
    assert f"No backup was made on {HOST}" in said and "no room" in said
    assert bed.ssh(HOST, listing) == before


def test_the_newest_backups_are_kept_and_no_more(backup, bed, restore):
    bed.ssh(HOST, "cd /var/backups/postgresql; for day in $(seq 10 29); do mkdir 202001${day}T000000Z; done")
    bed.ssh(HOST, "systemctl start crm-postgresql-backup")
    names = bed.ssh(HOST, "ls /var/backups/postgresql").split()
    assert len(names) == 14 and names[0] > "20200115" and names[-1] > "2021"
    said = restore("20190101T000000Z", fails=True)
    assert "There is no backup 20190101T000000Z" in said and names[-1] in said
    assert "is not a file on the control node" in restore("./nowhere.dump", fails=True)


def test_a_host_that_lost_power_serves_again(server, bed, dsn):
    bed.kill(HOST)
    bed.start(HOST)

    def answers():
        try:
            with psycopg.connect(dsn()) as connection:
                return connection.execute("select true").fetchone()[0]
        except psycopg.OperationalError:
            return False

    wait_for(answers, what="an answer")


def test_an_empty_host_gets_its_rows_and_roles_back(backup, restore, bed, dsn, playbook):
    copy, before = backup
    bed.empty(HOST)
    bed.start(HOST)
    assert "run postgresql.yml first" in restore("latest", fails=True)
    playbook("hosts.yml", "postgresql.yml", "--limit", HOST)
    assert "There is no backup latest" in restore("latest", fails=True)
    restore(copy / "warehouse.dump")
    restore(copy / "airflow.dump", database="airflow")
    assert digest(dsn) == before
    for role, database in {"crm_publisher": "warehouse", "crm_dbt": "warehouse", "airflow": "airflow"}.items():
        psycopg.connect(dsn(role, database=database)).close()
    assert playbook("postgresql.yml").changed == 0
    prepare_warehouse(dsn(), PLATFORM)
