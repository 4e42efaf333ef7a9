#!/usr/bin/python
"""The users that may log in to Kafka by SCRAM-SHA-512."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kafka_users
short_description: The users that may log in to Kafka by SCRAM-SHA-512
description:
  - Makes the users that are given, and removes all others.
  - Kafka never tells a password, so a user's is tried by logging in; only where that is refused is it set.
options:
  connection: {type: dict, required: true, description: How the cluster is reached.}
  login_servers: {type: list, elements: str, required: true, description: Where clients log in.}
  users: {type: list, elements: dict, required: true, description: Each with name and password.}
author: CRM lakehouse
"""

import logging
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_admin import CONNECTION, admin

try:
    from kafka import KafkaAdminClient
    from kafka.admin import ScramMechanism, UserScramCredentialDeletion, UserScramCredentialUpsertion
    from kafka.errors import KafkaError, SaslAuthenticationFailedError
except ImportError:
    pass  # admin() says so

_ITERATIONS = 8192


class _Refusals(logging.Handler):
    """Kafka's client tries again until its time is up, whatever the reason; the reason is in its log alone."""

    refused = False

    def emit(self, record):
        self.refused |= any(isinstance(word, SaslAuthenticationFailedError) for word in record.args or ())


def _may_log_in(module, name, password):
    log, refusals = logging.getLogger("kafka.net.manager"), _Refusals()
    log.setLevel(logging.WARNING)
    log.propagate = False
    log.addHandler(refusals)
    deadline = time.monotonic() + 30
    try:
        while True:
            try:
                client = KafkaAdminClient(
                    bootstrap_servers=module.params["login_servers"],
                    bootstrap_timeout_ms=3_000,
                    security_protocol="SASL_SSL",
                    ssl_cafile=module.params["connection"]["ca"],
                    sasl_mechanism="SCRAM-SHA-512",
                    sasl_plain_username=name,
                    sasl_plain_password=password,
                )
                client.close()
                return True
            except KafkaError:
                if refusals.refused:
                    return False
                if time.monotonic() > deadline:
                    raise
    finally:
        log.removeHandler(refusals)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "connection": CONNECTION,
            "login_servers": {"type": "list", "elements": "str", "required": True},
            "users": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                },
            },
        },
        supports_check_mode=True,
    )
    wanted = {user["name"]: user["password"] for user in module.params["users"]}
    with admin(module) as client:
        there = {
            name
            for name, found in client.describe_user_scram_credentials().items()
            if any(info["mechanism"] == ScramMechanism.SCRAM_SHA_512 for info in found["credential_infos"])
        }
        set_anew = [n for n, password in wanted.items() if n not in there or not _may_log_in(module, n, password)]
        removed = sorted(there - set(wanted))
        changes = [
            *(UserScramCredentialUpsertion(n, "SCRAM-SHA-512", wanted[n], iterations=_ITERATIONS) for n in set_anew),
            *(UserScramCredentialDeletion(n, "SCRAM-SHA-512") for n in removed),
        ]
        if changes and not module.check_mode:
            refused = {n: why for n, why in client.alter_user_scram_credentials(changes).items() if why}
            if refused:
                module.fail_json(msg=f"Kafka refused users: {refused}")
    before = "".join(f"{name}\n" for name in sorted(there))
    after = "".join(f"{n}{' (password set)' if n in set_anew else ''}\n" for n in sorted(wanted))
    module.exit_json(
        changed=bool(changes),
        set=set_anew,
        removed=removed,
        diff={"before": before, "after": after if changes else before},
    )


if __name__ == "__main__":
    main()
