"""The lake on real components: exactly once, whatever is broken, asked or forgotten.

The tests share the stack of `test_exactly_once` and leave it whole, each for the next.
"""

import hashlib
import json
import random
import subprocess
import time
from contextlib import contextmanager
from datetime import date, timedelta

import polars as pl
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from conftest import ROOT, wait_for
from known import check_silver, history_window, landed, made, quarantine, silver, state_of, version_of

from data_platform_core.checkpoints import read_checkpoint
from data_platform_core.contracts import CONTRACTS, ENTITIES
from data_platform_core.layers import TOPICS, checkpoint, lease, recovered_start
from data_platform_core.ledger import stores
from data_platform_core.ledger.audit import audit
from data_platform_core.quality.docs import pages
from data_platform_core.s3 import names_below, objects_below, place_of, read_object, s3_client
from data_platform_core.warehouse import connect
from home_server.environment import process_environment
from home_server.places import env_bin

pytestmark = pytest.mark.stack


def started_anew(crm, settings):
    """Start the stream, wait until it has landed everything, and hold it against what was made."""
    crm("up", "stream")
    wait_for(lambda: landed(settings), what="what was sent to land")
    check_silver(settings)


# --- one writer -----------------------------------------------------------------------------------


def test_a_second_application_is_refused_and_the_first_goes_on(crm, settings):
    wait_for(lambda: landed(settings), what="what was sent to land")
    env = process_environment(settings)
    second = subprocess.run(
        [env_bin(settings, "spark", "python"), "-m", "spark_jobs.streaming"],
        env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert second.returncode == 1
    assert "owned by another streaming application" in second.stderr
    assert "Traceback" not in second.stderr
    assert state_of(crm, "stream") == "running"
    crm("generate", "live", "--tps", "20", "--for", "1s")
    wait_for(lambda: landed(settings), what="what was sent to land")
    check_silver(settings)


# --- checkpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", ["gone", *(pytest.param(how, marks=pytest.mark.drill) for how in ("damaged", "behind", "empty"))]
)
def test_a_broken_checkpoint_refuses_to_start_and_a_recovered_one_goes_on(crm, settings, how):
    for _ in range(2):  # two batches at least
        crm("generate", "live", "--tps", "20", "--for", "1s")
        wait_for(lambda: landed(settings), what="what was sent to land")
    crm("down", "stream")
    before = read_checkpoint(settings, "events")
    client, address = s3_client(settings), checkpoint(settings.lake_root, "events")
    bucket, prefix = place_of(address)
    names = names_below(client, address)
    last = str(before.finished)
    if how == "gone":
        for name in names:
            client.delete_object(Bucket=bucket, Key=name)
    elif how == "behind":  # the last batch is deleted: Spark would plan it anew, with other offsets
        assert before.finished > 0
        for folder in ("offsets", "commits"):
            client.delete_object(Bucket=bucket, Key=f"{prefix}/{folder}/{last}")
    else:
        name, rest = ("offsets", b'v1\n{"batchWaterm') if how == "damaged" else ("commits", b"")
        client.put_object(Bucket=bucket, Key=f"{prefix}/{name}/{last}", Body=rest)
    crm("generate", "live", "--tps", "40", "--for", "2s")
    refused = crm("up", "stream", fails=True)
    assert "checkpoint of events" in refused.stderr
    assert "crm stream recover events" in refused.stderr
    told = crm("stream", "recover", "events").stdout
    assert "goes on from what bronze holds" in told
    if how == "damaged":  # then all else that a start reads, too
        for address in (recovered_start(settings.lake_root, "events"), lease(settings.lake_root)):
            client.put_object(Bucket=bucket, Key=place_of(address)[1], Body=b'{"off')
        assert "what a recovery left is damaged" in crm("up", "stream", fails=True).stderr
        crm("stream", "recover", "events")
    bronze = version_of(settings, "bronze", "events")
    started_anew(crm, settings)
    after = read_checkpoint(settings, "events")
    assert after.query_id != before.query_id
    assert version_of(settings, "bronze", "events") > bronze
    rows = pl.from_arrow(stores.open_table(settings, "bronze", "events").to_pyarrow_table())
    assert not rows.select("kafka_topic", "kafka_partition", "kafka_offset").is_duplicated().any()


def test_a_checkpoints_file_is_written_once(settings):
    """By one request, whole or not at all; one whose answer was lost, and is sent again, meets itself."""
    program = """
from spark_jobs.session import spark_session

spark = spark_session("test")
jvm, path = spark._jvm, spark._jvm.org.apache.hadoop.fs.Path
managers = jvm.org.apache.spark.sql.execution.streaming.checkpointing.CheckpointFileManager
folder = path("s3a://lake/test/offsets")
manager = managers.create(folder, spark._jsparkSession.sessionState().newHadoopConf())
print(manager.getClass().getName())


def write(name, content, ends="close"):
    file = manager.createAtomic(path(folder, name), False)
    file.write(bytearray(content))
    getattr(file, ends)()


write("0", b"one")
write("0", b"one")
write("1", b"half", ends="cancel")
try:
    write("0", b"two")
except Exception as error:
    print(error.java_exception.getClass().getName())
"""
    done = subprocess.run(
        [env_bin(settings, "spark", "python"), "-c", program], env=process_environment(settings), capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == ["crm.lake.ConditionalCheckpoints", "org.apache.hadoop.fs.FileAlreadyExistsException"]
    client, folder = s3_client(settings), "s3a://lake/test/offsets"
    assert read_object(client, f"{folder}/0") == b"one"
    assert names_below(client, folder) == [f"{place_of(folder)[1]}/0"]
    client.delete_object(Bucket="lake", Key=f"{place_of(folder)[1]}/0")


def test_a_running_stream_is_not_recovered(crm, settings):
    assert "stop it first" in crm("stream", "recover", "orders", fails=True).stderr


# --- requests ----------------------------------------------------------------------------------------


def test_files_are_backfilled_as_the_stream_would_have_landed_them(crm, settings, tmp_path):
    """Days before the history come by files; then the same days come by Kafka, and are all repeats."""
    first, _ = history_window(settings)
    day = str(date.fromisoformat(first) - timedelta(days=2))
    crm("generate", "backfill", "--from", day, "--to", day, "--out", str(tmp_path), "--json")
    whole = next((tmp_path / "events").rglob("*.ndjson"))
    lines = whole.read_text().splitlines(keepends=True)
    whole.write_text("".join(lines[:-20]))
    whole.with_name("z.ndjson").write_text("".join(lines[3:10] + lines[-20:]))  # some again, in another file
    words = ("generate", "backfill", "--from", day, "--to", day, "--format", "parquet", "--json", "--out")
    crm(*words, "s3://lake/import/pq")
    before = {entity: stores.silver_digest(settings, entity).count for entity in ENTITIES}
    crm("backfill", "events", str(tmp_path / "events"))
    crm("backfill", "orders", "s3://lake/import/pq/orders")
    there = crm("backfill", "events", str(tmp_path / "events")).stdout
    assert "records: 0" in there
    gained = {entity: stores.silver_digest(settings, entity).count - before[entity] for entity in ENTITIES}
    assert gained["events"] == len(lines) > 100 and gained["orders"] > 0
    crm("generate", "backfill", "--from", day, "--to", day)
    wait_for(lambda: landed(settings), what="the repeats to land")
    check_silver(settings)


def test_a_backfill_of_nothing_says_so(crm, settings):
    assert "holds no files to backfill" in crm("backfill", "events", "/nowhere", fails=True).stderr
    assert "holds the lake's own tables" in crm("backfill", "events", settings.lake_root, fails=True).stderr
    assert "no entity" in crm("backfill", "teapots", "/nowhere", fails=True).stderr
    assert "no topic" in crm("backfill", "events", "--topic", "crm.nothing.v9", fails=True).stderr


def test_a_topic_is_backfilled_once_and_one_of_the_same_name_is_refused(crm, settings):
    # as they came: a record in another spelling would be a message more for the audit
    came, bad = (
        pl.from_arrow(stores.open_table(settings, layer, "orders").to_pyarrow_table(columns=["value"]))["value"]
        for layer in ("bronze", "quarantine")
    )
    messages = came.filter(~came.is_in(bad.implode())).unique(maintain_order=True)
    admin, topic = AdminClient({"bootstrap.servers": settings.kafka_address}), "tests.import.orders"

    def send(message):
        admin.create_topics([NewTopic(topic, 1)])[topic].result(30)
        producer = Producer({"bootstrap.servers": settings.kafka_address})
        producer.produce(topic, message)
        assert producer.flush(30) == 0

    send(messages[0])
    assert "records: 1, refused: 0, messages: 1, repeated: 1" in crm("backfill", "orders", "--topic", topic).stdout
    assert "records: 0, refused: 0, messages: 1, repeated: 0" in crm("backfill", "orders", "--topic", topic).stdout
    admin.delete_topics([topic])[topic].result(30)
    time.sleep(2)  # the broker says that it is gone before it is
    send(messages[1])
    assert "it was made anew" in crm("backfill", "orders", "--topic", topic, fails=True).stderr
    admin.delete_topics([topic])[topic].result(30)


def test_maintenance_beside_live_traffic_changes_no_row(crm, settings):
    generator = crm.start("generate", "live", "--tps", "40", "--for", "10s")
    report = json.loads(crm("maintenance", "events", "--json").stdout)
    generator.communicate(timeout=120)
    assert report.keys() == {"bronze.events", "silver.events", "quarantine.events"}
    joined = [
        one for one in stores.open_table(settings, "silver", "events").history() if one["operation"] == "OPTIMIZE"
    ]
    assert sum(int(one["operationMetrics"]["numRemovedFiles"]) for one in joined) > 1
    report = json.loads(crm("maintenance", "orders", "--retention", "1", "--json").stdout)
    assert report["bronze.orders"]["retention_hours"] == 1
    # silver's stay until they are published, and an hour more
    assert 1 < report["silver.orders"]["retention_hours"] < 3
    assert "too short" in crm("maintenance", "--retention", "0", fails=True).stderr
    assert "too short" in crm("maintenance", "--retention", "0.5", fails=True).stderr
    wait_for(lambda: landed(settings), what="what was sent to land")
    check_silver(settings)


def test_a_customer_is_forgotten_everywhere(crm, settings):
    wait_for(lambda: landed(settings), what="what was sent to land")
    visitors = silver(settings, "events")["customer_id"].unique()
    customer = made(settings, "orders").filter(pl.col("customer_id").is_in(visitors.implode()))["customer_id"][0]
    with connect(settings) as connection:
        connection.execute(
            "insert into ops.gate_results (run_id, layer, entity, expectation, success, failed_rows, failed_keys)"
            " values ('r', 'silver', 'profiles', 'e', false, 1, %s)", (json.dumps([{"customer_id": customer}]),),
        )  # fmt: skip
    page = pages(settings) / "runs" / "r" / "silver.html"
    page.parent.mkdir(parents=True)
    page.write_text(f"<p>{customer}</p>")
    told = crm("forget", customer).stdout
    assert hashlib.sha256(customer.encode()).hexdigest() in told
    for entity in ("events", "orders", "profiles"):
        assert len(silver(settings, entity).filter(pl.col("customer_id") == customer)) == 0
        with connect(settings) as connection:
            query = f"select count(*) from lake.{entity} where customer_id = %s"
            assert connection.execute(query, (customer,)).fetchone() == (0,)
    with connect(settings) as connection:
        assert connection.execute("select failed_keys from ops.gate_results where run_id = 'r'").fetchone() == ([],)
    assert not page.exists()
    client = s3_client(settings)
    objects = [
        one for one in objects_below(settings, settings.lake_root) if not one.key.startswith(("export", "import"))
    ]
    assert len(objects) > 100
    holding = [one.key for one in objects if holds(client, settings, one.key, customer)]
    assert holding == []
    for row in audit(settings):
        assert not [words for words in row.disagreements if "silver has" in words or "bronze" in words], row
    # what still comes of the customer is kept out
    good = next(row for row in made(settings, "orders").iter_rows(named=True) if row["customer_id"] == customer)
    producer = Producer({"bootstrap.servers": settings.kafka_address})
    producer.produce(TOPICS["orders"], spelled("orders", good), key=customer.encode())
    assert producer.flush(30) == 0
    wait_for(lambda: landed(settings), what="the late message to land")
    assert len(silver(settings, "orders").filter(pl.col("customer_id") == customer)) == 0
    bronze = pl.from_arrow(stores.open_table(settings, "bronze", "orders").to_pyarrow_table(columns=["value"]))
    assert not any(customer.encode() in value for value in bronze["value"] if value)


def holds(client, settings, key, customer):
    """Whether an object of the lake holds a customer's id, in a table's file or in plain text."""
    data = read_object(client, f"s3a://{settings.s3_bucket}/{key}")
    if key.endswith(".parquet") and data[:4] == b"PAR1":
        frame = pl.read_parquet(data)
        messages = frame.select(pl.col(pl.Binary))
        if any(column.bin.contains(customer.encode()).any() for column in messages):
            return True
        return customer in frame.drop(messages.columns).write_ndjson()
    return customer.encode() in data


def spelled(entity, record):
    return CONTRACTS[entity].model_validate(record).model_dump_json().encode()


# --- time travel and quarantine ------------------------------------------------------------------------


def test_what_two_versions_differ_in_is_told_by_id(crm, settings):
    wait_for(lambda: landed(settings), what="what was sent to land")
    assert "rows" in crm("timetravel", "show", "products", "--limit", "2").stdout
    table = stores.open_table(settings, "silver", "events")
    first = table.version()
    crm("generate", "live", "--tps", "30", "--for", "2s")
    wait_for(lambda: landed(settings), what="what was sent to land")
    last = stores.open_table(settings, "silver", "events").version()
    told = json.loads(crm("timetravel", "diff", "events", "--from", str(first), "--to", str(last), "--json").stdout)
    assert told["added"]["count"] > 10 and told["removed"]["count"] == told["changed"]["count"] == 0
    assert "no version 99999" in crm("timetravel", "show", "events", "--as-of", "99999", fails=True).stderr
    assert "no time zone" in crm("timetravel", "show", "events", "--as-of", "2026-11-20T09:00:00", fails=True).stderr


def test_a_program_that_has_read_a_table_ends_well(settings):
    """Read by Python's hands, two of three such programs aborted at their end."""
    program = (
        "from data_platform_core.settings import load_settings\n"
        "from data_platform_core.ledger.stores import open_table\n"
        "rows = open_table(load_settings(), 'silver', 'events').to_pyarrow_table()\n"
    )
    command = [env_bin(settings, "platform", "python"), "-c", program]
    programs = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [program.wait(120) for program in programs] == [0] * 4


@contextmanager
def smallest_messages(settings, topic):
    """Kafka refuses whatever has any size, for the block."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_address})

    def alter(value, operation):
        entry = ConfigEntry("max.message.bytes", value, incremental_operation=operation)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        for done in admin.incremental_alter_configs([resource]).values():
            done.result(30)

    alter("10", AlterConfigOpType.SET)
    try:
        yield
    finally:
        alter(None, AlterConfigOpType.DELETE)


def test_a_mended_message_is_put_back_once(crm, settings):
    good = json.loads((ROOT / "data-platform-core/tests/contracts/events.1.minimal.pass.json").read_text())
    good |= {"event_id": f"{random.getrandbits(128):032x}", "device": "toaster"}
    producer = Producer({"bootstrap.servers": settings.kafka_address})
    producer.produce(TOPICS["events"], json.dumps(good).encode(), key=b"somebody")
    assert producer.flush(30) == 0
    wait_for(lambda: landed(settings), what="the refused message to land")
    held = quarantine(settings, "events").filter(pl.col("reason") == "unknown_value:device")
    assert len(held) == 1
    place = f"{held['kafka_partition'][0]}:{held['kafka_offset'][0]}"
    listed = crm("quarantine", "list", "events").stdout
    assert "unknown_value:device" in listed
    assert "toaster" in crm("quarantine", "show", "events", "--at", place).stdout
    still = crm("quarantine", "replay", "events", "--at", place, "--set", 'device="kettle"', fails=True)
    assert "still break the contract" in still.stderr
    mend = ("quarantine", "replay", "events", "--at", place, "--set", 'device="tablet"')
    with smallest_messages(settings, TOPICS["events"]):
        unconfirmed = crm(*mend, fails=True).stderr
    assert "did not confirm 1 of 1 messages" in unconfirmed and "sends them again" in unconfirmed
    assert "1 sent, 0 had" in crm(*mend).stdout
    assert "0 sent, 1 had" in crm(*mend).stdout
    wait_for(lambda: landed(settings), what="the mended message to land")
    found = silver(settings, "events").filter(pl.col("event_id") == good["event_id"])
    assert found["device"].to_list() == ["tablet"]
    (row,) = [row for row in audit(settings) if row.entity == "events"]
    assert not [words for words in row.disagreements if "silver has" in words or "quarantine" in words], row


# --- masters -------------------------------------------------------------------------------------------


def test_versions_of_a_master_follow_each_other_by_event_time(settings):
    wait_for(lambda: landed(settings), what="what was sent to land")
    for entity, owner in (("products", "product_id"), ("profiles", "customer_id")):
        rows = silver(settings, entity).sort(owner, "effective_at", "sequence")
        following = rows.select(pl.col("valid_from").shift(-1).over(owner))["valid_from"]
        assert rows["valid_from"].equals(rows["effective_at"])
        assert rows["valid_to"].equals(following.alias("valid_to"))
        assert rows["valid_to"].null_count() == rows[owner].n_unique()
