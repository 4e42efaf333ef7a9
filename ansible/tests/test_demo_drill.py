"""The main job on a Kafka that the playbooks built: pointed there by settings alone."""

import os
import subprocess

import pytest
from conftest import SERVERS

from data_platform_core.settings import load_settings

pytestmark = pytest.mark.drill


def test_the_main_job_runs_on_the_home_servers_kafka(bed, cluster):
    home = load_settings().home
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CRM_", "AIRFLOW", "SPARK"))}
    environment = kept | {
        "CRM_HOME": str(home),
        "CRM_STACK": str(bed.folder / "stack"),
        "CRM_KAFKA_BOOTSTRAP": SERVERS,
        "CRM_KAFKA_USERNAME": "platform",
        "CRM_KAFKA_PASSWORD": bed.secret("vault_kafka_platform_password"),
        "CRM_KAFKA_CA": str(bed.authority / "ca.pem"),
        "CRM_WORLD_CUSTOMERS": "300",
        "CRM_WORLD_PRODUCTS": "40",
        "CRM_WORLD_EVENTS_PER_DAY": "3000",
    }
    crm = str(home / "bin" / "crm")
    try:
        done = subprocess.run(
            [crm, "demo", "--live", "15", "--tps", "40"], env=environment, capture_output=True, text=True, timeout=900
        )
    finally:
        subprocess.run([crm, "reset", "--yes"], env=environment, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    table = [
        line.split()
        for line in done.stdout.splitlines()
        if line.strip().startswith(("events", "orders", "prod", "prof"))
    ]
    agreed = [row for row in table if row[-1] == "yes"]
    assert len(agreed) == 4, done.stdout
    assert all(int(row[2].replace(",", "")) > 0 for row in agreed)
    print(done.stdout)
