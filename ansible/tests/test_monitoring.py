"""Role monitoring on real hosts: every machine is asked, what is wrong is told, and every board shows something."""

import http.server
import json
import re
import shlex
import socket
import subprocess
import threading
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from confluent_kafka import Producer
from conftest import wait_for

from data_platform_core.layers import topic
from home_server.testbed.bed import GATEWAY
from home_server.testbed.command import EXAMPLE_HOSTS

WATCHED = Path(__file__).parents[2] / "home-server-infra" / "monitoring"
BOARDS = {file.stem: json.loads(file.read_text()) for file in sorted((WATCHED / "boards").glob("*.json"))}
RULES = {file.name: yaml.safe_load(file.read_text()) for file in sorted((WATCHED / "rules").glob("*.yml"))}
RULE_TESTS = {file.name: yaml.safe_load(file.read_text()) for file in sorted((WATCHED / "rules/tests").glob("*.yml"))}
ALERTS = {
    rule["alert"]: rule
    for file in RULES.values()
    for group in file["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
RECORDED = {
    rule["record"] for file in RULES.values() for group in file["groups"] for rule in group["rules"] if "record" in rule
}
HOSTS = "monitor-1,lake-1"


class Prometheus:
    """Asks the server on monitor-1, which answers to its own machine only."""

    def __init__(self, bed):
        self._bed = bed

    def ask(self, *urls):
        """What each address says, all in one login."""
        program = (
            "import json, sys, urllib.error, urllib.request\n"
            "def ask(url):\n"
            "    try:\n"
            "        return json.load(urllib.request.urlopen(url))\n"
            "    except urllib.error.HTTPError as error:\n"
            "        return json.load(error)\n"
            "    except urllib.error.URLError as error:\n"
            "        return {'status': str(error), 'data': {}}\n"
            "print(json.dumps([ask(url) for url in json.load(sys.stdin)]))"
        )
        command = f"echo {shlex.quote(json.dumps(urls))} | python3 -c {shlex.quote(program)}"
        return json.loads(self._bed.ssh("monitor-1", command))

    def query(self, *expressions):
        """What each expression gives: rows of labels and value, or the error."""
        urls = [f"http://127.0.0.1:9090/api/v1/query?query={quote(expression)}" for expression in expressions]
        return [answer["data"]["result"] if answer["status"] == "success" else answer for answer in self.ask(*urls)]

    def targets(self):
        """The health of every target by job and machine."""
        (answer,) = self.ask("http://127.0.0.1:9090/api/v1/targets")
        found = answer["data"].get("activeTargets", [])
        return {(target["labels"]["job"], target["labels"]["instance"]): target["health"] for target in found}


def quote(text):
    """A text as a part of an address."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


class Webhook(http.server.BaseHTTPRequestHandler):
    """Takes what Alertmanager posts."""

    told: ClassVar[list] = []

    def do_POST(self):
        """Remember the alerts of a message."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.told += [
            (alert["labels"].get("alertname"), alert["labels"].get("instance"), alert["status"])
            for alert in body["alerts"]
        ]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing of each request."""


@pytest.fixture(scope="module")
def told():
    """What the webhook of this bed was told."""
    server = http.server.ThreadingHTTPServer((GATEWAY, 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, Webhook.told
    server.shutdown()


@pytest.fixture(scope="module")
def settings(told, tmp_path_factory):
    """The home's, but faster, and with rules that wait for nothing."""
    rules = tmp_path_factory.mktemp("rules")
    for name in RULES:
        text = (WATCHED / "rules" / name).read_text()
        (rules / name).write_text(re.sub(r"^( +for:) .*$", r"\1 0s", text, flags=re.M))
    changed = {
        "monitoring_grafana": False,
        "monitoring_scrape_interval": "2s",
        "monitoring_rules_dir": str(rules),
        "monitoring_alert_webhooks": [f"http://{GATEWAY}:{told[0]}/alerts"],
    }
    return ["-e", json.dumps(changed)]


@pytest.fixture(scope="module")
def first_run(hosts, playbook, settings):
    hosts(*HOSTS.split(","))
    return playbook("hosts.yml", "monitoring.yml", "--limit", HOSTS, *settings)


@pytest.fixture
def prometheus(bed):
    return Prometheus(bed)


@pytest.mark.drill
def test_every_machine_of_the_inventory_is_asked_and_those_that_run_answer(first_run, prometheus):
    kafka = ("kafka-1", "kafka-2", "kafka-3")
    expected = {("node", name) for name in EXAMPLE_HOSTS} | {("kafka", name) for name in kafka}
    expected |= {("kafka-controller", name) for name in kafka} | {("minio", "lake-1"), ("postgresql", "warehouse-1")}
    expected |= {("prometheus", "monitor-1"), ("alertmanager", "monitor-1")}
    assert set(prometheus.targets()) == expected
    running = [("node", "monitor-1"), ("node", "lake-1"), ("prometheus", "monitor-1"), ("alertmanager", "monitor-1")]
    wait_for(lambda: all(prometheus.targets()[target] == "up" for target in running), 60, "every running target is up")
    assert "node on kafka-1 does not answer Prometheus" in first_run.output


@pytest.mark.drill
def test_a_second_run_changes_nothing_and_check_mode_is_clean(first_run, playbook, settings):
    assert first_run.changed > 0
    assert playbook("monitoring.yml", "--limit", HOSTS, *settings).changed == 0
    assert playbook("monitoring.yml", "--limit", HOSTS, *settings, "--check", "--diff").changed == 0


@pytest.mark.drill
def test_exporters_answer_to_the_monitoring_host_only_and_prometheus_to_its_own_machine(first_run, bed):
    for address, port in (("192.0.2.21", 9100), ("192.0.2.41", 9100), ("192.0.2.41", 9090), ("192.0.2.41", 9093)):
        with pytest.raises(TimeoutError):
            socket.create_connection((address, port), timeout=1)
    listening = bed.ssh("monitor-1", "ss -Htln 'sport = :9090 or sport = :9093 or sport = :9094'")
    assert {line.split()[3].rpartition(":")[0] for line in listening.splitlines()} == {"127.0.0.1"}


@pytest.mark.drill
def test_an_exporter_that_stops_is_told_and_so_is_its_return(first_run, bed, prometheus, told):
    bed.ssh("lake-1", "systemctl stop prometheus-node-exporter")
    try:
        firing = 'ALERTS{alertname="HostDown", instance="lake-1", alertstate="firing"}'
        wait_for(lambda: prometheus.query(firing)[0], 30, "the alert in Prometheus")

        def alerts():
            (found,) = prometheus.ask("http://127.0.0.1:9093/api/v2/alerts?filter=instance%3Dlake-1")
            return {alert["labels"]["alertname"] for alert in found} if isinstance(found, list) else set()

        wait_for(lambda: "HostDown" in alerts(), 30, "the alert in Alertmanager")
        wait_for(lambda: ("HostDown", "lake-1", "firing") in told[1], 30, "the alert at the webhook")
    finally:
        bed.ssh("lake-1", "systemctl start prometheus-node-exporter")
    wait_for(lambda: not prometheus.query(firing)[0], 30, "the end of the alert")


@pytest.mark.drill
def test_what_scripts_and_certificates_say_is_measured(first_run, bed, prometheus):
    bed.ssh(
        "lake-1",
        "mkdir -p /etc/crm/tls/tried && cd /etc/crm/tls/tried && openssl req -x509 -newkey ed25519 -nodes -keyout key.pem "
        "-out cert.pem -days 10 -subj /CN=tried 2>&1 && systemctl start crm-certificate-metrics",
    )
    backup = 'crm_backup_last_success_timestamp_seconds{backup="tried"} 1700000000'
    folder = "/var/lib/prometheus/node-exporter"
    try:
        bed.ssh("lake-1", f"echo '{backup}' > {folder}/crm_backup_tried.prom")
        ends = 'crm_certificate_not_after_timestamp_seconds{service="tried", instance="lake-1"} - time()'
        wait_for(lambda: all(prometheus.query(ends, 'ALERTS{alertname="CertificateEnding", service="tried"}')), 30)
        wait_for(lambda: prometheus.query('ALERTS{alertname="BackupOld", backup="tried", instance="lake-1"}')[0], 30)
        (row,) = prometheus.query(ends)[0]
        assert 9.9 < float(row["value"][1]) / 86400 < 10.1
    finally:
        bed.ssh(
            "lake-1",
            f"rm -r {folder}/crm_backup_tried.prom /etc/crm/tls/tried; systemctl start crm-certificate-metrics",
        )


@pytest.mark.drill
def test_prometheus_takes_every_expression_and_the_boards_of_machines_show_all(first_run, prometheus):
    wanted = [(f"{board}: {panel['title']}", expression) for board in BOARDS for panel, expression in shown(board)]
    wait_for(lambda: prometheus.query("instance:cpu_used:ratio")[0], 30, "the first recording")
    for (where, expression), rows in zip(wanted, prometheus.query(*(e for _, e in wanted)), strict=True):
        assert isinstance(rows, list), f"{where}: {expression}: {rows['error']}"
        if where.startswith("hosts: ") and where != "hosts: Certificates":  # no service with one runs here
            assert rows, f"{where}: {expression} gives nothing"


@pytest.mark.drill
def test_every_rule_passes_its_tests(first_run, bed):
    """With the promtool of the version that runs."""
    folder = bed.root("monitor-1") / "root" / "rules"
    subprocess.run(["cp", "-r", WATCHED / "rules", folder], check=True)
    said = bed.ssh("monitor-1", "cd ~root/rules/tests && promtool test rules *.yml 2>&1", check=False)
    assert said.count("SUCCESS") == len(RULES) and "FAILED" not in said, said


@pytest.mark.drill
def test_a_rule_with_a_mistake_is_not_taken(first_run, playbook, settings, tmp_path):
    (tmp_path / "mistaken.yml").write_text("groups: [{name: mistaken, rules: [{alert: A, expr: sum(up}]}]\n")
    arguments = ("monitoring.yml", "--limit", "monitor-1", *settings, "-e", f"monitoring_rules_dir={tmp_path}")
    played = playbook(*arguments, fails=True)
    assert "mistaken.yml" in played.output and "parse error" in played.output


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_one_that_grafana_takes(name):
    board = BOARDS[name]
    assert board["uid"] == f"crm-{name}" and board["title"] and board["schemaVersion"] >= 36
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) > 0
    taken = set()
    for panel in board["panels"]:
        assert panel["title"] and panel["type"] in ("stat", "timeseries", "table")
        assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24 and not cells & taken, f"{panel['title']} lies over another"
        taken |= cells
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
        assert all(target["expr"] for target in panel["targets"])
        assert set(re.findall(r"\$(\w+)", json.dumps(panel["targets"]))) <= {"instance", "__rate_interval"}
        if "$instance" in json.dumps(panel["targets"]):
            assert [variable["name"] for variable in board["templating"]["list"]] == ["instance"]


def test_every_alert_says_what_to_do_and_has_a_test_that_fires_and_one_that_does_not():
    cases = [case for file in RULE_TESTS.values() for test in file["tests"] for case in test.get("alert_rule_test", [])]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS)
    for name, alert in ALERTS.items():
        assert alert["labels"]["severity"] in ("warning", "critical"), name
        assert set(alert["annotations"]) == {"summary", "description"} and alert["for"], name
    samples = json.dumps([test.get("promql_expr_test", []) for file in RULE_TESTS.values() for test in file["tests"]])
    assert all(f"{name}{{" in samples for name in RECORDED)


def shown(board):
    """Every panel of a board with every expression, as Grafana would ask it."""
    for panel in BOARDS[board]["panels"]:
        for target in panel["targets"]:
            yield panel, target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


@pytest.fixture(scope="module")
def platform(hosts, bed, playbook, client, settings):
    """Everything that is watched, with records in Kafka and a backup."""
    hosts(*EXAMPLE_HOSTS)
    playbook("hosts.yml", "kafka.yml", "minio.yml", "postgresql.yml", timeout=1500)
    playbook("monitoring.yml", *settings, "-e", "monitoring_scrape_interval=5s")
    producer = Producer(client("platform", acks="all"))
    for number in range(1000):
        producer.produce(topic("events"), f"{number}")
    assert producer.flush(60) == 0
    bed.ssh("warehouse-1", "systemctl start crm-certificate-metrics crm-postgresql-backup")
    return producer


@pytest.mark.drill
def test_every_target_of_the_platform_answers_and_no_panel_is_empty(platform, prometheus):
    wait_for(lambda: set(prometheus.targets().values()) == {"up"}, 60, "every target is up")
    wanted = [(BOARDS[b]["title"], panel, expression) for b in BOARDS for panel, expression in shown(b)]

    def empty():
        answers = prometheus.query(*(expression for *_, expression in wanted))
        lacking = [
            f"{board}, {panel['title']}: {expression}"
            for (board, panel, expression), rows in zip(wanted, answers, strict=True)
            if not rows and "noValue" not in panel["fieldConfig"]["defaults"]
        ]
        print(*lacking, sep="\n")
        return lacking

    wait_for(lambda: not empty(), 90, "every panel shows something")


@pytest.mark.drill
def test_a_healthy_platform_has_no_alert(platform, prometheus):
    rules = (
        'ALERTS{alertstate="firing", alertname!~"BackupOld|MemoryShort|Disk.*"}'  # those are of the machine we are on
    )
    wait_for(lambda: not prometheus.query(rules)[0], 120, "no alert fires")


@pytest.mark.drill
def test_a_broker_that_dies_is_told_with_the_partitions_that_lack_it(platform, bed, hosts, prometheus):
    bed.kill("kafka-3")
    for alert in ("HostDown", "KafkaBrokerDown", "KafkaUnderReplicated"):
        firing = f'ALERTS{{alertname="{alert}", alertstate="firing"}}'
        wait_for(lambda firing=firing: prometheus.query(firing)[0], 90, alert)

    def inhibited():
        (found,) = prometheus.ask("http://127.0.0.1:9093/api/v2/alerts?filter=alertname%3DKafkaBrokerDown")
        return [alert["status"]["inhibitedBy"] for alert in found if alert["labels"]["instance"] == "kafka-3"]

    wait_for(lambda: any(inhibited()), 60, "the machine's alert stands for its broker's")
    hosts("kafka-3")
    wait_for(lambda: not prometheus.query('ALERTS{alertname=~"Kafka.*|HostDown"}')[0], 180, "all is well again")


@pytest.mark.drill
def test_a_database_that_stops_is_told(platform, bed, prometheus):
    bed.ssh("warehouse-1", "systemctl stop postgresql@15-main")
    try:
        wait_for(lambda: prometheus.query('ALERTS{alertname="PostgresqlDown", alertstate="firing"}')[0], 60)
    finally:
        bed.ssh("warehouse-1", "systemctl start postgresql@15-main")
    wait_for(lambda: not prometheus.query('ALERTS{alertname="PostgresqlDown"}')[0], 60)


@pytest.mark.drill
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"monitoring_alert_mail_to": ["me@example.org"]}, "monitoring_alert_mail_server"),
        ({"monitoring_rules_dir": "/nowhere"}, "/nowhere on the control node holds no *.yml"),
        ({"monitoring_grafana": True, "monitoring_grafana_admin_password": ""}, "vault_grafana_admin_password"),
        ({"monitoring_grafana": True, "monitoring_grafana_package": "https://x/g.deb"}, "monitoring_grafana_checksum"),
    ],
)
def test_a_mistake_in_the_settings_is_named(hosts, playbook, settings, changed, named):
    hosts("monitor-1")
    played = playbook(
        "hosts.yml", "monitoring.yml", "--limit", "monitor-1", *settings, "-e", json.dumps(changed), fails=True
    )
    assert named in " ".join(played.output.split())


STAND_IN = '''#!/usr/bin/python3
"""Reads grafana.ini as Grafana does, and lets the admin in over TLS. It proves the playbook's way, not Grafana."""
import base64, configparser, http.server, ssl

ini = configparser.ConfigParser(interpolation=None)
ini.read("/etc/grafana/grafana.ini")
file = ini["security"]["admin_password"].removeprefix("$__file{").removesuffix("}")
expected = "Basic " + base64.b64encode(b"admin:" + open(file, "rb").read()).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.headers["Authorization"] == expected else 401)
        self.end_headers()


server = http.server.ThreadingHTTPServer(("", int(ini["server"]["http_port"])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(ini["server"]["cert_file"], ini["server"]["cert_key"])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
'''
UNIT = """[Service]
User=grafana
ExecStart=/usr/sbin/grafana-stand-in
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def grafana_package(tmp_path):
    """A package with the names, the user and the folders of Grafana's, which is not to be had here."""
    root = tmp_path / "package"
    files = {
        "DEBIAN/control": "Package: grafana\nVersion: 0.1\nArchitecture: all\nDepends: python3\n"
        "Maintainer: tests\nDescription: stands in for Grafana\n",
        "DEBIAN/preinst": "#!/bin/sh\nid grafana >/dev/null 2>&1 || useradd --system grafana\n",
        "usr/sbin/grafana-stand-in": STAND_IN,
        "lib/systemd/system/grafana-server.service": UNIT,
        "etc/grafana/provisioning/datasources/sample.yaml": "",
        "etc/grafana/provisioning/dashboards/sample.yaml": "",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if "sbin" in name or "preinst" in name else 0o644)
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, tmp_path / "grafana.deb"], check=True)
    return tmp_path / "grafana.deb"


@pytest.mark.drill
def test_grafana_is_set_up_from_its_package_and_the_folder_of_boards(hosts, bed, playbook, settings, grafana_package):
    hosts("monitor-1")
    with_grafana = {"monitoring_grafana": True, "monitoring_grafana_package": str(grafana_package)}
    arguments = ["monitoring.yml", "--limit", "monitor-1", *settings, "-e", json.dumps(with_grafana)]
    playbook("hosts.yml", *arguments)
    etc = bed.root("monitor-1") / "etc" / "grafana"
    (datasources,) = [yaml.safe_load(file.read_text()) for file in (etc / "provisioning/datasources").glob("crm.yml")]
    assert {source["uid"]: source["url"] for source in datasources["datasources"]} == {
        "prometheus": "http://127.0.0.1:9090",
        "alertmanager": "http://127.0.0.1:9093",
    }
    (provider,) = yaml.safe_load((etc / "provisioning/dashboards/crm.yml").read_text())["providers"]
    assert {file.stem for file in (bed.root("monitor-1") / provider["options"]["path"][1:]).iterdir()} == set(BOARDS)

    bed.ssh("monitor-1", "touch /etc/grafana/boards/removed.json")
    assert playbook(*arguments).changed == 1
    assert not (etc / "boards" / "removed.json").exists()
    assert playbook(*arguments, "--check", "--diff").changed == 0

    played = playbook(*arguments, "-e", "monitoring_grafana_admin_password=another", fails=True)
    assert "grafana cli admin reset-admin-password" in played.output
