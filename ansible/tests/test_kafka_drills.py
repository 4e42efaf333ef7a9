"""The long way of one cluster: ZooKeeper, a killed host, KRaft, 4.x, a fourth broker, new certificates; clients go on."""

import os
import signal
import subprocess

import pytest
from confluent_kafka.admin import AdminClient
from conftest import KAFKA_HOSTS, as_a_user, wait_for
from test_kafka import EVENTS, Load, check_refusals, read_all

from home_server.testbed.bed import Host

pytestmark = pytest.mark.drill
ZOOKEEPER = ("-e", "kafka_quorum=zookeeper")
KRAFT_3 = ("-e", "kafka_quorum=kraft", "-e", "kafka_version=3.9.1")


@pytest.fixture(scope="module")
def sent():
    """Everything acknowledged so far, whatever was done to the cluster meanwhile."""
    return set()


@pytest.fixture(scope="module")
def ensemble(bed, hosts, playbook):
    for name in bed.hosts.keys() & set(KAFKA_HOSTS):
        bed.empty(name)  # what another drill left there
    hosts(*KAFKA_HOSTS)
    yield playbook("hosts.yml", "kafka.yml", "--limit", "kafka", *ZOOKEEPER)
    bed.added.clear()
    for name in bed.hosts.keys() & {*KAFKA_HOSTS, "kafka-4"}:
        bed.remove(name)


def under_load(client, sent, act):
    """Act while a producer goes on; nothing is refused and everything acknowledged is read back."""
    with Load(client("generator")) as load:
        wait_for(lambda: len(load.acknowledged) > 100, what="traffic")
        act()
        before = len(load.acknowledged)
        wait_for(lambda: len(load.acknowledged) > before + 100, what="traffic afterwards")
    assert load.errors == []
    sent |= set(load.acknowledged)
    assert sent <= read_all(client("spark"))
    print(f"\n{len(load.acknowledged):,} records acknowledged, longest delay {load.longest_delay:.1f} s")


def partitions(client, name=EVENTS):
    return AdminClient(client("platform")).list_topics(timeout=20).topics[name].partitions


def test_under_zookeeper_a_killed_host_loses_nothing_and_an_empty_one_is_healed(ensemble, client, sent, bed, playbook):
    assert "zookeeper" in bed.ssh("kafka-1", "systemctl is-active zookeeper && systemctl cat zookeeper")
    assert playbook("kafka.yml", *ZOOKEEPER).changed == 0
    under_load(client, sent, lambda: bed.kill("kafka-3"))
    bed.empty("kafka-3")
    bed.start("kafka-3")
    playbook("hosts.yml", "--limit", "kafka-3")
    playbook("kafka.yml", *ZOOKEEPER)
    assert all(sorted(p.isrs) == [1, 2, 3] for p in partitions(client).values())
    assert sent <= read_all(client("spark"))


def test_under_zookeeper_nothing_is_to_be_had_without_tls_a_password_or_rights(ensemble, client):
    check_refusals(client)


def test_under_zookeeper_a_rolling_restart_is_no_error_at_the_client(ensemble, client, sent, playbook):
    under_load(client, sent, lambda: playbook("kafka_rolling_restart.yml", *ZOOKEEPER))


def test_zookeeper_answers_nobody_without_a_certificate(ensemble, bed):
    ask = "echo ruok | timeout 5 openssl s_client -connect 192.0.2.11:2182 -quiet 2>&1"
    with_certificate = "-cert /etc/crm/tls/kafka/keystore.pem -key /etc/crm/tls/kafka/keystore.pem"
    assert "imok" in bed.ssh("kafka-1", ask.replace("-quiet", f"-quiet {with_certificate}"), check=False)
    assert "imok" not in bed.ssh("kafka-1", ask, check=False)


def break_off(bed, name, when):
    """Start a playbook and end it by Ctrl-C in the middle of its work."""
    started = subprocess.Popen(**as_a_user(bed, name), stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(lambda: started.poll() is not None or when(), 600, "the place to break off")
        assert started.poll() is None, f"{name} ended before it could be broken off"
        os.killpg(started.pid, signal.SIGINT)
        assert started.wait(120) != 0
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)


def test_under_zookeeper_what_does_not_start_again_stops_at_the_first_machine(ensemble, bed, playbook):
    bed.ssh("kafka-1", "echo nonsense > /etc/kafka/zookeeper.properties")
    said = playbook("kafka_rolling_restart.yml", *ZOOKEEPER, fails=True).said
    assert "zookeeper on kafka-1 does not stay up" in said
    running = [bed.ssh(name, "systemctl show -P NRestarts -P ActiveState zookeeper") for name in KAFKA_HOSTS[1:]]
    assert {" ".join(words.split()) for words in running} == {"0 active"}, running
    playbook("kafka.yml", *ZOOKEEPER)


def test_from_zookeeper_to_kraft_without_a_stop_though_it_is_broken_off(ensemble, client, sent, bed, playbook):
    writes_to_both = (
        "grep -q migration.enable /etc/kafka/broker.properties && "
        'test $(date -d "$(systemctl show -P ExecMainStartTimestamp kafka-broker)" +%s) '
        "-gt $(stat -c %Y /etc/kafka/broker.properties) && echo yes"
    )

    def act():
        break_off(bed, "kafka_migrate_to_kraft.yml", lambda: "yes" in bed.ssh("kafka-1", writes_to_both, check=False))
        playbook("kafka_migrate_to_kraft.yml", timeout=1500)

    under_load(client, sent, act)
    for name in KAFKA_HOSTS:
        assert bed.ssh(name, "systemctl is-active zookeeper", check=False).strip() == "inactive"
        assert "zookeeper" not in bed.ssh(name, "cat /etc/kafka/broker.properties /etc/kafka/controller.properties")
    assert playbook("kafka.yml", *KRAFT_3).changed == 0


def test_to_the_next_version_without_a_stop_and_its_features_when_asked(ensemble, client, sent, bed, playbook):
    under_load(client, sent, lambda: playbook("kafka_upgrade.yml", "-e", "kafka_version=4.1.0", timeout=1500))
    assert "4.1.0" in bed.ssh("kafka-1", "pgrep -a -f broker.properties")
    finalise = ("kafka_upgrade.yml", "-e", "kafka_version=4.1.0", "-e", '{"kafka_finalise": true}')
    assert playbook(*finalise).changed == 1
    assert playbook(*finalise).changed == 0


def test_a_fourth_broker_takes_its_share_and_gives_it_back(ensemble, client, sent, bed, playbook):
    bed.added["kafka-4"] = (
        "kafka",
        {"ansible_host": "192.0.2.14", "kafka_node_id": 4, "kafka_rack": "shelf-d", "proxmox_vm_id": 214},
    )
    bed.lay(Host("kafka-4", "192.0.2.14"))
    bed.start("kafka-4")
    playbook("hosts.yml", "kafka.yml", "--limit", "kafka")
    under_load(client, sent, lambda: playbook("kafka_reassign.yml"))
    held = [broker for p in partitions(client).values() for broker in p.replicas]
    assert {held.count(number) for number in (1, 2, 3, 4)} == {9}  # 12 partitions, 3 replicas each
    assert playbook("kafka_reassign.yml").changed == 0

    under_load(client, sent, lambda: playbook("kafka_reassign.yml", "-e", '{"kafka_drain": ["kafka-4"]}'))
    assert all(4 not in p.replicas for p in partitions(client).values())


def test_certificates_are_renewed_without_a_stop(ensemble, client, sent, bed, playbook):
    shown = "openssl x509 -noout -serial -in /etc/crm/tls/kafka/keystore.pem"
    before = bed.ssh("kafka-2", shown)
    under_load(client, sent, lambda: playbook("kafka.yml", "-e", '{"internal_ca_renew": true}'))
    assert bed.ssh("kafka-2", shown) != before


def test_a_topic_gets_more_partitions(ensemble, client, playbook):
    more = '{"kafka_topics": [{"name": "%s", "partitions": 16}]}' % EVENTS  # noqa: UP031
    assert playbook("kafka_cluster.yml", "-e", more).changed == 1
    assert len(partitions(client)) == 16
