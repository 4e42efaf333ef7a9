"""Role kafka on three hosts: whole, closed, and without loss when a host dies."""

import threading
import time
import urllib.request

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


def check_refusals(client):
    """Without TLS, the password or rights, nothing is to be had."""
    plain = AdminClient({"bootstrap.servers": SERVERS})
    with pytest.raises(KafkaException):
        plain.list_topics(timeout=5)
    with pytest.raises(KafkaException):
        AdminClient(client("generator", **{"sasl.password": "not the password"})).list_topics(timeout=5)
    with pytest.raises(KafkaException):  # the brokers' own door asks for a certificate
        AdminClient(client("generator", **{"bootstrap.servers": "192.0.2.11:9094"})).list_topics(timeout=5)

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


def test_a_second_run_changes_nothing(cluster, playbook):
    assert cluster.changed > 0
    assert playbook("hosts.yml", "kafka.yml", "--limit", "kafka").changed == 0


@pytest.mark.drill
def test_check_mode_is_clean(cluster, playbook):
    assert playbook("hosts.yml", "kafka.yml", "--limit", "kafka", "--check", "--diff").changed == 0


def test_without_tls_a_password_or_rights_nothing_is_to_be_had(cluster, client):
    check_refusals(client)


def test_measurements_are_shown_to_the_monitoring_host_only(cluster, bed):
    text = bed.ssh("kafka-1", "curl -s http://192.0.2.11:7071/metrics || python3 -c \"import urllib.request as u; "
                   "print(u.urlopen('http://192.0.2.11:7071/metrics').read().decode())\"")  # fmt: skip
    assert 'kafka_server_replicamanager_value{name="UnderReplicatedPartitions"} 0.0' in text
    with pytest.raises(OSError):
        urllib.request.urlopen("http://192.0.2.11:7071/metrics", timeout=2)


def test_a_killed_host_loses_nothing_and_an_empty_one_is_healed(cluster, client, bed, playbook):
    with Load(client("generator")) as load:
        wait_for(lambda: len(load.acknowledged) > 200, what="traffic")
        bed.kill("kafka-2")
        before = len(load.acknowledged)
        wait_for(lambda: len(load.acknowledged) > before + 500, what="traffic with two of three hosts")
    assert load.errors == []
    assert set(load.acknowledged) <= read_all(client("spark"))

    bed.empty("kafka-2")
    bed.start("kafka-2")
    playbook("hosts.yml", "--limit", "kafka-2")
    playbook("kafka.yml")
    topics = AdminClient(client("platform")).list_topics(timeout=20).topics
    assert all(sorted(p.isrs) == [1, 2, 3] for p in topics[EVENTS].partitions.values())
    assert set(load.acknowledged) <= read_all(client("spark"))
    print(f"{len(load.acknowledged)} records acknowledged, longest delay {load.longest_delay:.1f} s")


def test_a_rolling_restart_under_load_is_no_error_at_the_client(cluster, client, bed, playbook):
    started = "systemctl show -P ExecMainStartTimestampMonotonic kafka-broker"
    before = {name: bed.ssh(name, started) for name in KAFKA_HOSTS}
    with Load(client("generator")) as load:
        playbook("kafka_rolling_restart.yml")
    assert load.errors == []
    assert load.acknowledged and set(load.acknowledged) <= read_all(client("spark"))
    assert all(bed.ssh(name, started) != before[name] for name in KAFKA_HOSTS)


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


def test_mistakes_in_the_settings_are_named(cluster, playbook):
    said = playbook("kafka.yml", "-e", '{"kafka_quorum": "zookeeper", "kafka_version": "4.1.0"}', fails=True).said
    assert "has no ZooKeeper" in said
    said = playbook("kafka.yml", "-e", "kafka_jmx_exporter_archive=", fails=True).said
    assert "kafka_jmx_exporter_archive is empty" in said
    said = playbook("kafka.yml", "-e", '{"kafka_replication_factor": 4}', fails=True).said
    assert "does not go with 3 brokers" in said
    said = playbook("kafka.yml", "-e", "kafka_version=3.9.1", fails=True).said
    assert "has Kafka 4.1.0, and kafka_version is 3.9.1" in said
    said = playbook("kafka.yml", "-e", '{"kafka_quorum_hosts": ["kafka-3", "kafka-1", "kafka-2"]}', fails=True).said
    assert "voters are fixed" in said
    for drained in ("kafka_drain=kafka-3", '{"kafka_drain": ["kafka-33"]}'):
        assert "Nothing was moved" in playbook("kafka_reassign.yml", "-e", drained, fails=True).said
    grant = '{"kafka_clients": [{"name": "kim", "password": "long enough it is", "allow": [{"topic": "x", "operations": ["REED"]}]}]}'
    said = playbook("kafka_cluster.yml", "-e", grant, "--check", fails=True).said
    assert "kafka_clients, kim: REED is no operation of Kafka" in said and "long enough" not in said
    fewer = '{"kafka_topics": [{"name": "%s", "partitions": 1}]}' % EVENTS  # noqa: UP031
    assert "cannot take partitions away" in playbook("kafka_cluster.yml", "-e", fewer, fails=True).said
