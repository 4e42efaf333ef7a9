"""Role proxmox_vm against a stand-in for Proxmox VE whose VMs are test hosts."""

import dataclasses
import functools
import hashlib
import http.server
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from confluent_kafka import Producer
from test_kafka import EVENTS, read_all

from data_platform_core.settings import load_settings
from home_server.places import env_bin
from home_server.testbed.bed import GATEWAY
from home_server.testbed.command import EXAMPLE_HOSTS
from home_server.testbed.proxmox import ProxmoxStandIn

ANSIBLE = Path(__file__).parents[1]

MACHINES = {  # no other test has them; the last three are never made
    "spare-1": ("192.0.2.91", 291),
    "spare-2": ("192.0.2.92", 292),
    "spare-3": ("192.0.2.93", 293),
    "spare-4": ("192.0.2.94", 294),
    "spare-5": ("192.0.2.91", 295),  # the address of spare-1
}
BOTH = "spare-1,spare-2"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A cloud image as a mirror at home has it: its address and its checksum."""
    folder = tmp_path_factory.mktemp("images")
    for name in ("noble.img", "other.img"):
        (folder / name).write_bytes(b"an image")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer((GATEWAY, 8082), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{GATEWAY}:8082/noble.img", hashlib.sha256(b"an image").hexdigest()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def proxmox(bed, tmp_path_factory):
    stand_in = ProxmoxStandIn(bed, tmp_path_factory.mktemp("proxmox"))
    yield stand_in
    stand_in.close()


@pytest.fixture(scope="module")
def variables(proxmox, image, tmp_path_factory):
    """What stands in a home's group_vars."""
    return proxmox.variables() | {
        "proxmox_vm_image_url": image[0],
        "proxmox_vm_image_checksum": image[1],
        "proxmox_vm_known_hosts": str(tmp_path_factory.mktemp("ssh") / "known_hosts"),
        "proxmox_vm_memory_mb": 512,
        "proxmox_vm_disk_gb": 10,
        "proxmox_vm_timeout": 120,
    }


@pytest.fixture(scope="module")
def play(bed, variables, playbook, tmp_path_factory):
    """Plays for machines of MACHINES, with extra variables as keywords."""
    example, _, own = bed.environment()["ANSIBLE_INVENTORY"].partition(",")
    common = json.loads(Path(own).read_text())["all"]["vars"] | variables
    machines = {name: common | {"ansible_host": at, "proxmox_vm_id": vmid} for name, (at, vmid) in MACHINES.items()}
    groups = {"platform": {"children": {"minio": {"hosts": {name: {} for name in machines}}}}}
    file = tmp_path_factory.mktemp("inventory") / "spare.json"
    file.write_text(json.dumps({"all": {"hosts": machines, "children": groups}}))

    def run(name, *arguments, limit=BOTH, fails=False, **extra):
        words = [name, *arguments, "-e", json.dumps(extra), *(["--limit", limit] if limit else [])]
        played = playbook(*words, fails=fails, env={"ANSIBLE_INVENTORY": f"{example},{file}"})
        return dataclasses.replace(played, output=" ".join(played.output.split()))  # Ansible breaks long lines

    return run


@pytest.fixture(scope="module")
def made(play):
    """Two machines, made from nothing; as talkative as Ansible gets, so that a secret that slips out is seen."""
    return play("proxmox.yml", "-vvv")


def test_machines_come_up_with_the_name_address_user_key_and_memory_of_the_inventory(made, bed, proxmox):
    for name in ("spare-1", "spare-2"):
        address, vmid = MACHINES[name]
        assert bed.ssh(name, "hostname").strip() == name
        assert bed.hosts[name].address == address
        assert (bed.hosts[name].memory_mb, bed.hosts[name].cores) == (512, 2)
        config = proxmox.vms[vmid].config
        assert (config["name"], config["tags"], config["ciuser"]) == (name, "minio", "crm")
        assert "size=10G" in config["scsi0"] and "bridge=vmbr0" in config["net0"]
    assert proxmox.vms[9000].is_template
    assert proxmox.vms[291].config["net0"] != proxmox.vms[292].config["net0"], "two machines have one MAC address"


def test_the_token_is_never_shown(made, proxmox):
    assert "Ask the API who it is" in made.output
    assert proxmox.token_secret not in made.output


@pytest.mark.drill
def test_check_mode_is_clean_and_tells_what_would_be_made(made, play):
    checked = play("proxmox.yml", "--check", "--diff", limit="spare-1,spare-3")
    assert checked.changed == 0
    assert "spare-3 would be made as VM 293" in checked.output


def test_host_keys_are_known_after_the_first_contact(made, bed, variables):
    known = Path(variables["proxmox_vm_known_hosts"])
    options = [f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null"]
    words = [word for option in options for word in ("-o", option)]
    for address in ("192.0.2.91", "192.0.2.92"):
        done = subprocess.run(["ssh", "-i", bed.key, *words, f"crm@{address}", "true"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_a_second_run_changes_what_the_inventory_changed_and_nothing_else(made, play, bed, proxmox):
    """And memory waits for a restart that is asked for."""
    limit = Path("/sys/fs/cgroup/memory") / bed.folder.name / "spare-1" / "memory.limit_in_bytes"
    before = {name: bed.hosts[name].process for name in ("spare-1", "spare-2")}
    sizes = {
        "proxmox_vm_memory_mb": "{{ 768 if inventory_hostname == 'spare-1' else 512 }}",
        "proxmox_vm_disk_gb": "{{ 12 if inventory_hostname == 'spare-1' else 10 }}",
    }
    played = play("proxmox.yml", **sizes)
    assert {name: counts["changed"] for name, counts in played.recap.items()} == {"spare-1": 2, "spare-2": 0}
    assert "spare-1: memory: 512 → 768" in played.output
    assert "-e proxmox_vm_restart=true restarts it" in played.output
    assert "size=12G" in proxmox.vms[291].config["scsi0"]
    assert {name: bed.hosts[name].process for name in before} == before, "one was restarted without being asked for it"

    played = play("proxmox.yml", proxmox_vm_restart=True, **sizes)
    assert {name: counts["changed"] for name, counts in played.recap.items()} == {"spare-1": 1, "spare-2": 0}
    assert bed.hosts["spare-1"].process is not before["spare-1"]
    assert bed.hosts["spare-2"].process is before["spare-2"]
    assert bed.hosts["spare-1"].memory_mb == 768
    if limit.exists():
        assert int(limit.read_text()) == 768 * 2**20


@pytest.mark.drill
def test_a_machine_that_lost_its_power_is_started_again(made, play, bed):
    bed.kill("spare-2")
    assert play("proxmox.yml", limit="spare-2").changed == 1
    assert bed.ssh("spare-2", "hostname").strip() == "spare-2"


def test_a_wrong_token_or_a_certificate_of_somebody_else_is_named(play, tmp_path):
    played = play("proxmox.yml", limit="spare-1", proxmox_api_token_secret="wrong", fails=True)
    assert "invalid token value!" in played.output and "vault_proxmox_token_secret" in played.output
    played = play("proxmox.yml", limit="spare-1", proxmox_api_ca="", fails=True)
    assert "copy /etc/pve/pve-root-ca.pem from the node" in played.output


def test_what_would_harm_a_machine_stops_before_anything_is_touched(made, play, proxmox):
    """An id, a name or an address of another machine, and a disk that is to shrink."""
    own = dict(proxmox.add_vm(293, name="photos", memory="8192", scsi0="local-zfs:vm-293-disk-0,size=50G").config)
    proxmox.add_vm(400, name="spare-4")
    try:
        played = play("proxmox.yml", limit="spare-2,spare-3,spare-4,spare-5", proxmox_vm_disk_gb=5, fails=True)
        assert "The id 293 of spare-3 belongs to another VM, photos" in played.output
        assert "spare-4 is there already, with the id 400" in played.output
        assert "There is no VM spare-5 yet, and something answers at 192.0.2.91" in played.output
        assert "has 10.0 GB and the inventory says 5; a disk never shrinks" in played.output
        assert "size=10G" in proxmox.vms[292].config["scsi0"]
        assert proxmox.vms[293].config == own
        assert not {294, 295} & proxmox.vms.keys()
    finally:
        del proxmox.vms[293], proxmox.vms[400]


@pytest.mark.drill
def test_a_full_storage_is_named_at_once_and_leaves_nothing_half_made(made, play, proxmox):
    storage = proxmox.storages["local-zfs"]
    storage.total, total = sum(storage.volumes.values()) + 2**30, storage.total
    try:
        played = play("proxmox.yml", limit="spare-3", proxmox_vm_timeout=600, fails=True)
    finally:
        storage.total = total
    assert "out of space. Free space on that storage" in played.output
    assert 293 not in proxmox.vms


@pytest.mark.drill
def test_a_copy_that_was_interrupted_is_noticed_and_not_used(made, play, proxmox):
    proxmox.is_clone_interrupted = True
    played = play("proxmox.yml", limit="spare-3", fails=True)
    assert "unexpected status" in played.output
    try:
        played = play("proxmox.yml", limit="spare-3", fails=True)
        assert "VM 293 is a copy for spare-3 that is not finished" in played.output
        assert "`qm unlock 293 && qm destroy 293`" in played.output
        assert "scsi0" not in proxmox.vms[293].config, "something went on with it"
    finally:
        del proxmox.vms[293]


@pytest.mark.drill
def test_an_image_that_is_not_the_one_of_the_checksum_makes_no_template(made, play, proxmox, image):
    played = play(
        "proxmox.yml",
        proxmox_vm_template_id=9001,
        proxmox_vm_template_name="another",
        proxmox_vm_image_url=image[0].replace("noble", "other"),
        proxmox_vm_image_checksum="0" * 64,
        fails=True,
    )
    assert "checksum mismatch" in played.output and "SHA256SUMS beside the image" in played.output
    assert "undefined" not in played.output, "one of two machines fails for another reason"
    assert 9001 not in proxmox.vms


def test_the_dynamic_inventory_shows_what_proxmox_has(made, proxmox, tmp_path):
    example = (ANSIBLE / "inventories" / "proxmox" / "home.proxmox.yml").read_text()
    file = tmp_path / "home.proxmox.yml"
    file.write_text(example.replace("https://192.0.2.2:8006", f"https://{proxmox.address}:{proxmox.port}"))
    environment = os.environ | {"PROXMOX_TOKEN_SECRET": proxmox.token_secret, "REQUESTS_CA_BUNDLE": str(proxmox.ca)}
    command = [env_bin(load_settings(), "platform", "ansible-inventory"), "-i", file, "--list"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ANSIBLE)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert sorted(seen["minio"]["hosts"]) == ["spare-1", "spare-2"]
    assert "192.0.2.91" in str(seen["_meta"]["hostvars"]["spare-1"]["ansible_host"])
    assert "ubuntu-2404" not in seen["_meta"]["hostvars"], "the template is no machine"


def test_a_machine_is_removed_only_when_it_is_named_twice_and_bears_its_name(made, play, bed, proxmox, variables):
    unsure = play("proxmox_remove.yml", limit=None, proxmox_vm_remove="spare-2", fails=True)
    assert "Nothing was removed" in unsure.output and "-e proxmox_vm_remove_really=NAME" in unsure.output
    for named, limit in (("spare-2", "spare-2"), ("minio", "minio")):  # --limit leaves the first check out
        unsure = play("proxmox_remove.yml", limit=limit, proxmox_vm_remove=named, fails=True)
        assert "Nothing was removed" in unsure.output and 292 in proxmox.vms
    sure = {"proxmox_vm_remove": "spare-2", "proxmox_vm_remove_really": "spare-2"}

    proxmox.vms[292].config["name"] = "photos"
    played = play("proxmox_remove.yml", limit=None, **sure, fails=True)
    assert "belongs to another VM, photos" in played.output
    assert "spare-2" in bed.hosts and bed.hosts["spare-2"].is_running
    proxmox.vms[292].config["name"] = "spare-2"

    assert play("proxmox_remove.yml", limit=None, **sure).changed == 2
    assert 292 not in proxmox.vms and "spare-2" not in bed.hosts
    assert not [volume for volume in proxmox.storages["local-zfs"].volumes if "vm-292-" in volume]
    assert "192.0.2.92" not in Path(variables["proxmox_vm_known_hosts"]).read_text()
    assert "spare-1" in bed.hosts
    assert play("proxmox_remove.yml", limit=None, **sure).changed == 0


@pytest.mark.drill
def test_site_goes_from_an_empty_proxmox_to_a_home_whose_kafka_answers(bed, variables, proxmox, playbook, client):
    for name in EXAMPLE_HOSTS.keys() & bed.hosts.keys():
        bed.remove(name)
    own = {name: value for name, value in variables.items() if name != "proxmox_vm_memory_mb"}
    extra = ["-e", json.dumps(own | {"monitoring_grafana": False})]
    playbook("site.yml", *extra, timeout=1800)
    assert EXAMPLE_HOSTS.items() <= {name: host.address for name, host in bed.hosts.items()}.items()

    told = []
    producer = Producer(client("generator", acks="all"))
    for number in range(1000):
        producer.produce(EVENTS, f"{number}", on_delivery=lambda error, _: told.append(error))
    producer.flush(60)
    assert told == [None] * 1000
    assert read_all(client("spark")) == {f"{number}".encode() for number in range(1000)}

    assert playbook("site.yml", *extra, timeout=1800).changed == 0
    assert playbook("site.yml", "--check", "--diff", *extra, timeout=1800).changed == 0
