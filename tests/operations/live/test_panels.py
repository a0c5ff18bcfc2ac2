"""Every query of every dashboard and rule against a real Prometheus that scrapes three nodes under load."""

import json
import math
import re
import secrets
import subprocess
import threading
import time

import pytest
import requests

from cluster import Client
from monitoring import Monitoring
from tools import ROOT, program

PANELS = [(path.stem, panel["title"], target["expr"], target["range"])
          for path in sorted((ROOT / "grafana/dashboards").glob("*.json"))
          for panel in json.loads(path.read_text())["panels"] for target in panel.get("targets", [])]
# These show nothing while all is well, or nothing of what this load does, and why.
EMPTY = {
    "Memory for each connection": "the load keeps connections on some nodes only",
}


def plain(query):
    query = query.replace("$__rate_interval", "15s").replace("$__interval", "15s")
    return re.sub(r'"\$(\w+)"', '".*"', query)


class Load:
    """People who talk, read, log in, fail to, and come and go."""

    def __init__(self, cluster):
        self.cluster, self.over = cluster, threading.Event()
        node = cluster.nodes[1].clients
        (token := cluster.log.with_name("token")).write_text(cluster.token("load"))
        self.processes = [subprocess.Popen([str(word) for word in (program(), "load", *words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for words in (
            ("reads", "--url", f"ws://{cluster.nodes[0].clients}", "--users", 20, "--conversations", 5, "--messages", 5, "--rate", 100, "--duration", "300s"),
            ("durable", "--url", f"ws://{node}", "--token-file", token, "--connections", 30, "--rooms", 3, "--rate", 300, "--duration", "300s"),
        )]
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(3)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        node = self.cluster.nodes[number]
        url, turn = f"http://{node.clients}", 0
        while not self.over.is_set():
            turn += 1
            try:
                kind = (None, ["polling"], ["websocket"])[turn % 3]
                with Client(url, self.cluster.token(f"visitor{number}"), kind, room="hall") as client:
                    for _ in range(5):
                        client.send(f"turn {turn} " + secrets.token_hex(4))
                        client.io.emit("typing:start", {"conversationId": "hall"})
                requests.post(f"{url}/api/login", json={"email": "nobody@example.com", "password": "wrong password"}, timeout=10)
                requests.get(f"{url}/api/conversations/hall/messages", headers={"authorization": f"Bearer {self.cluster.token('reader')}"}, timeout=10)
            except Exception as error:
                print(f"the load met {error!r}")
                time.sleep(0.5)

    def end(self):
        self.over.set()
        for process in self.processes:
            process.kill()
            process.wait()
        for thread in self.threads:
            thread.join(30)


@pytest.fixture(scope="module")
def prometheus(cluster, tmp_path_factory):
    with Monitoring(cluster, tmp_path_factory.mktemp("monitoring")) as monitoring:
        load = Load(cluster)
        time.sleep(75)  # the rules' shortest window is five minutes, but a minute's increase is in it
        yield monitoring
        load.end()


def test_every_rule_is_evaluated_without_an_error(prometheus):
    wrong = {rule["name"]: rule["lastError"] for rule in prometheus.rules() if rule["health"] != "ok"}
    assert not wrong, wrong


def test_every_recording_has_data(prometheus):
    empty = [rule["name"] for rule in prometheus.rules() if rule["type"] == "recording" and not prometheus.ask(rule["name"])]
    assert not empty, empty


def test_nothing_fires_while_all_is_well(prometheus):
    firing = {alert["metric"]["alertname"] for alert in prometheus.ask('ALERTS{alertstate="firing"}')}
    assert firing == {"VestibuleWatchdog"}, firing


@pytest.mark.parametrize("board, title, query, ranged", [pytest.param(*one, id=f"{one[0]}: {one[1]}: {n}") for n, one in enumerate(PANELS)])
def test_a_panel_shows_data(prometheus, board, title, query, ranged):
    series = prometheus.over(plain(query)) if ranged else prometheus.ask(plain(query))
    values = [float(value) for one in series for _, value in (one["values"] if "values" in one else [one["value"]])]
    assert any(math.isfinite(value) for value in values) or title in EMPTY, f"nothing to show: {plain(query)}"
    assert len(series) <= 60, f"{len(series)} series on one panel"


def test_a_node_exports_no_more_series_than_a_prometheus_likes(prometheus, cluster):
    for node in cluster.nodes:
        lines = [line for line in node.metrics().splitlines() if not line.startswith("#")]
        assert len(lines) < 2500, f"{len(lines)} series"


def test_the_exposition_is_what_promtool_likes(cluster):
    done = subprocess.run([ROOT / "tests/operations/tools/bin/promtool", "check", "metrics"], input=cluster.nodes[0].metrics(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
