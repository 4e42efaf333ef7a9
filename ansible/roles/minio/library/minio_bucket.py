"""A bucket of MinIO."""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import urllib3
    from minio import Minio
    from minio.error import MinioException
except ImportError:
    urllib3 = None

DOCUMENTATION = r"""
module: minio_bucket
short_description: A bucket of MinIO
description:
  - Makes the bucket where it is missing.
  - Needs the Python package minio where it runs, which is best the control node.
options:
  endpoint: {type: str, required: true, description: Address and port of the server, which must speak TLS.}
  ca_file: {type: path, required: true, description: The authority that the server's certificate is of.}
  root_user: {type: str, required: true, description: Who may make buckets.}
  root_password: {type: str, required: true, description: The password of that one.}
  name: {type: str, required: true, description: The bucket's name.}
author: [CRM lakehouse]
"""

EXAMPLES = r"""
- name: Make the bucket of the reports
  minio_bucket:
    endpoint: 192.0.2.21:9000
    ca_file: .pki/ca.pem
    root_user: root
    root_password: "{{ minio_root_password }}"
    name: reports
"""

RETURN = "{}"

_OPTIONS = {
    "endpoint": {"type": "str", "required": True},
    "ca_file": {"type": "path", "required": True},
    "root_user": {"type": "str", "required": True},
    "root_password": {"type": "str", "required": True, "no_log": True},
    "name": {"type": "str", "required": True},
}


def main():
    """What Ansible calls."""
    module = AnsibleModule(argument_spec=_OPTIONS, supports_check_mode=True)
    if urllib3 is None:
        module.fail_json(msg=missing_required_lib("minio"))
    options = module.params
    http = urllib3.PoolManager(ca_certs=options["ca_file"], timeout=30, retries=urllib3.Retry(1, backoff_factor=1))
    client = Minio(options["endpoint"], options["root_user"], options["root_password"], http_client=http)
    try:
        is_missing = not client.bucket_exists(options["name"])
        if is_missing and not module.check_mode:
            client.make_bucket(options["name"])
    except (MinioException, ValueError, urllib3.exceptions.HTTPError) as error:
        module.fail_json(msg=f"MinIO at {options['endpoint']}, bucket {options['name']}: {error}")
    else:
        module.exit_json(changed=is_missing)


if __name__ == "__main__":
    main()
