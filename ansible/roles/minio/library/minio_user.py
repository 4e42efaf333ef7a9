"""A user of MinIO, with the one policy that says what it reaches."""

import json

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import urllib3
    from minio import Minio
    from minio.credentials import StaticProvider
    from minio.error import InvalidResponseError, MinioAdminException, S3Error
    from minio.minioadmin import MinioAdmin
except ImportError:
    urllib3 = None

DOCUMENTATION = r"""
module: minio_user
short_description: A user of MinIO, with the one policy that says what it reaches
description:
  - Makes the user and a policy of its name, and puts right what differs.
  - Needs the Python package minio where it runs, which is best the control node.
options:
  endpoint: {type: str, required: true, description: Address and port of the server, which must speak TLS.}
  ca_file: {type: path, required: true, description: The authority that the server's certificate is of.}
  root_user: {type: str, required: true, description: Who may make users.}
  root_password: {type: str, required: true, description: The password of that one.}
  name: {type: str, required: true, description: The user's access key.}
  password: {type: str, required: true, description: The user's secret key.}
  policy: {type: dict, required: true, description: The policy's document. Other policies are taken from the user.}
author: [CRM lakehouse]
"""

EXAMPLES = r"""
- name: Make the user that reads reports
  minio_user:
    endpoint: 192.0.2.21:9000
    ca_file: .pki/ca.pem
    root_user: root
    root_password: "{{ minio_root_password }}"
    name: reader
    password: "{{ reader_password }}"
    policy:
      Version: "2012-10-17"
      Statement: [{Effect: Allow, Action: ["s3:GetObject"], Resource: ["arn:aws:s3:::reports/*"]}]
"""

RETURN = r"""
mended: {type: list, elements: str, returned: always, description: "What was put right: policy, user, rights."}
"""

_OPTIONS = {
    "endpoint": {"type": "str", "required": True},
    "ca_file": {"type": "path", "required": True},
    "root_user": {"type": "str", "required": True},
    "root_password": {"type": "str", "required": True, "no_log": True},
    "name": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "policy": {"type": "dict", "required": True},
}


def main():
    """What Ansible calls."""
    module = AnsibleModule(argument_spec=_OPTIONS, supports_check_mode=True)
    if urllib3 is None:
        module.fail_json(msg=missing_required_lib("minio"))
    options = module.params
    try:
        mended = _mend(options, act=not module.check_mode)
    except (MinioAdminException, S3Error, InvalidResponseError, ValueError, urllib3.exceptions.HTTPError) as error:
        module.fail_json(msg=f"MinIO at {options['endpoint']}, user {options['name']}: {error}")
    else:
        module.exit_json(changed=bool(mended), mended=mended)


def _mend(options, act):
    """Put right what differs from the options; what that was."""
    http = urllib3.PoolManager(ca_certs=options["ca_file"], timeout=30, retries=urllib3.Retry(1, backoff_factor=1))
    root = StaticProvider(options["root_user"], options["root_password"])
    admin = MinioAdmin(endpoint=options["endpoint"], credentials=root, http_client=http)
    name = options["name"]
    user = json.loads(admin.user_list()).get(name)
    mended = []
    policy = json.loads(admin.policy_list()).get(name)
    if _in_order(policy) != _in_order(options["policy"]):
        mended.append("policy")
        if act:
            admin.policy_add(name, policy=options["policy"])
    if user is None or user["status"] != "enabled" or not _comes_in(options, http):
        mended.append("user")
        if act:
            admin.user_add(name, options["password"])
    if user is None or user.get("policyName") != name:
        mended.append("rights")
        if act:
            admin.policy_set(name, user=name)
    return mended


def _in_order(policy):
    """A policy as the server gives it back: lists in its order, nothing empty."""
    if isinstance(policy, dict):
        return {key: _in_order(value) for key, value in policy.items() if value not in ("", None, [])}
    if isinstance(policy, list):
        ordered = [_in_order(value) for value in policy]
        return sorted(ordered) if all(isinstance(value, str) for value in ordered) else ordered
    return policy


def _comes_in(options, http):
    """Whether the server takes the user's password; it tells nobody what the password is."""
    client = Minio(options["endpoint"], options["name"], options["password"], http_client=http)
    try:
        client.list_buckets()
    except S3Error as error:
        if error.code in ("SignatureDoesNotMatch", "InvalidAccessKeyId"):
            return False
        if error.code != "AccessDenied":
            raise
    return True


if __name__ == "__main__":
    main()
