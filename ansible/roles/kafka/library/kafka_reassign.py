#!/usr/bin/python
"""Spread the replicas of all topics evenly over the brokers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kafka_reassign
short_description: Spread the replicas of all topics evenly over the brokers
description:
  - Moves as few replicas as it can, keeps those of one partition in different racks where there are enough, and waits
    until every moved replica is in sync. Brokers that are not given are left without replicas.
options:
  connection: {type: dict, required: true, description: How the cluster is reached.}
  brokers: {type: dict, required: true, description: "Rack by broker number, of the brokers that may hold replicas."}
  replication_factor: {type: int, required: true, description: Replicas of every partition.}
  timeout: {type: int, default: 3600, description: Seconds to wait for the replicas to move.}
author: CRM lakehouse
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_admin import CONNECTION, admin
from ansible.module_utils.kafka_spread import spread

try:
    from kafka import TopicPartition
except ImportError:
    pass  # admin() says so

_PREFERRED = 0  # the kind of election that the first replica of each partition wins


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "connection": CONNECTION,
            "brokers": {"type": "dict", "required": True},
            "replication_factor": {"type": "int", "required": True},
            "timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    racks = {int(number): rack for number, rack in module.params["brokers"].items()}
    with admin(module) as client:
        there = {broker["broker_id"] for broker in client.describe_cluster()["brokers"]}
        if set(racks) - there:
            module.fail_json(
                msg=f"brokers {sorted(set(racks) - there)} are not there: start them before replicas are moved"
            )
        before, after = {}, {}
        for topic in client.describe_topics():
            current = {
                TopicPartition(topic["name"], partition["partition_index"]): list(partition["replica_nodes"])
                for partition in topic["partitions"]
            }
            before |= current
            after |= spread(current, racks, module.params["replication_factor"])
        moved = {partition: replicas for partition, replicas in after.items() if replicas != before[partition]}
        if moved and not module.check_mode:
            refused = {str(p): e.__name__ for p, e in client.alter_partition_reassignments(moved).items() if e}
            if refused:
                module.fail_json(msg=f"Kafka refused to move: {refused}")
            _wait(client, module)
            client.elect_leaders(_PREFERRED, raise_errors=False)

    def lines(state):
        return "".join(f"{p.topic}-{p.partition}: {state[p]}\n" for p in sorted(state))

    module.exit_json(changed=bool(moved), moved=len(moved), diff={"before": lines(before), "after": lines(after)})


def _wait(client, module):
    deadline = time.monotonic() + module.params["timeout"]
    while left := client.list_partition_reassignments():
        if time.monotonic() > deadline:
            module.fail_json(
                msg=f"{len(left)} partitions are still moving after {module.params['timeout']} s: they go on; run the "
                "playbook again to wait for them"
            )
        time.sleep(0.5)


if __name__ == "__main__":
    main()
