"""The chart: lint, schema of every manifest, what it refuses, and what must hold of what it renders."""

import os
import re
import shutil
import subprocess
from functools import cache

import kubernetes_validate
import pytest
import yaml

from tools import CHART, ROOT, program, run, tool

HELMS = ("helm3", "helm4")
VALUES = sorted(path.name for path in (CHART / "ci").glob("*-values.yaml"))
KUBERNETES = ("1.30", "1.33", "1.37")
# Kinds of others, which Kubernetes' own schemas do not know.
CUSTOM = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "HTTPRoute", "Certificate", "ScaledObject"}
DEFAULT = "default-values.yaml"


@cache
def rendered(values=DEFAULT, *settings, helm="helm4"):
    sets = [word for setting in settings for word in ("--set-json", setting)]
    text = tool(helm, "template", "rel", CHART, "--namespace", "prod", "--values", CHART / "ci" / values, *sets)
    return [one for one in yaml.safe_load_all(text) if one]


def one(kind, name="rel-vestibule", *, of):
    found = [item for item in of if item["kind"] == kind and item["metadata"]["name"] == name]
    assert len(found) == 1, [(item["kind"], item["metadata"]["name"]) for item in of]
    return found[0]


def pod(of):
    return one("Deployment", of=of)["spec"]["template"]["spec"]


def settings(of):
    return one("ConfigMap", of=of)["data"]["vestibule.toml"]


@pytest.mark.parametrize("helm", HELMS)
def test_it_lints(helm):
    arguments = [word for name in VALUES for word in (CHART / "ci" / name,)]
    for file in arguments:
        tool(helm, "lint", "--strict", "--quiet", CHART, "--values", file)


@pytest.mark.parametrize("values", VALUES)
def test_both_helms_render_the_same(values):
    assert rendered(values, helm="helm3") == rendered(values, helm="helm4")


@pytest.mark.parametrize("values", VALUES)
def test_every_manifest_fits_the_schemas_of_kubernetes(values):
    for item in rendered(values):
        if item["kind"] in CUSTOM:
            assert "." in item["apiVersion"].split("/")[0], item["apiVersion"]
            continue
        for version in KUBERNETES:
            kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("values", VALUES)
def test_the_node_accepts_its_configuration(values, tmp_path):
    """As the pod sees it: the file, the variables, and the files that Secrets become."""
    items = rendered(values)
    for name in ("secrets/cluster", "secrets/auth", "ca.crt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x" * 40)
    (tmp_path / "tls").mkdir()
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-keyout", tmp_path / "tls/tls.key", "-out", tmp_path / "tls/tls.crt", "-subj", "/CN=localhost")
    shutil.copy(tmp_path / "tls/tls.crt", tmp_path / "ca.crt")
    for name, text in one("ConfigMap", of=items)["data"].items():
        text = text.replace("/etc/vestibule/", f"{tmp_path}/").replace("/etc/ssl/kafka/", f"{tmp_path}/")
        (tmp_path / name).write_text(text)
    given = {"VESTIBULE__NODE": "pod-1", "VESTIBULE__CLUSTER__ADVERTISE": "10.0.0.1:7946",
             "VESTIBULE__REDIS__SHARDS": "one=redis://:p@redis:6379,two=redis://:p@redis-2:6379",
             "VESTIBULE__POSTGRES__URL": "postgres://vestibule:p@postgres/vestibule",
             "VESTIBULE__KAFKA__USERNAME": "node", "VESTIBULE__KAFKA__PASSWORD": "p"}
    env = {key: value for key, value in os.environ.items() if not key.startswith("VESTIBULE__")}
    for variable in pod(items)["containers"][0]["env"]:
        if variable["name"].startswith("VESTIBULE__"):
            plain = variable.get("value", "")
            env[variable["name"]] = given.get(variable["name"], plain) if "$(" in plain or "valueFrom" in variable else plain
    run(program(), "check-config", "--config", tmp_path / "vestibule.toml", env=env)


REFUSED = {
    "negative replicas": ('replicaCount=-1', r"replicaCount"),
    "no replicas": ('replicaCount=0', r"replicaCount"),
    "an unknown key": ('replicas=3', r"replicas"),
    "an unknown key deep down": ('tls.secret="x"', r"secret"),
    "an unknown section of the node": ('config.edges={}', r"edges"),
    "an unknown key of the node": ('config.edge={"listn":"x"}', r"listn"),
    "a number out of the node's bounds": ('config.rooms={"outbox_frames":1}', r"outbox_frames"),
    "a text for a number": ('maxConnections="many"', r"maxConnections"),
    "a wrong type of service": ('service.type="Ingress"', r"service.type"),
    "a wrong digest": ('image.digest="latest"', r"digest"),
    "a wrong mode": ('autoscaling.mode="auto"', r"autoscaling.mode"),
    "a secret without a name": ('secrets.cluster.existingSecret=""', r"secrets\.cluster\.existingSecret: name a Secret"),
    "no key of tokens": ('secrets.auth.existingSecret=""', r"secrets\.auth\.existingSecret: name a Secret"),
    "no shards": ('secrets.redis.existingSecret=""', r"secrets\.redis\.existingSecret: name a Secret"),
    "no database": ('secrets.postgres.existingSecret=""', r"secrets\.postgres\.existingSecret: name a Secret"),
    "no brokers": ('config.kafka.brokers=""', r"config\.kafka\.brokers: name the brokers"),
    "a secret in the configuration": ('config.auth={"secret":"not here, please, at all"}', r"config\.auth\.secret: a ConfigMap is no place"),
    "SASL without a password": ('config.kafka={"brokers":"k:9092","sasl":"PLAIN"}', r"secrets\.kafka\.existingSecret"),
    "TLS without a certificate": ('tls.enabled=true', r"tls\.existingSecret: TLS is on"),
    "cert-manager for nobody": ('tls.certManager.enabled=true', r"tls\.enabled: cert-manager"),
    "a route to nowhere": ('httpRoute.enabled=true', r"httpRoute\.parentRefs"),
    "an Ingress without a name": ('ingress.enabled=true', r"ingress\.hosts"),
    "least above most": ('autoscaling={"mode":"hpa","minReplicas":20}', r"is more than maxReplicas"),
    "KEDA without Prometheus": ('autoscaling.mode="keda"', r"autoscaling\.keda\.serverAddress"),
    "full before it grows": ('autoscaling={"mode":"hpa","targetConnections":20000}', r"must be below maxConnections"),
    "scraped twice": ('metrics={"podMonitor":{"enabled":true},"serviceMonitor":{"enabled":true}}', r"scraped twice"),
    "evaluation beside real servers": ('evaluation.enabled=true', r"has servers of its own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_refuses(case):
    setting, told = REFUSED[case]
    output = tool("helm4", "template", "rel", CHART, "--values", CHART / "ci" / DEFAULT, "--set-json", setting, status=1)
    assert re.search(told, output), output


def test_without_values_everything_that_is_missing_is_told_at_once():
    output = tool("helm3", "template", "rel", CHART, status=1)
    for missing in ("secrets.cluster", "secrets.auth", "secrets.redis", "secrets.postgres", "config.kafka.brokers"):
        assert missing in output


def test_what_is_generated_is_up_to_date():
    run(ROOT / "tests/operations/tools/venv/bin/python", ROOT / "scripts/chart.py", "--check")


@pytest.mark.parametrize("values", VALUES)
def test_every_pod_passes_the_restricted_standard(values):
    for item in rendered(values):
        spec = item["spec"] if item["kind"] == "Pod" else item.get("spec", {}).get("template", {}).get("spec")
        if not spec or "containers" not in spec:
            continue
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
            names = [variable["name"] for variable in container.get("env", [])]
            assert len(names) == len(set(names)), "server-side apply refuses a name that is there twice"


def test_the_grace_period_is_longer_than_the_drain():
    spec = pod(rendered(DEFAULT, 'drain={"preStopSeconds":7,"unreadySeconds":20,"partingSeconds":100,"flushingSeconds":30}'))
    assert spec["terminationGracePeriodSeconds"] == 7 + 20 + 100 + 30 + 15
    assert spec["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    text = settings(rendered(DEFAULT, 'drain={"preStopSeconds":7,"unreadySeconds":20,"partingSeconds":100,"flushingSeconds":30}'))
    assert 'unready = "20s"' in text and 'parting = "100s"' in text and 'flushing = "30s"' in text


def test_probes_mean_what_they_should():
    container = pod(rendered())["containers"][0]
    assert container["startupProbe"]["httpGet"]["path"] == container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "operations"}
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 120


def test_a_rollout_adds_a_node_before_one_leaves():
    spec = one("Deployment", of=rendered())["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert spec["minReadySeconds"] > 0
    assert spec["progressDeadlineSeconds"] >= spec["replicas"] * pod(rendered())["terminationGracePeriodSeconds"]


def test_a_selector_holds_nothing_that_changes():
    plain, labelled = rendered(), rendered(DEFAULT, 'commonLabels={"team":"a"}', 'podLabels={"b":"c"}', 'image.tag="9"')
    assert one("Deployment", of=plain)["spec"]["selector"] == one("Deployment", of=labelled)["spec"]["selector"]
    assert one("Deployment", of=labelled)["metadata"]["labels"]["team"] == "a"


def test_a_change_of_the_configuration_rolls_the_nodes_and_nothing_else_does():
    annotation = lambda of: one("Deployment", of=of)["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
    assert annotation(rendered()) != annotation(rendered(DEFAULT, 'config.limits={"api":"5/1h"}'))
    assert annotation(rendered()) == annotation(rendered(DEFAULT, 'service.type="NodePort"'))


def test_no_secret_is_in_a_configmap():
    for values in VALUES:
        for item in rendered(values):
            if item["kind"] == "ConfigMap":
                assert not re.search(r"(password|secret) *= *\"[^\"/]", str(item["data"])), item["metadata"]["name"]


def test_what_scales_owns_the_number_of_nodes():
    for values, kind in (("full-values.yaml", "HorizontalPodAutoscaler"), ("keda-values.yaml", "ScaledObject")):
        items = rendered(values)
        assert "replicas" not in one("Deployment", of=items)["spec"]
        assert sum(item["kind"] in ("HorizontalPodAutoscaler", "ScaledObject") for item in items) == 1
        assert one(kind, of=items)
    behavior = one("HorizontalPodAutoscaler", of=rendered("full-values.yaml"))["spec"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 1800
    queries = [t["metadata"].get("query", "") for t in one("ScaledObject", of=rendered("keda-values.yaml"))["spec"]["triggers"]]
    assert any("vestibule_eventlog_consumer_lag" in query for query in queries)


def test_one_node_has_no_budget_and_no_alert_that_wants_two():
    items = rendered("keda-values.yaml")
    assert not [item for item in items if item["kind"] == "PodDisruptionBudget"]
    rules = one("PrometheusRule", of=items)["spec"]["groups"]
    names = {rule.get("alert") for group in rules for rule in group["rules"]}
    assert "VestibuleTooFewNodes" not in names and "VestibuleNodeDown" in names


def test_rules_are_those_of_prometheus_with_links_that_lead_somewhere():
    items = rendered("full-values.yaml")
    given = {rule["alert"] for group in one("PrometheusRule", of=items)["spec"]["groups"] for rule in group["rules"] if "alert" in rule}
    plain = [yaml.safe_load(path.read_text()) for path in (ROOT / "prometheus/rules").glob("*.yaml")]
    there = {rule["alert"] for file in plain for group in file["groups"] for rule in group["rules"] if "alert" in rule}
    assert given == there - {"VestibuleApiSlow"}
    for group in one("PrometheusRule", of=items)["spec"]["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                assert rule["annotations"]["runbook_url"].startswith("https://git.example.com/vestibule/blob/main/docs/RUNBOOK.md#")
                assert "{{ $" in rule["annotations"]["description"] or "{{" not in rule["annotations"]["description"]


def test_renamed_the_rules_follow():
    items = rendered("full-values.yaml", 'nameOverride="gateway"')
    text = yaml.safe_dump(one("PrometheusRule", "rel-gateway", of=items))
    assert 'job="gateway"' in text and 'job="vestibule"' not in text


def test_every_dashboard_is_there():
    items = rendered("full-values.yaml")
    there = {name for item in items if "dashboard-" in item["metadata"]["name"] for name in item["data"]}
    assert there == {path.name for path in (ROOT / "grafana/dashboards").glob("*.json")} and there
    for item in items:
        assert len(yaml.safe_dump(item)) < 900_000, "an object of Kubernetes has at most 1 MiB"


def test_the_operations_port_is_on_no_way_in():
    for item in rendered("full-values.yaml"):
        if item["kind"] in ("Ingress", "HTTPRoute"):
            assert "8081" not in yaml.safe_dump(item) and "operations" not in yaml.safe_dump(item)
    assert [port["name"] for port in one("Service", of=rendered("full-values.yaml"))["spec"]["ports"]] == ["clients"]


def test_the_policy_keeps_the_internal_port_to_nodes():
    rules = one("NetworkPolicy", of=rendered())["spec"]["ingress"]
    internal = next(rule for rule in rules if rule["ports"][0]["port"] == "internal")
    assert list(internal["from"][0]) == ["podSelector"]
    assert one("NetworkPolicy", of=rendered("full-values.yaml"))["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_evaluation_brings_every_server_and_says_so():
    items = rendered("evaluation-values.yaml")
    assert {i["metadata"]["name"] for i in items if i["kind"] == "StatefulSet"} == {
        "rel-vestibule-redis", "rel-vestibule-kafka", "rel-vestibule-postgres"}
    shards = one("Secret", "rel-vestibule-evaluation", of=items)["stringData"]["redis-shards"]
    assert shards == ("shard-0=redis://rel-vestibule-redis-0.rel-vestibule-redis:6379,"
                      "shard-1=redis://rel-vestibule-redis-1.rel-vestibule-redis:6379")
    redis = one("StatefulSet", "rel-vestibule-redis", of=items)["spec"]["template"]["spec"]["containers"][0]
    assert redis["args"][redis["args"].index("--maxmemory-policy") + 1] == "noeviction"


def test_a_package_holds_rules_and_dashboards(tmp_path):
    """They are links in this tree; whoever gets the package has no such tree."""
    tool("helm4", "package", CHART, "--destination", tmp_path)
    listed = run("tar", "tzf", next(tmp_path.glob("*.tgz")))
    assert "vestibule/rules/alerts.yaml" in listed and "vestibule/dashboards/overview.json" in listed
    assert "vestibule/ci/" not in listed


def test_notes_warn_of_what_is_dangerous():
    notes = lambda *sets: subprocess.run(
        [ROOT / "tests/operations/tools/bin/helm4", "install", "rel", CHART, "--dry-run=client", "--values", CHART / "ci" / sets[0], *sets[1:]],
        capture_output=True, text=True, check=True).stdout.split("NOTES:")[1]
    assert "no backups" in notes("evaluation-values.yaml")
    assert "one node" in notes(DEFAULT, "--set", "replicaCount=1")
    assert "latest" in notes(DEFAULT, "--set", "image.tag=latest")
    assert "helm test rel" in notes(DEFAULT)
