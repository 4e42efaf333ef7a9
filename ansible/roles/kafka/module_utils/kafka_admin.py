"""How the kafka modules reach the cluster from the control node: over TLS, by a certificate of the home's authority."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager

try:
    from kafka import KafkaAdminClient
    from kafka.errors import IncompatibleBrokerVersion, KafkaError, UnsupportedVersionError

    HAS_KAFKA = True
except ImportError:
    HAS_KAFKA = False
    KafkaError = IncompatibleBrokerVersion = UnsupportedVersionError = Exception

# A controller fetches from the leader at least twice a second, so one that does not is told apart within seconds.
_BEHIND_MS = 3_000

CONNECTION = {
    "type": "dict",
    "required": True,
    "options": {
        "bootstrap_servers": {"type": "list", "elements": "str", "required": True},
        "ca": {"type": "path", "required": True},
        "certificate": {"type": "path", "required": True},
        "key": {"type": "path", "required": True, "no_log": False},
    },
}


def by_certificate(connection):
    """Settings of a client that comes with the control node's certificate."""
    return {
        "bootstrap_servers": connection["bootstrap_servers"],
        "security_protocol": "SSL",
        "ssl_cafile": connection["ca"],
        "ssl_certfile": connection["certificate"],
        "ssl_keyfile": connection["key"],
        "request_timeout_ms": 20_000,
    }


@contextmanager
def admin(module, **settings):
    """A client for the length of a block; what Kafka refuses ends the task with its words."""
    if not HAS_KAFKA:
        module.fail_json(msg="the Python that runs Ansible on the control node lacks kafka-python: install it there")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    settings = settings or by_certificate(module.params["connection"])
    client = None
    try:
        client = KafkaAdminClient(**settings)
        yield client
    except KafkaError as error:
        servers = ", ".join(settings["bootstrap_servers"])
        module.fail_json(msg=f"Kafka at {servers}: {type(error).__name__}: {error}")
    finally:
        if client is not None:
            client.close()


def _quorum(client):
    """The state of the controllers' log; nothing from a broker that still follows ZooKeeper."""
    try:
        return client.describe_metadata_quorum()["topics"][0]["partitions"][0]
    except (IncompatibleBrokerVersion, UnsupportedVersionError):
        return None


def health(client, brokers, voters):
    """What is missing for the cluster to be whole, as sentences; nothing when it is."""
    there = {broker["broker_id"] for broker in client.describe_cluster()["brokers"]}
    missing = [f"broker {number} is not there" for number in brokers if number not in there]
    for topic in client.describe_topics():
        for partition in topic["partitions"]:
            lacking = set(partition["replica_nodes"]) - set(partition["isr_nodes"])
            if lacking or partition["leader_id"] < 0:
                name = f"{topic['name']}-{partition['partition_index']}"
                missing.append(f"{name} lacks replicas on {sorted(lacking)}" if lacking else f"{name} has no leader")
    state = _quorum(client) if voters else None
    if state:
        caught_up = {voter["replica_id"]: voter["last_caught_up_timestamp"] for voter in state["current_voters"]}
        newest = max(caught_up.values(), default=-1)
        for number in voters:
            if number not in caught_up:
                missing.append(f"controller {number} has no vote")
            elif newest < 0 or caught_up[number] < newest - _BEHIND_MS:
                missing.append(f"controller {number} does not follow the leader, {state['leader_id']}")
    return missing


def wait_until_whole(module, brokers, voters, timeout):
    """Wait until the cluster is whole.

    What is missing at the end of the time ends the task.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            client = KafkaAdminClient(**by_certificate(module.params["connection"]))
            try:
                missing = health(client, brokers, voters)
            finally:
                client.close()
        except (KafkaError, OSError) as error:
            missing = [f"no broker answers ({type(error).__name__}: {error})"]
        if not missing:
            return
        if time.monotonic() > deadline:
            listed = "; ".join(missing[:10]) + (f"; and {len(missing) - 10} more" if len(missing) > 10 else "")
            module.fail_json(
                msg=f"after {timeout} s the cluster is not whole: {listed}. On the machine concerned, "
                "`journalctl -u kafka-broker -u kafka-controller -n 50` says why"
            )
        time.sleep(0.5)
