"""Stores that fail in part: one Kafka broker of three, all three, and a disk that is full. `make drill`."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from conftest import wait_for
from known import all_landed, landed, log_of, state_of

from data_platform_core.settings import USUAL_PORTS, load_settings
from home_server.places import CONF, data_dir, jars
from home_server.toolchain import java

pytestmark = [pytest.mark.stack, pytest.mark.drill]

CLUSTER = "c3RvcmUtZHJpbGwtMDAwMQ"
DISK_BYTES = 600 * 2**20


class Brokers:
    """Three Kafka brokers, each a controller too, that can be killed one by one."""

    def __init__(self, folder, offset):
        self._folder = folder
        self._ports = {node: (USUAL_PORTS["kafka"] + offset + 10 * node, 5 + USUAL_PORTS["kafka"] + offset + 10 * node)
                       for node in (1, 2, 3)}  # fmt: skip
        self._running = {}

    @property
    def bootstrap(self):
        return ",".join(f"127.0.0.1:{port}" for port, _ in self._ports.values())

    def start(self, node):
        settings = load_settings()
        home = self._folder / str(node)
        port, controller = self._ports[node]
        voters = ",".join(f"{n}@127.0.0.1:{c}" for n, (_, c) in self._ports.items())
        words = {
            "process.roles": "broker,controller",
            "node.id": node,
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": home / "data",
            "auto.create.topics.enable": "false",
            "default.replication.factor": 3,
            "min.insync.replicas": 2,
        }
        home.mkdir(parents=True, exist_ok=True)
        config = home / "kafka.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in words.items()))
        logging = f"-Dlog4j2.configurationFile={CONF / 'kafka-log4j2.properties'}"
        command = [str(java(settings)), "-Xmx384m", "-XX:+UseSerialGC", logging, "-cp", f"{jars(settings, 'kafka')}/*"]
        with (home / "log").open("a") as log:
            if not (home / "data" / "meta.properties").exists():
                form = [*command, "kafka.tools.StorageTool", "format", f"--cluster-id={CLUSTER}", "-c", str(config)]
                subprocess.run(form, check=True, stdout=log, stderr=log)
            self._running[node] = subprocess.Popen([*command, "kafka.Kafka", str(config)], stdout=log, stderr=log)

    def kill(self, node):
        process = self._running.pop(node)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def seen(self):
        try:
            return len(AdminClient({"bootstrap.servers": self.bootstrap}).list_topics(timeout=5).brokers)
        except KafkaException:
            return 0

    def __enter__(self):
        for node in self._ports:
            self.start(node)
        wait_for(lambda: self.seen() == 3, 180, "the three brokers")
        return self

    def __exit__(self, *_):
        for node in list(self._running):
            self.kill(node)


def test_one_broker_of_three_is_killed_and_then_all(crm, own_stack, monkeypatch, tmp_path):
    with Brokers(tmp_path / "brokers", own_stack) as brokers:
        monkeypatch.setenv("CRM_KAFKA_BOOTSTRAP", brokers.bootstrap)
        crm("up", "stream", "postgres")
        settings = load_settings()
        generator = crm.start("generate", "live", "--tps", "100", "--for", "60s")
        time.sleep(15)
        brokers.kill(2)
        told = generator.communicate(timeout=300)
        assert generator.returncode == 0, told
        all_landed(settings, 300)
        brokers.start(2)
        wait_for(lambda: brokers.seen() == 3, 180, "the broker that was killed")
        for node in (1, 2, 3):
            brokers.kill(node)
        time.sleep(30)
        assert state_of(crm, "stream") == "running"
        for node in (1, 2, 3):
            brokers.start(node)
        wait_for(lambda: brokers.seen() == 3, 180, "the three brokers, again")
        crm("generate", "live", "--tps", "100", "--for", "5s")
        all_landed(settings, 300)
        assert state_of(crm, "stream") == "running"
        crm("down")


@contextmanager
def small_disk(folder):
    """A file system of its own, of a size that can be filled."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "drill", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a file system: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_of_the_store_is_named_and_waited_for(crm, own_stack):
    store = load_settings().s3_store
    disk = data_dir(load_settings(), store)
    with small_disk(disk):
        crm("up", "stream", "postgres")
        settings = load_settings()
        crm("generate", "live", "--tps", "100", "--for", "5s")
        all_landed(settings, 300)
        filler = Path(disk) / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - 2**20)
        crm("generate", "live", "--tps", "100", "--for", "5s")
        wait_for(lambda: "the lake's store is full" in log_of(settings), 240, "the words on a full store")
        assert not landed(settings)
        filler.unlink()
        all_landed(settings, 300)
        assert state_of(crm, "stream") == "running"
        wait_for(lambda: "goes on after" in log_of(settings), 60, "the words on its going on")
        crm("down")
