#!/usr/bin/python
"""Wait until a Kafka cluster is whole."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kafka_health
short_description: Wait until a Kafka cluster is whole
description:
  - Waits until every broker is there, no partition lacks a replica or a leader, and every controller has caught up.
options:
  connection: {type: dict, required: true, description: How the cluster is reached.}
  brokers: {type: list, elements: int, required: true, description: Numbers of the brokers that must be there.}
  voters: {type: list, elements: int, default: [], description: Numbers of the controllers that must have caught up.}
  timeout: {type: int, default: 120, description: Seconds.}
author: CRM lakehouse
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_admin import CONNECTION, HAS_KAFKA, wait_until_whole


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "connection": CONNECTION,
            "brokers": {"type": "list", "elements": "int", "required": True},
            "voters": {"type": "list", "elements": "int", "default": []},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    if not HAS_KAFKA:
        module.fail_json(msg="the Python that runs Ansible on the control node lacks kafka-python: install it there")
    if not module.check_mode:
        wait_until_whole(module, *(module.params[name] for name in ("brokers", "voters", "timeout")))
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
