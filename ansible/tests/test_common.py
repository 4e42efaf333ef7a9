"""Role common on a real host; that its second run changes nothing is shown together with Kafka's."""

import json
import socket

import pytest


def test_the_firewall_is_closed_but_for_ssh(cluster, bed):
    bed.ssh("kafka-1", "systemd-run --unit=listener python3 -m http.server 8123")
    try:
        with pytest.raises(TimeoutError):
            socket.create_connection(("192.0.2.11", 8123), timeout=2)
    finally:
        bed.ssh("kafka-1", "systemctl stop listener")
    assert "policy drop" in bed.ssh("kafka-1", "nft list chain inet crm input")


def test_a_machine_with_less_memory_than_promised_is_named(cluster, playbook):
    played = playbook("hosts.yml", "--limit", "kafka-1", "-e", '{"common_memory_mb": 9999999}', fails=True)
    assert "kafka-1 has" in played.output and "run proxmox.yml" in played.output


@pytest.mark.drill
def test_rules_that_cannot_be_loaded_are_replaced_and_a_list_may_be_empty(cluster, bed, playbook):
    bed.ssh(
        "kafka-1", "nft delete table inet crm; echo 'ip saddr { } tcp dport { 1 } accept' > /etc/nftables.d/kafka.nft"
    )
    played = playbook("kafka.yml", "--limit", "kafka", "-e", '{"kafka_metrics_from": []}')
    assert played.changed > 0
    assert "9094" in bed.ssh("kafka-1", "systemctl restart nftables && nft list chain inet crm input")
    assert "7071" not in bed.ssh("kafka-1", "nft list chain inet crm input")
    playbook("kafka.yml", "--limit", "kafka")
    assert "7071" in bed.ssh("kafka-1", "nft list chain inet crm input")


@pytest.mark.drill
def test_users_come_with_their_keys_and_nothing_else_of_theirs_stays(cluster, bed, playbook):
    users = json.dumps({"common_users": [{"name": "mina", "keys": [bed.public_key], "sudo": True}]})
    playbook("hosts.yml", "--limit", "kafka-1", "-e", users)
    assert bed.public_key in bed.ssh("kafka-1", "cat /home/mina/.ssh/authorized_keys")
    assert bed.ssh("kafka-1", "sudo -u mina sudo -n id -u").strip() == "0"
    assert playbook("hosts.yml", "--limit", "kafka-1", "-e", users).changed == 0
    gone = json.dumps({"common_users": [{"name": "mina", "state": "absent"}]})
    playbook("hosts.yml", "--limit", "kafka-1", "-e", gone)
    assert "absent" in bed.ssh("kafka-1", "id mina 2>/dev/null || ls /etc/sudoers.d/mina 2>/dev/null || echo absent")
