"""Role kafka on three hosts: whole, closed, and without loss when a host dies."""

import json
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from conftest import KAFKA_HOSTS, SERVERS, wait_for

from data_platform_core.layers import ENTITIES, topic

EVENTS = topic("events")


class Load:
    """A producer with acks=all that goes on until told to stop; remembers what was acknowledged and what was refused."""

    def __init__(self, settings):
        self._producer = Producer(settings | {"acks": "all", "enable.idempotence": True, "linger.ms": 5})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged = {}
        self.errors = []
        self.longest_delay = 0.0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._producer.flush(60)

    def _run(self):
        number = 0
        while not self._stop.is_set():
            value, sent = f"{id(self)}-{number}".encode(), time.monotonic()
            self._producer.produce(
                EVENTS, value, str(number % 50), on_delivery=lambda e, m, s=sent: self._told(e, m, s)
            )
            self._producer.poll(0)
            number += 1
            time.sleep(0.005)

    def _told(self, error, message, sent):
        if error:
            self.errors.append(str(error))
        else:
            self.acknowledged[message.value()] = (message.partition(), message.offset())
            self.longest_delay = max(self.longest_delay, time.monotonic() - sent)


def read_all(settings):
    """Every value of the topic of events."""
    consumer = Consumer(
        settings | {"group.id": "spark-test", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )
    partitions = consumer.list_topics(EVENTS, timeout=20).topics[EVENTS].partitions
    values, ends = set(), {}
    for partition in partitions:
        ends[partition] = consumer.get_watermark_offsets(TopicPartition(EVENTS, partition), timeout=20)[1]
    consumer.assign([TopicPartition(EVENTS, partition, 0) for partition in partitions])
    reached = dict.fromkeys(partitions, 0)
    deadline = time.monotonic() + 60
    while any(reached[p] < ends[p] for p in partitions) and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message and not message.error():
            values.add(message.value())
            reached[message.partition()] = message.offset() + 1
    consumer.close()
    return values


def refused(settings):
    """A client gets no answer; the time it waits is all that shows a refusal."""
    with pytest.raises(KafkaException):
        AdminClient(settings).list_topics(timeout=5)


def check_refusals(client):
    """Without TLS, the password or rights, nothing is to be had."""
    strangers = [
        {"bootstrap.servers": SERVERS},
        client("generator", **{"sasl.password": "not the password"}),
        client("generator", **{"bootstrap.servers": "192.0.2.11:9094"}),  # the brokers' own door asks for a certificate
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(refused, strangers))

    told = []
    producer = Producer(client("spark", **{"message.timeout.ms": 10_000}))
    producer.produce(EVENTS, b"no", on_delivery=lambda error, _: told.append(error.code()))
    producer.flush(15)
    assert told == [KafkaError.TOPIC_AUTHORIZATION_FAILED]
    consumer = Consumer(client("generator", **{"group.id": "spark-x"}))
    consumer.assign([TopicPartition(EVENTS, 0, 0)])
    assert consumer.poll(15).error().code() in (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    )
    consumer.close()


def test_the_topics_are_those_of_the_platform_with_three_replicas(cluster, client):
    topics = AdminClient(client("platform")).list_topics(timeout=20).topics
    assert {topic(entity) for entity in ENTITIES} <= set(topics)
    for entity in ENTITIES:
        for partition in topics[topic(entity)].partitions.values():
            assert sorted(partition.replicas) == [1, 2, 3] == sorted(partition.isrs)


@pytest.mark.drill
def test_a_second_run_changes_nothing_and_check_mode_is_clean(cluster, playbook):
    """A second run beside a machine that is healed is shown below, in every run of the tests."""
    assert playbook("hosts.yml", "kafka.yml", "--limit", "kafka").changed == 0
    assert playbook("hosts.yml", "kafka.yml", "--limit", "kafka", "--check", "--diff").changed == 0


def test_without_tls_a_password_or_rights_nothing_is_to_be_had(cluster, client):
    check_refusals(client)


def test_measurements_are_shown_to_the_monitoring_host_only(cluster, bed):
    text = bed.ssh("kafka-1", "curl -s http://192.0.2.11:7071/metrics || python3 -c \"import urllib.request as u; "
                   "print(u.urlopen('http://192.0.2.11:7071/metrics').read().decode())\"")  # fmt: skip
    assert 'kafka_server_replicamanager_value{name="UnderReplicatedPartitions"} 0.0' in text
    with pytest.raises(OSError):
        urllib.request.urlopen("http://192.0.2.11:7071/metrics", timeout=2)


def test_a_killed_host_loses_nothing_and_a_second_run_heals_it_and_changes_nothing_else(cluster, client, bed, playbook):
    """And rules that a broken-off play left on a machine are loaded."""
    assert {name: counts["changed"] > 0 for name, counts in cluster.recap.items()} == dict.fromkeys(KAFKA_HOSTS, True)
    with Load(client("generator")) as load:
        wait_for(lambda: len(load.acknowledged) > 200, what="traffic")
        bed.kill("kafka-2")
        before = len(load.acknowledged)
        wait_for(lambda: len(load.acknowledged) > before + 500, what="traffic with two of three hosts")
    assert load.errors == []
    assert set(load.acknowledged) <= read_all(client("spark"))

    bed.empty("kafka-2")
    bed.start("kafka-2")
    rules = "nft list chain inet crm input"
    before = bed.ssh("kafka-3", rules)
    older = "ip saddr { 192.0.2.99 } tcp dport { 1 } accept"
    bed.ssh("kafka-3", f"nft delete table inet crm; echo '{older}' > /etc/nftables.d/kafka.nft")
    healed = playbook("hosts.yml", "kafka.yml", "--limit", "kafka")
    # on the third: the rules as they were found are loaded by hosts.yml, its own are laid and loaded by kafka.yml
    changed = {name: counts["changed"] for name, counts in healed.recap.items()}
    assert changed == {"kafka-1": 0, "kafka-2": changed["kafka-2"], "kafka-3": 3} and changed["kafka-2"] > 10
    assert bed.ssh("kafka-3", rules) == before
    topics = AdminClient(client("platform")).list_topics(timeout=20).topics
    assert all(sorted(p.isrs) == [1, 2, 3] for p in topics[EVENTS].partitions.values())
    assert set(load.acknowledged) <= read_all(client("spark"))
    print(f"{len(load.acknowledged)} records acknowledged, longest delay {load.longest_delay:.1f} s")


def restarted_under_load(cluster, client, bed, playbook, *names):
    """Restart machines by the playbook while a producer goes on: it sees no error, and nothing is lost."""
    started = "systemctl show -P ExecMainStartTimestampMonotonic kafka-broker"
    before = {name: bed.ssh(name, started) for name in KAFKA_HOSTS}
    with Load(client("generator")) as load:
        playbook("kafka_rolling_restart.yml", "--limit", ",".join(names))
    assert load.errors == []
    assert load.acknowledged and set(load.acknowledged) <= read_all(client("spark"))
    assert {name for name in KAFKA_HOSTS if bed.ssh(name, started) != before[name]} == set(names)


def test_a_restart_under_load_is_no_error_at_the_client(cluster, client, bed, playbook):
    restarted_under_load(cluster, client, bed, playbook, "kafka-1")


@pytest.mark.drill
def test_a_rolling_restart_under_load_is_no_error_at_the_client(cluster, client, bed, playbook):
    restarted_under_load(cluster, client, bed, playbook, *KAFKA_HOSTS)


@pytest.mark.drill
def test_what_does_not_start_again_stops_at_the_first_machine(cluster, bed, playbook):
    said = playbook("kafka.yml", "-e", "kafka_quorum_heap=lots", fails=True).said
    assert "kafka-controller on kafka-1 does not stay up" in said
    running = [bed.ssh(name, "pgrep -f controller.properties", check=False).strip() for name in KAFKA_HOSTS[1:]]
    assert all(running), "a second controller was restarted although the first did not come back"
    assert all("Xmxlots" not in bed.ssh(name, "pgrep -af controller.properties") for name in KAFKA_HOSTS[1:])
    playbook("kafka.yml")
    assert playbook("kafka.yml").changed == 0


@pytest.mark.drill
def test_a_changed_password_is_set_and_the_old_one_refused(cluster, client, bed, playbook):
    old = client("monitor")
    bed.change_secret("vault_kafka_monitor_password")
    assert playbook("kafka_cluster.yml").changed == 1
    AdminClient(client("monitor")).list_topics(timeout=20)
    with pytest.raises(KafkaException):
        AdminClient(old).list_topics(timeout=5)


def test_mistakes_in_the_settings_are_named(cluster, bed, playbook, tmp_path):
    """Each machine with a mistake of its own, so that one run names three; none is touched before."""

    def said(**mistakes):
        file = tmp_path / "mistakes.json"
        file.write_text(json.dumps({"all": {"hosts": {name.replace("_", "-"): m for name, m in mistakes.items()}}}))
        inventory = f"{bed.environment()['ANSIBLE_INVENTORY']},{file}"
        played = playbook("kafka.yml", "--limit", "kafka", fails=True, env={"ANSIBLE_INVENTORY": inventory})
        assert {counts["changed"] for counts in played.recap.values()} == {0}
        return played.said

    words = said(
        kafka_1={"kafka_quorum": "zookeeper", "kafka_version": "4.1.0"},
        kafka_2={"kafka_jmx_exporter_archive": ""},
        kafka_3={"kafka_replication_factor": 4},
    )
    assert "has no ZooKeeper" in words
    assert "kafka_jmx_exporter_archive is empty" in words
    assert "does not go with 3 brokers" in words
    words = said(
        kafka_1={"kafka_version": "3.9.1"},
        kafka_2={"kafka_quorum_hosts": ["kafka-3", "kafka-1", "kafka-2"]},
        kafka_3={"kafka_clients": [{"name": "kim", "password": "short"}]},
    )
    assert "has Kafka 4.1.0, and kafka_version is 3.9.1" in words
    assert "voters are fixed" in words
    assert "shorter than 12 characters, is the password of the Kafka clients kim" in words


def test_what_would_harm_the_cluster_is_refused(cluster, playbook):
    for drained in ("kafka_drain=kafka-3", '{"kafka_drain": ["kafka-33"]}'):
        assert "Nothing was moved" in playbook("kafka_reassign.yml", "-e", drained, fails=True).said
    grant = '{"kafka_clients": [{"name": "kim", "password": "long enough it is", "allow": [{"topic": "x", "operations": ["REED"]}]}]}'
    said = playbook("kafka_cluster.yml", "-e", grant, "--check", fails=True).said
    assert "kafka_clients, kim: REED is no operation of Kafka" in said and "long enough" not in said
    fewer = '{"kafka_topics": [{"name": "%s", "partitions": 1}]}' % EVENTS  # noqa: UP031
    assert "cannot take partitions away" in playbook("kafka_cluster.yml", "-e", fewer, fails=True).said
