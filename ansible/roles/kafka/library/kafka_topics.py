#!/usr/bin/python
"""Topics with their partitions and settings."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kafka_topics
short_description: Topics with their partitions and settings
description:
  - Makes topics, adds partitions and sets settings. Topics that are not given are left alone, settings too.
  - Fewer partitions cannot be had; another number of replicas is the task of kafka_reassign.
options:
  connection: {type: dict, required: true, description: How the cluster is reached.}
  replication_factor: {type: int, required: true, description: Replicas of a new topic.}
  topics: {type: list, elements: dict, required: true, description: "Each with name, partitions and settings (a dict)."}
author: CRM lakehouse
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_admin import CONNECTION, admin

try:
    from kafka.admin import ConfigResource, NewTopic
except ImportError:
    pass  # admin() says so


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "connection": CONNECTION,
            "replication_factor": {"type": "int", "required": True},
            "topics": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "partitions": {"type": "int", "required": True},
                    "settings": {"type": "dict", "default": {}},
                },
            },
        },
        supports_check_mode=True,
    )
    wanted = {topic["name"]: topic for topic in module.params["topics"]}
    with admin(module) as client:
        there = {
            topic["name"]: len(topic["partitions"]) for topic in client.describe_topics() if topic["name"] in wanted
        }
        settings = _settings(client, there)
        for name, partitions in there.items():
            if wanted[name]["partitions"] < partitions:
                module.fail_json(
                    msg=f"the topic {name} has {partitions} partitions and kafka_topics asks for "
                    f"{wanted[name]['partitions']}: Kafka cannot take partitions away; ask for {partitions}, "
                    "or make a new topic"
                )
        before = {name: {"partitions": there[name], **settings[name]} for name in there}
        after = {
            name: {**before.get(name, {}), "partitions": topic["partitions"], **_words(topic["settings"])}
            for name, topic in wanted.items()
        }
        if not module.check_mode:
            _apply(client, module, wanted, there, before, after)
    module.exit_json(changed=before != after, diff={"before": before, "after": after})


def _apply(client, module, wanted, there, before, after):
    new = [
        NewTopic(
            name, topic["partitions"], module.params["replication_factor"], topic_configs=_words(topic["settings"])
        )
        for name, topic in wanted.items()
        if name not in there
    ]
    if new:
        client.create_topics(new)
    more = {name: after[name]["partitions"] for name in there if after[name]["partitions"] > there[name]}
    if more:
        client.create_partitions(more)
    for name in there:
        changed = {k: v for k, v in after[name].items() if k != "partitions" and before[name].get(k) != v}
        if changed:
            client.alter_configs([ConfigResource("TOPIC", name, changed)])


def _settings(client, names):
    if not names:
        return {}
    found = client.describe_configs([ConfigResource("TOPIC", name) for name in names])["topic"]
    return {name: {key: entry["value"] for key, entry in found[name].items()} for name in names}


def _words(settings):
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in settings.items()}


if __name__ == "__main__":
    main()
