"""Rules, their tests, the scrape configuration, Alertmanager, and the runbook."""

import re

import pytest
import yaml

from catalogue import check, exported, rules
from tools import ROOT, tool

FOLDER = ROOT / "prometheus"
ALERTS = [rule for group in rules() for rule in group["rules"] if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})


def test_promtool_takes_the_rules():
    tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", *sorted(FOLDER.glob("rules/*.yaml")))


def test_promtool_takes_the_configuration():
    tool("promtool", "check", "config", "--lint=all", "--lint-fatal", FOLDER / "prometheus.yml")


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.glob("tests/*.yaml")))
def test_every_alert_fires_and_stays_quiet_as_its_tests_say(file):
    tool("promtool", "test", "rules", FOLDER / "tests" / file)


def test_every_alert_has_both_tests():
    groups = [group for path in FOLDER.glob("tests/*.yaml") for group in yaml.safe_load(path.read_text())["tests"]]
    proven = {}
    for group in groups:
        for one in group["promql_expr_test"]:
            name = re.search(r'alertname="(\w+)"', one["expr"])[1]
            long = re.search(r'long="(\w+)"', one["expr"])
            value = one["exp_samples"][0]["value"]
            proven.setdefault((name, long and long[1], value), 0)
    for rule in ALERTS:
        name, long = rule["alert"], rule["labels"].get("long")
        assert (name, long, 1) in proven, f"no test in which {name} {long or ''} fires"
        assert (name, None, 0) in proven or name == "VestibuleWatchdog", f"no test in which {name} stays quiet"


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.get("alert") or rule["record"]) for group in rules() for rule in group["rules"]])
def test_a_rule_asks_only_for_what_is_exported(rule):
    check(rule["expr"])


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in ALERTS])
def test_an_alert_says_what_somebody_needs(rule):
    assert rule["labels"]["severity"] in ("critical", "warning", "none")
    notes = rule["annotations"]
    assert notes["summary"].endswith(".") and notes["description"].endswith(".")
    assert notes["runbook_url"] == f"docs/RUNBOOK.md#{rule['alert'].lower()}"
    # Prometheus prints a bare number with all its digits.
    for value in re.findall(r"{{ \$value ?(\|?[^}]*)}}", notes["description"]):
        counts = "sum by" in rule["expr"] and "== bool" in rule["expr"] or re.search(r"count|changes|phase|waiting|clashes|nodes|under_replicated|lag:max", rule["expr"])
        assert "humanize" in value or counts, f"{rule['alert']} prints a bare value"


def test_the_runbook_has_a_section_for_each_alert_and_no_other():
    text = (ROOT / "docs/RUNBOOK.md").read_text()
    assert sorted(re.findall(r"^### (\w+)$", text, re.M)) == NAMES
    for section in re.split(r"^### ", text, flags=re.M)[1:]:
        for part in ("**Meaning.**", "**Impact.**", "**Look at.**", "**Do.**"):
            assert part in section, f"{section.splitlines()[0]} has no {part}"
    for name in re.findall(r"Vestibule[A-Z]\w+", text):
        assert name in NAMES, f"there is no alert {name}"


def test_queries_in_the_runbook_ask_for_what_there_is():
    text = (ROOT / "docs/RUNBOOK.md").read_text()
    for query in re.findall(r"`([^`]*(?:vestibule_|process_)[^`]*)`", text):
        if re.search(r"\w+ --|^kubectl|^curl", query) or query + "_bucket" in exported():
            continue
        check(query.replace("GROUP", "pump").replace("TOPIC", "messages").replace('"P"', '"0"'))


def test_alertmanager_takes_its_configuration_and_sends_alerts_where_they_belong():
    file = FOLDER / "alertmanager.yml"
    tool("amtool", "check-config", file)
    for labels, receiver in (
        (("alertname=VestibuleWatchdog", "severity=none"), "heartbeat"),
        (("alertname=VestibuleDependencyDown", "severity=critical"), "pager"),
        (("alertname=VestibuleApiSlow", "severity=warning"), "tickets"),
    ):
        tool("amtool", "config", "routes", "test", f"--config.file={file}", f"--verify.receivers={receiver}", *labels)


def test_inhibitions_name_alerts_that_there_are():
    text = (FOLDER / "alertmanager.yml").read_text()
    for name in re.findall(r"\bVestibule\w+\b(?!\.\*)", text):
        assert name in NAMES or any(one.startswith(name) for one in NAMES), name
