"""Role minio on a real host: who reaches which bucket, and how."""

import json
import ssl
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import wait_for

pytestmark = pytest.mark.drill
HOST, ADDRESS = "lake-1", "192.0.2.21:9000"


@pytest.fixture(scope="module")
def server(hosts, playbook):
    hosts(HOST)
    return playbook("hosts.yml", "minio.yml", "--limit", HOST)


@pytest.fixture
def s3(bed):
    """A client of the store, by the name of its user."""

    def client(user, password=None):
        return boto3.client(
            "s3",
            endpoint_url=f"https://{ADDRESS}",
            aws_access_key_id=user,
            aws_secret_access_key=password or bed.secret(f"vault_minio_{user}_password"),
            region_name="us-east-1",
            verify=str(bed.authority / "ca.pem"),
            config=Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 2}),
        )

    return client


def refused(call, **arguments):
    """The code that the store refuses a call with."""
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    return raised.value.response["Error"]["Code"]


def test_a_second_run_changes_nothing_and_check_mode_is_clean(server, playbook):
    assert playbook("minio.yml").changed == 0
    assert playbook("minio.yml", "--check", "--diff").changed == 0


def test_spark_reads_and_writes_in_the_lake_and_reaches_nothing_else(server, s3):
    root, spark = s3("root"), s3("spark")
    spark.put_object(Bucket="lake", Key="silver/orders/part-0", Body=b"rows")
    assert spark.get_object(Bucket="lake", Key="silver/orders/part-0")["Body"].read() == b"rows"
    assert [item["Key"] for item in spark.list_objects_v2(Bucket="lake")["Contents"]] == ["silver/orders/part-0"]
    spark.delete_object(Bucket="lake", Key="silver/orders/part-0")

    root.create_bucket(Bucket="secrets")
    root.put_object(Bucket="secrets", Key="plan", Body=b"not for spark")
    assert refused(spark.get_object, Bucket="secrets", Key="plan") == "AccessDenied"
    assert refused(spark.put_object, Bucket="secrets", Key="plan", Body=b"") == "AccessDenied"
    assert refused(spark.list_objects_v2, Bucket="secrets") == "AccessDenied"
    assert refused(spark.create_bucket, Bucket="mine") == "AccessDenied"
    assert refused(spark.delete_bucket, Bucket="lake") == "AccessDenied"
    assert [bucket["Name"] for bucket in spark.list_buckets()["Buckets"]] == ["lake"]


def test_without_tls_or_the_key_nothing_is_to_be_had(server, s3):
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(f"http://{ADDRESS}/minio/health/ready", timeout=5)
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"https://{ADDRESS}/minio/health/ready", timeout=5)
    assert refused(s3("spark", "not-the-key").list_objects_v2, Bucket="lake") == "SignatureDoesNotMatch"
    assert refused(s3("nobody", "not-the-key").list_objects_v2, Bucket="lake") == "InvalidAccessKeyId"


def test_measurements_are_shown_to_the_home_network_and_objects_are_not(server, bed):
    metrics = bed.ssh(
        HOST,
        "python3 -c \"import ssl, urllib.request as u; c = ssl.create_default_context(cafile='/etc/crm/tls/minio/ca.pem'); "
        f"print(u.urlopen('https://{ADDRESS}/minio/v2/metrics/cluster', context=c).read().decode())\"",
    )
    assert "minio_cluster_health_status" in metrics
    assert bed.ssh(HOST, "stat -c %a:%U:%G /etc/minio/minio.env").strip() == "640:root:minio"


def test_changed_passwords_are_set_and_the_old_ones_refused(server, bed, s3, playbook):
    old_root, old_spark = s3("root"), s3("spark")
    s3("spark").put_object(Bucket="lake", Key="kept", Body=b"kept")
    bed.change_secret("vault_minio_spark_password")
    bed.change_secret("vault_minio_root_password")
    assert playbook("minio.yml").changed == 3  # environment, restart, user
    assert s3("spark").get_object(Bucket="lake", Key="kept")["Body"].read() == b"kept"
    assert refused(old_spark.list_objects_v2, Bucket="lake") == "SignatureDoesNotMatch"
    assert refused(old_root.list_objects_v2, Bucket="lake") == "SignatureDoesNotMatch"


def test_the_certificate_is_renewed(server, playbook):
    before = ssl.get_server_certificate(("192.0.2.21", 9000))
    playbook("minio.yml", "-e", '{"internal_ca_renew": true}')
    assert ssl.get_server_certificate(("192.0.2.21", 9000)) != before
    assert playbook("minio.yml").changed == 0


def test_rights_given_by_hand_are_taken_back(server, s3, playbook):
    other = {"minio_users": [{"name": "spark", "password": "{{ vault_minio_spark_password }}", "buckets": ["other"]}]}
    assert playbook("minio.yml", "-e", json.dumps(other)).changed == 1
    assert refused(s3("spark").list_objects_v2, Bucket="lake") == "AccessDenied"
    assert playbook("minio.yml").changed == 1
    s3("spark").list_objects_v2(Bucket="lake")


def test_mistakes_in_the_settings_are_named(server, playbook):
    said = playbook("minio.yml", "-e", "minio_binary=/nowhere/minio", fails=True).output
    assert "/nowhere/minio is not there" in said and "`crm up` builds it" in said
    said = playbook("minio.yml", "-e", "minio_root_password=short", fails=True).output
    assert "The password of root is empty, shorter than eight characters" in said
    said = playbook("minio.yml", "-e", "minio_url=https://mirror.example/minio", fails=True).output
    assert "minio_checksum is empty" in said
    said = playbook("minio.yml", "-e", '{"minio_buckets": ["Not_A_Bucket"]}', fails=True).output
    assert "bucket Not_A_Bucket" in said


def test_a_host_that_lost_power_serves_what_it_had(server, bed, s3):
    s3("spark").put_object(Bucket="lake", Key="power", Body=b"there")
    bed.kill(HOST)
    bed.start(HOST)

    def reads():
        try:
            return s3("spark").get_object(Bucket="lake", Key="power")["Body"].read() == b"there"
        except Exception:
            return False

    wait_for(reads, what="an answer")


def test_data_that_does_not_go_with_the_folders_is_named_with_the_log(server, bed, playbook):
    folders = json.dumps({"minio_data_dirs": ["/var/lib/minio", "/var/lib/minio-2"]})
    said = playbook("minio.yml", "-e", folders, fails=True).output
    assert "MinIO does not answer" in said and "Its log" in said
    playbook("minio.yml")
