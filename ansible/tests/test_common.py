"""Role common on a real host."""

import json
import socket

import pytest


@pytest.fixture(scope="module")
def first_run(hosts, playbook):
    hosts("lake-1")
    return playbook("hosts.yml", "--limit", "lake-1")


def test_a_second_run_changes_nothing_and_check_mode_is_clean(first_run, playbook):
    assert first_run.changed > 0
    assert playbook("hosts.yml", "--limit", "lake-1").changed == 0
    assert playbook("hosts.yml", "--limit", "lake-1", "--check", "--diff").changed == 0


def test_the_firewall_is_closed_but_for_ssh(first_run, bed):
    bed.ssh("lake-1", "systemd-run --unit=listener python3 -m http.server 8123")
    try:
        with pytest.raises(TimeoutError):
            socket.create_connection(("192.0.2.21", 8123), timeout=2)
    finally:
        bed.ssh("lake-1", "systemctl stop listener")
    assert "policy drop" in bed.ssh("lake-1", "nft list chain inet crm input")


def test_a_machine_with_less_memory_than_promised_is_named(first_run, playbook):
    played = playbook("hosts.yml", "--limit", "lake-1", "-e", '{"common_memory_mb": 9999999}', fails=True)
    assert "lake-1 has" in played.output and "run proxmox.yml" in played.output


def test_users_come_with_their_keys_and_nothing_else_of_theirs_stays(first_run, bed, playbook):
    users = json.dumps({"common_users": [{"name": "mina", "keys": [bed.public_key], "sudo": True}]})
    playbook("hosts.yml", "--limit", "lake-1", "-e", users)
    assert bed.public_key in bed.ssh("lake-1", "cat /home/mina/.ssh/authorized_keys")
    assert bed.ssh("lake-1", "sudo -u mina sudo -n id -u").strip() == "0"
    assert playbook("hosts.yml", "--limit", "lake-1", "-e", users).changed == 0
