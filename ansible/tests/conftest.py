"""A test bed for the playbooks: real systemd hosts, reached over ssh. Run by `make test-infra` or `make drill-infra`."""

import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from data_platform_core.settings import load_settings
from home_server.testbed.bed import Host, laid_bed
from home_server.testbed.command import EXAMPLE_HOSTS

ANSIBLE = Path(__file__).parents[1]
KAFKA_HOSTS = ("kafka-1", "kafka-2", "kafka-3")
SERVERS = "192.0.2.11:9092,192.0.2.12:9092,192.0.2.13:9092"


@pytest.fixture(scope="session")
def bed():
    if "CRM_BED" not in os.environ:
        pytest.skip("needs a test bed: run it by `make test-infra` as root")
    with laid_bed(load_settings()) as bed:
        yield bed


@pytest.fixture(scope="session")
def hosts(bed):
    """Starts hosts of the example inventory by name; those that run already are left as they are."""

    def start(*names):
        for name in names:
            if name not in bed.hosts:
                bed.lay(Host(name, EXAMPLE_HOSTS[name]))
        with ThreadPoolExecutor() as pool:
            list(pool.map(bed.start, names))

    return start


@pytest.fixture(scope="session")
def client(bed):
    """Settings of a client of the example inventory's Kafka."""

    def settings(name, **more):
        return {
            "bootstrap.servers": SERVERS,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": name,
            "sasl.password": bed.secret(f"vault_kafka_{name}_password"),
            "ssl.ca.location": str(bed.authority / "ca.pem"),
        } | more

    return settings


@dataclass(frozen=True)
class Played:
    """What a playbook said and did."""

    output: str
    recap: dict

    @property
    def said(self):
        """The output as one line: Ansible breaks long ones wherever it likes."""
        return " ".join(self.output.split())

    @property
    def changed(self):
        return sum(counts["changed"] for counts in self.recap.values())


def as_a_user(bed, *arguments, env=None):
    """How `subprocess` starts a playbook as a user does, against the example inventory."""
    command = [str(load_settings().home / "bin" / "ansible-playbook"), *arguments]
    environment = os.environ | bed.environment() | (env or {})
    return {"args": command, "cwd": ANSIBLE, "env": environment, "stdin": subprocess.DEVNULL, "text": True}


@pytest.fixture(scope="session")
def playbook(bed):
    """Runs a playbook as a user does, against the example inventory."""

    def play(*arguments, fails=False, env=None, timeout=600):
        done = subprocess.run(**as_a_user(bed, *arguments, env=env), capture_output=True, timeout=timeout)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, f"{' '.join(map(str, arguments))}\n{output}"
        lines = re.findall(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", output, re.M)
        names = ("ok", "changed", "unreachable", "failed")
        recap = {host: dict(zip(names, map(int, counts), strict=True)) for host, *counts in lines}
        assert recap or fails, output
        return Played(output, recap)

    return play


@pytest.fixture(scope="session")
def cluster(hosts, playbook):
    """Three empty hosts, made ready and made a Kafka by the playbooks: what their first run did."""
    hosts(*KAFKA_HOSTS)
    return playbook("hosts.yml", "kafka.yml", "--limit", "kafka")


def wait_for(condition, within_seconds=60.0, what="the condition"):
    """Wait until a condition is true, with a limit."""
    deadline = time.monotonic() + within_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} has not come true after {within_seconds:.0f} s"
        time.sleep(0.2)
    return value
