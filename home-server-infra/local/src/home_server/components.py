"""The components of the stack: Kafka, MinIO, PostgreSQL, Airflow's four processes and the stream."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from string import Template

from data_platform_core.errors import ComponentFailed
from data_platform_core.kafka import client_settings
from data_platform_core.layers import TOPICS
from data_platform_core.s3 import s3_client
from data_platform_core.settings import Settings
from data_platform_core.warehouse import AIRFLOW, MODELER, PUBLISHER, prepare_warehouse
from home_server.credentials import write_private
from home_server.environment import admin_dsn, process_environment
from home_server.places import CONDITIONAL, CONF, IVY, REQUIREMENTS, data_dir, env_bin, jars, log_file, setup_log
from home_server.processes import Component
from home_server.steps import run_command
from home_server.toolchain import java, made_once, minio_binary, postgres_bin, seaweedfs_binary

READY_FILE = "stream.ready"


def component_named(settings: Settings, name: str) -> Component:
    """A component of the stack; what it runs on must be installed."""
    if name.startswith("airflow-"):
        return _airflow(settings, name)
    makers = {"kafka": _kafka, "minio": _minio, "postgres": _postgres, "seaweedfs": _seaweedfs, "stream": _stream}
    return makers[name](settings)


# --- Kafka ------------------------------------------------------------------------------------


def _kafka(settings: Settings) -> Component:
    config = settings.stack_dir / "conf" / "kafka.properties"
    data = data_dir(settings, "kafka")
    classpath = f"{jars(settings, 'kafka')}/*"
    logging = f"-Dlog4j2.configurationFile={CONF / 'kafka-log4j2.properties'}"
    command = [str(java(settings)), "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", logging, "-cp", classpath]
    env = process_environment(settings)

    def prepare() -> None:
        _render(
            "kafka.properties",
            config,
            data=data,
            port=settings.port("kafka"),
            controller_port=settings.port("kafka-controller"),
        )
        if not (data / "meta.properties").exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            # one word, for one id in 64 begins with a dash
            tool = [*command, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(config)]
            run_command(tool, log_file(settings.stack_dir, "kafka"), env, "formatting Kafka's storage")

    return Component(
        name="kafka",
        command=[*command, "kafka.Kafka", str(config)],
        env=env,
        is_ready=lambda: _kafka_answers(settings),
        ports={"Kafka": settings.port("kafka"), "Kafka's controller": settings.port("kafka-controller")},
        address=settings.kafka_address,
        prepare=prepare,
    )


def _kafka_answers(settings: Settings) -> bool:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        AdminClient(client_settings(settings)).list_topics(timeout=2)
    except KafkaException:
        return False
    return True


def create_topics(settings: Settings) -> str:
    """Create the topics that are missing; returns their names.

    Raises:
        ComponentFailed: Kafka is out of reach or refuses.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    admin = AdminClient(client_settings(settings))
    try:
        known = admin.list_topics(timeout=10)
        replicas = min(3, len(known.brokers))
        # a record's arrival is told by the broker: years of history must not look old to retention
        config = {
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "delete",
            "retention.ms": str(settings.kafka_retention_hours * 3_600_000),
        }
        missing = [
            NewTopic(topic, settings.kafka_partitions, replicas, config=config)
            for topic in TOPICS.values()
            if topic not in known.topics
        ]
        for created in admin.create_topics(missing).values() if missing else ():
            created.result(timeout=30)
    except KafkaException as error:
        raise ComponentFailed(f"Kafka at {settings.kafka_address}: {error}") from None
    return ", ".join(TOPICS.values())


# --- MinIO ------------------------------------------------------------------------------------


def _minio(settings: Settings) -> Component:
    env = process_environment(settings) | {
        "MINIO_ROOT_USER": settings.s3_access_key,
        "MINIO_ROOT_PASSWORD": settings.secret("s3_secret_key"),
        "MINIO_UPDATE": "off",
        "MINIO_PROMETHEUS_AUTH_TYPE": "public",
    }
    data = data_dir(settings, "minio")
    console = f"127.0.0.1:{settings.port('minio-console')}"
    return Component(
        name="minio",
        command=[
            str(minio_binary(settings)),
            "server",
            str(data),
            "--address",
            f"127.0.0.1:{settings.port('minio')}",
            "--console-address",
            console,
        ],
        env=env,
        is_ready=lambda: _answers(f"{settings.s3_url}/minio/health/ready"),
        ports={"MinIO": settings.port("minio"), "MinIO's console": settings.port("minio-console")},
        address=settings.s3_url,
        prepare=lambda: data.mkdir(parents=True, exist_ok=True),
    )


def _seaweedfs(settings: Settings) -> Component:
    data = data_dir(settings, "seaweedfs")
    identities = settings.stack_dir / "conf" / "seaweedfs.json"
    key = {"accessKey": settings.s3_access_key, "secretKey": settings.secret("s3_secret_key")}
    may = ["Admin", "Read", "Write", "List", "Tagging"]
    words = {
        "dir": data,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.port": settings.port("seaweedfs-master"),
        "master.port.grpc": settings.port("seaweedfs-master-grpc"),
        "master.volumeSizeLimitMB": 1024,
        "master.telemetry": "false",
        "volume.port": settings.port("seaweedfs-volume"),
        "volume.port.grpc": settings.port("seaweedfs-volume-grpc"),
        "volume.max": 0,  # as many as the disk has room for
        "filer.port": settings.port("seaweedfs-filer"),
        "filer.port.grpc": settings.port("seaweedfs-filer-grpc"),
        "s3.port": settings.port("seaweedfs"),
        "s3.port.grpc": settings.port("seaweedfs-s3-grpc"),
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": identities,
    }

    def prepare() -> None:
        data.mkdir(parents=True, exist_ok=True)
        write_private(
            identities, json.dumps({"identities": [{"name": "crm", "credentials": [key], "actions": may}]}, indent=2)
        )

    return Component(
        name="seaweedfs",
        command=[str(seaweedfs_binary(settings)), "server", "-filer", "-s3", *(f"-{n}={v}" for n, v in words.items())],
        env=process_environment(settings),
        is_ready=lambda: _store_answers(settings),
        ports={"SeaweedFS": settings.port("seaweedfs"), "SeaweedFS' filer": settings.port("seaweedfs-filer")},
        address=settings.s3_url,
        prepare=prepare,
    )


def _store_answers(settings: Settings) -> bool:
    """Whether S3 answers, and the volumes, which come a little later, are known to the master."""
    import httpx
    from botocore.exceptions import BotoCoreError, ClientError

    status = f"http://127.0.0.1:{settings.port('seaweedfs-master')}/dir/status"
    try:
        topology = httpx.get(status, timeout=2, trust_env=False).json()["Topology"]
        s3_client(settings).list_buckets()
    except (httpx.HTTPError, ValueError, KeyError, BotoCoreError, ClientError):
        return False
    return bool(topology.get("DataCenters"))


def create_bucket(settings: Settings) -> str:
    """Create the lake's bucket if it is missing; returns its address.

    Raises:
        ComponentFailed: the store refuses.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    client = s3_client(settings)
    try:
        if settings.s3_bucket not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=settings.s3_bucket)
    except (BotoCoreError, ClientError) as error:
        raise ComponentFailed(f"the S3 store at {settings.s3_url}: {error}") from None
    return settings.lake_root


# --- PostgreSQL -------------------------------------------------------------------------------


def _postgres(settings: Settings) -> Component:
    data = data_dir(settings, "postgres")
    env = process_environment(settings)

    def prepare() -> None:
        if (data / "PG_VERSION").exists():
            return
        password = settings.stack_dir / "conf" / "postgres.password"
        write_private(password, settings.secret("postgres_admin_password"))
        half = data.with_name("postgres.half")
        shutil.rmtree(half, ignore_errors=True)  # of a start that was broken off
        initdb = [
            *_not_as_root(),
            postgres_bin(settings, "initdb"),
            "-D",
            str(half),
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--auth=scram-sha-256",
            f"--pwfile={password}",
        ]
        run_command(initdb, log_file(settings.stack_dir, "postgres"), env, "creating the database cluster")
        half.rename(data)
        password.unlink()

    return Component(
        name="postgres",
        command=[
            *_not_as_root(),
            postgres_bin(settings, "postgres"),
            "-D",
            str(data),
            "-p",
            str(settings.port("postgres")),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "max_connections=100",
            "-c",
            "shared_buffers=256MB",
            "-c",
            "max_wal_size=4GB",
            "-c",
            "wal_level=minimal",  # nothing replicates it: what fills a table of its own transaction needs no log
            "-c",
            "max_wal_senders=0",
            "-c",
            "maintenance_work_mem=256MB",
            "-c",
            "work_mem=48MB",
            "-c",
            "timezone=UTC",
        ],
        env=env,
        is_ready=lambda: _postgres_answers(settings),
        ports={"PostgreSQL": settings.port("postgres")},
        address=f"127.0.0.1:{settings.port('postgres')}",
        prepare=prepare,
    )


def _not_as_root() -> list[str]:
    """PostgreSQL refuses to run as root: a user namespace gives it another number."""
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"] if os.geteuid() == 0 else []


def _postgres_answers(settings: Settings) -> bool:
    import psycopg

    try:
        psycopg.connect(admin_dsn(settings), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def create_warehouse(settings: Settings) -> str:
    """Create roles, databases, schemas and published tables; returns the server's address."""
    passwords = {
        PUBLISHER: settings.secret("publisher_password"),
        MODELER: settings.secret("dbt_password"),
        AIRFLOW: settings.secret("airflow_db_password"),
    }
    prepare_warehouse(admin_dsn(settings), passwords)
    return "roles and schemas"


# --- the stream -------------------------------------------------------------------------------


def _stream(settings: Settings) -> Component:
    ready = settings.stack_dir / "run" / READY_FILE

    def prepare() -> None:
        ready.unlink(missing_ok=True)
        write_spark_conf(settings)

    return Component(
        name="stream",
        command=[env_bin(settings, "spark", "python"), "-m", "spark_jobs.streaming", "--ready-file", str(ready)],
        env=process_environment(settings) | _from_archive(settings, _spark_conf(settings)),
        is_ready=ready.exists,
        ports={"Spark's UI": settings.port("spark-ui"), "the stream's metrics": settings.port("stream-metrics")},
        address=f"http://127.0.0.1:{settings.port('spark-ui')}",
        prepare=prepare,
    )


def write_spark_conf(settings: Settings) -> None:
    """Render Spark's defaults, which every Spark program of the stack reads."""
    archive = _archive(settings)
    # a shell has another class path than the stream, for which the archive is: it starts without, and need not say so
    words = f"-XX:SharedArchiveFile={archive} -Xlog:cds*=error" if archive.exists() else ""
    _render_spark_conf(settings, _spark_conf(settings), words)


def archive_classes(settings: Settings) -> str | None:
    """Have a JVM keep the classes that the stream loads, from which the stream's own then starts in less time."""
    archive = _archive(settings)
    inputs = [IVY, *CONDITIONAL, REQUIREMENTS / "spark.txt", java(settings).resolve()]

    def make() -> None:
        shutil.rmtree(archive.parent, ignore_errors=True)
        _no_conf(settings).mkdir(parents=True)
        conf = archive.parent / "archive.conf"
        _render_spark_conf(settings, conf, f"-XX:ArchiveClassesAtExit={archive}")
        command = [env_bin(settings, "spark", "python"), "-m", "spark_jobs.classes"]
        env = process_environment(settings) | _from_archive(settings, conf)
        run_command(command, setup_log(settings, "classes"), env, "archiving Spark's classes")

    return made_once(settings, "classes", inputs, make)


def _from_archive(settings: Settings, conf: Path) -> dict[str, str]:
    """What makes Spark's class path one that can be archived: the JVM refuses one with a folder that holds files."""
    return {"SPARK_CONF_DIR": str(_no_conf(settings)), "PYSPARK_SUBMIT_ARGS": f"--properties-file {conf} pyspark-shell"}


def _archive(settings: Settings) -> Path:
    return settings.home / "classes" / "spark.jsa"


def _no_conf(settings: Settings) -> Path:
    return settings.home / "classes" / "nothing"


def _spark_conf(settings: Settings) -> Path:
    return settings.stack_dir / "conf" / "spark" / "spark-defaults.conf"


def _render_spark_conf(settings: Settings, target: Path, archive: str) -> None:
    _render(
        "spark-defaults.conf",
        target,
        archive=archive,
        master=settings.spark_master,
        driver_memory=settings.spark_driver_memory,
        jars=jars(settings, "spark"),
        log4j2=CONF / "spark-log4j2.properties",
        data=data_dir(settings, "spark"),
        ui_port=settings.port("spark-ui"),
        s3_url=settings.s3_url,
        access_key=settings.s3_access_key,
        ssl=str(settings.s3_url.startswith("https:")).lower(),
    )


# --- Airflow ----------------------------------------------------------------------------------


def _airflow(settings: Settings, name: str) -> Component:
    health = f"{settings.airflow_url}/api/v2/monitor/health"
    program = name.removeprefix("airflow-")
    is_server = program == "api-server"
    # the servers for logs would listen on all interfaces; on one machine nobody needs them
    arguments = ["--skip-serve-logs"] if program in ("scheduler", "triggerer") else []
    return Component(
        name=name,
        command=[env_bin(settings, "airflow", "airflow"), program, *arguments],
        env=process_environment(settings),
        is_ready=lambda: _answers(health) if is_server else _is_healthy(health, program.replace("-", "_")),
        ports={"Airflow's UI": settings.port("airflow")} if is_server else {},
        address=settings.airflow_url,
    )


def migrate_airflow(settings: Settings) -> str | None:
    """Bring Airflow's database to its version and write the admin's password."""
    password = settings.secret("airflow_admin_password")
    write_private(data_dir(settings, "airflow") / "passwords.json", json.dumps({"admin": password}))
    stamp = data_dir(settings, "airflow") / "migrated"
    lock = (REQUIREMENTS / "airflow.txt").read_bytes()
    word = f"{hashlib.sha256(lock).hexdigest()} {admin_dsn(settings).rpartition('@')[2]}"
    if stamp.exists() and stamp.read_text() == word:
        return "there"
    run_command(
        [env_bin(settings, "airflow", "airflow"), "db", "migrate"],
        log_file(settings.stack_dir, "airflow-migrate"),
        process_environment(settings),
        "migrating Airflow's database",
    )
    stamp.write_text(word)
    return None


def _is_healthy(url: str, part: str) -> bool:
    import httpx

    try:
        return httpx.get(url, timeout=2, trust_env=False).json()[part]["status"] == "healthy"
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _render(template: str, target: Path, **words: object) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(Template((CONF / template).read_text()).substitute(words))
