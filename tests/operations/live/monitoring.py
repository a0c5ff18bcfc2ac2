"""Prometheus, Alertmanager and redis_exporter of this project's files, before a running cluster."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
import yaml

from cluster import Served, free_port, until
from tools import ROOT, TOOLS

# A drill's windows are this much shorter. A scrape each second still puts ten samples into the shortest.
FASTER = 30
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text):
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))


def hastened(rule):
    """The same rule with windows, offsets and waits that a drill can outwait, and numbers that one machine reaches."""
    rule = dict(rule)
    shorter = lambda found: f"{found[1]}{max(10, seconds(found[2]) // FASTER)}s"
    rule["expr"] = re.sub(r"(\[|offset )((?:\d+[smhd])+)", shorter, rule["expr"])
    rule["expr"] = rule["expr"].replace("> 10000", "> 300")
    if "for" in rule:
        rule["for"] = f"{max(1, seconds(rule['for']) // FASTER)}s"
    return rule


def groups(change=lambda rule: rule):
    """All rule groups, evaluated each second."""
    found = []
    for path in sorted((ROOT / "prometheus/rules").glob("*.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            found.append({"name": group["name"], "interval": "1s", "rules": [change(rule) for rule in group["rules"]]})
    return found


class Receiver:
    """Hears what Alertmanager sends, as a pager would."""

    def __init__(self):
        self.heard = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receiver.heard += [(alert["labels"]["alertname"], alert["status"], body["receiver"], alert) for alert in body["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def was_told(self, name, status, labels):
        fits = lambda alert: all(alert["labels"].get(key) == value for key, value in labels.items())
        return any(alert == name and how == status and fits(whole) for alert, how, _, whole in self.heard)


class Monitoring:
    """Ends with its `with` block."""

    def __init__(self, cluster, folder, change=lambda rule: rule):
        folder.mkdir(exist_ok=True)
        self.receiver = Receiver()
        exporter, alertmanager, gossip, prometheus = (f"127.0.0.1:{free_port()}" for _ in range(4))
        self.url = f"http://{prometheus}"
        # The receivers of alertmanager.yml are empty: here they are this test.
        config = yaml.safe_load((ROOT / "prometheus/alertmanager.yml").read_text())
        for receiver in config["receivers"]:
            receiver["webhook_configs"] = [{"url": self.receiver.url, "send_resolved": True}]
        for route in (config["route"], *config["route"]["routes"]):
            route |= {"group_wait": "0s", "group_interval": "1s", "group_by": ["..."]}
        config["inhibit_rules"] = []
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
        config = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
        config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [alertmanager]}]
        jobs = {job["job_name"]: job for job in config["scrape_configs"]}
        jobs["vestibule"]["static_configs"][0]["targets"] = [node.operations for node in cluster.nodes]
        jobs["redis"]["static_configs"][0]["targets"] = [f"redis://{shard}" for shard in cluster.shards]
        jobs["redis"]["relabel_configs"][-1]["replacement"] = exporter
        config["scrape_configs"] = [jobs["vestibule"], jobs["redis"]]
        config["rule_files"] = [str(folder / "rules.yaml")]
        (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups(change)}))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.served = [
            Served([TOOLS / "prometheus-redis-exporter", f"-web.listen-address={exporter}", "-redis.addr="], folder / "exporter.log", exporter),
            Served([TOOLS / "prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/alerts",
                    f"--web.listen-address={alertmanager}", f"--cluster.listen-address={gossip}", "--cluster.settle-timeout=0s"], folder / "alertmanager.log", alertmanager),
            Served([TOOLS / "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
                    f"--web.listen-address={prometheus}", "--query.lookback-delta=15s"], folder / "prometheus.log", prometheus),
        ]
        until(lambda: len(self.ask("up == 1")) == len(cluster.nodes) + len(cluster.shards), 60, what=lambda: str(self.ask("up")))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for served in reversed(self.served):
            served.__exit__()
        self.receiver.server.shutdown()

    def ask(self, query):
        """The series of an instant query."""
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=20)
        if answer.status_code == 503:  # it is still starting
            return []
        body = answer.json()
        assert body["status"] == "success", f"{query}: {body.get('error')}"
        return body["data"]["result"]

    def over(self, query, last=120):
        """The series of a query over the last seconds."""
        now = time.time()
        answer = requests.get(f"{self.url}/api/v1/query_range", params={"query": query, "start": now - last, "end": now, "step": 5}, timeout=20).json()
        assert answer["status"] == "success", f"{query}: {answer.get('error')}"
        return answer["data"]["result"]

    def firing(self, name, **labels):
        wanted = "".join(f', {key}="{value}"' for key, value in labels.items())
        return bool(self.ask(f'ALERTS{{alertname="{name}", alertstate="firing"{wanted}}}'))

    def rules(self):
        found = requests.get(f"{self.url}/api/v1/rules", timeout=20).json()["data"]["groups"]
        return [rule for group in found for rule in group["rules"]]
