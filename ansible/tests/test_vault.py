"""Secrets of the example inventory: all in one file, and read from it when it is encrypted."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ANSIBLE

from data_platform_core.settings import load_settings

HOME = ANSIBLE / "inventories" / "home"
EXAMPLE = ANSIBLE / "vault.example.yml"


def test_every_secret_of_the_inventory_is_in_the_example_and_empty():
    asked = {name for file in HOME.rglob("*.yml") for name in re.findall(r"\bvault_\w+", file.read_text())}
    example = yaml.safe_load(EXAMPLE.read_text())
    assert example.keys() == asked
    assert set(example.values()) == {""}


@pytest.fixture
def inventory(tmp_path):
    """A copy of the inventory with a vault, and the words that open it."""
    copy = Path(shutil.copytree(HOME, tmp_path / "home"))
    secrets = {name: f"{name} as it is in the vault" for name in yaml.safe_load(EXAMPLE.read_text())}
    vault = copy / "group_vars" / "all" / "vault.yml"
    vault.write_text(yaml.safe_dump(secrets))
    (tmp_path / "passphrase").write_text("a passphrase")
    return copy, vault, ["--vault-password-file", str(tmp_path / "passphrase")]


def run(command, *words):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    crm_bin = load_settings().home / "bin"
    return subprocess.run([crm_bin / command, *words], capture_output=True, text=True, cwd=ANSIBLE, env=environment)


def test_an_encrypted_vault_gives_its_secrets_to_who_knows_the_passphrase(inventory):
    copy, vault, opened = inventory
    assert run("ansible-vault", "encrypt", *opened, vault).returncode == 0
    assert vault.read_text().startswith("$ANSIBLE_VAULT")
    shown = ["ansible", "kafka-1", "-i", copy, "-m", "ansible.builtin.debug", "-a", "var=kafka_clients"]
    assert "vault secrets" in run(*shown).stderr.replace("\n", " ")
    done = run(*shown, *opened)
    assert "vault_kafka_spark_password as it is in the vault" in done.stdout, done.stderr
    listed = json.loads(run("ansible-inventory", "-i", copy, "--host", "lake-1", *opened).stdout)
    assert listed["minio_root_password"] == "{{ vault_minio_root_password }}"
