#!/usr/bin/python
"""Switch on the features that every broker and controller of the cluster has."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kafka_features
short_description: Switch on the features that every broker and controller of the cluster has
description:
  - Lifts metadata.version to what all nodes support; there is no way back to an older version of Kafka afterwards.
options:
  connection: {type: dict, required: true, description: How the cluster is reached.}
author: CRM lakehouse
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_admin import CONNECTION, admin

_FEATURE = "metadata.version"


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec={"connection": CONNECTION}, supports_check_mode=True)
    with admin(module) as client:
        features = client.describe_features().get(_FEATURE, {})
        now = features.get("finalized", (None, None))[1]
        best = features.get("supported", (None, None))[1]
        if now is None:
            module.exit_json(changed=False, left=[], msg="a cluster under ZooKeeper has no such features")
        left = [f"{_FEATURE} {now} of {best}"] if now < best else []
        if left and not module.check_mode:
            answer = client.update_features({_FEATURE: best})[_FEATURE]
            if answer != "OK":
                module.fail_json(msg=f"Kafka refused to lift {_FEATURE} from {now} to {best}: {answer}")
    module.exit_json(changed=bool(left), left=left)


if __name__ == "__main__":
    main()
