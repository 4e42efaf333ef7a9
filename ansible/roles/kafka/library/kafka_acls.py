#!/usr/bin/python
"""What each Kafka client may do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kafka_acls
short_description: What each Kafka client may do
description:
  - Grants what is given, and takes back whatever else is granted to anybody.
options:
  connection: {type: dict, required: true, description: How the cluster is reached.}
  clients:
    type: list
    elements: dict
    required: true
    description:
      - Each with name and allow, a list of a resource (topic, group or transactional_id with a name, or cluster true),
        prefixed, and operations.
author: CRM lakehouse
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_admin import CONNECTION, admin

try:
    from kafka.admin import (
        ACL,
        ACLFilter,
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        ResourcePattern,
        ResourcePatternFilter,
        ResourceType,
    )
except ImportError:
    pass  # admin() says so

_KINDS = {"topic": "TOPIC", "group": "GROUP", "transactional_id": "TRANSACTIONAL_ID"}


def _wanted(module):
    """(principal, kind, name, pattern, operation) of every grant."""
    for client in module.params["clients"]:
        for grant in client.get("allow") or []:
            kinds = [kind for kind in _KINDS if kind in grant]
            if len(kinds) + bool(grant.get("cluster")) != 1:
                module.fail_json(
                    msg=f"kafka_clients, {client['name']}: {grant} must name one of {[*_KINDS, 'cluster']}"
                )
            kind, name = (_KINDS[kinds[0]], grant[kinds[0]]) if kinds else ("CLUSTER", "kafka-cluster")
            pattern = "PREFIXED" if grant.get("prefixed") else "LITERAL"
            for operation in grant["operations"]:
                if operation not in ACLOperation.__members__:
                    module.fail_json(msg=f"kafka_clients, {client['name']}: {operation} is no operation of Kafka")
                yield (f"User:{client['name']}", kind, name, pattern, operation)


def _acl(grant):
    principal, kind, name, pattern, operation = grant
    resource = ResourcePattern(ResourceType[kind], name, ACLResourcePatternType[pattern])
    return ACL(principal, "*", ACLOperation[operation], ACLPermissionType.ALLOW, resource)


def _granted(client):
    everything = ACLFilter(
        None,
        None,
        ACLOperation.ANY,
        ACLPermissionType.ANY,
        ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
    )
    acls, error = client.describe_acls(everything)
    if error.errno:
        raise error
    return acls


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "connection": CONNECTION,
            "clients": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    with admin(module) as client:
        wanted = set(_wanted(module))
        there = {}
        for acl in _granted(client):
            plain = acl.permission_type == ACLPermissionType.ALLOW and acl.host == "*"
            pattern = acl.resource_pattern
            words = (
                acl.principal,
                pattern.resource_type.name,
                pattern.resource_name,
                pattern.pattern_type.name,
                acl.operation.name,
            )
            there[words if plain else (*words, acl.host, acl.permission_type.name)] = acl
        granted, taken = sorted(wanted - set(there)), sorted(set(there) - wanted)
        if not module.check_mode:
            if granted:
                failed = client.create_acls([_acl(grant) for grant in granted])["failed"]
                if failed:
                    module.fail_json(msg=f"Kafka refused to grant: {failed}")
            if taken:
                client.delete_acls([_filter(there[grant]) for grant in taken])

    def lines(grants):
        return "".join(f"{' '.join(grant)}\n" for grant in sorted(grants))

    module.exit_json(changed=bool(granted or taken), diff={"before": lines(there), "after": lines(wanted)})


def _filter(acl):
    return ACLFilter(acl.principal, acl.host, acl.operation, acl.permission_type, acl.resource_pattern)


if __name__ == "__main__":
    main()
