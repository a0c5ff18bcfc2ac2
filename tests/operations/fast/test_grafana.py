"""Dashboards: generated, complete, and over nothing that a node does not export."""

import json
import re

import pytest
import yaml

from catalogue import check, counters_are_rated, exported, recorded
from tools import ROOT, run

FOLDER = ROOT / "grafana"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("dashboards/*.json"))}
PANELS = [pytest.param(board, panel, id=f"{name}: {panel['title']}") for name, board in BOARDS.items() for panel in board["panels"] if panel["type"] != "row"]
# Units that Grafana knows, as far as we use them.
UNITS = {"short", "percentunit", "s", "ops", "reqps", "bytes", "Bps", "pps", "x", "dateTimeFromNow"}


def plain(query):
    """The query with variables as Grafana would put them."""
    query = query.replace("$__rate_interval", "1m").replace("$__interval", "1m")
    return re.sub(r'"\$(\w+)"', '".*"', query)


def test_they_are_as_generated():
    run("python3", FOLDER / "generate.py", "--check")


def test_they_are_many_and_have_names_of_their_own():
    assert {"overview", "connections", "delivery", "rooms", "log", "cluster", "caches", "api", "drain", "nodes"} == set(BOARDS)
    assert len({board["uid"] for board in BOARDS.values()}) == len({board["title"] for board in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_complete(name):
    board = BOARDS[name]
    assert [one["name"] for one in board["templating"]["list"]] == ["datasource", "namespace", "job", "instance"]
    assert board["editable"] is False and board["description"] and board["timezone"] == "utc" and "vestibule" in board["tags"]
    assert board["links"][0]["tags"] == ["vestibule"]
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, f"{panel['title']} lies on another"
        taken |= cells
    for mark in board["annotations"]["list"]:
        check(plain(mark["expr"]))
    for variable in board["templating"]["list"][1:]:
        assert re.match(r"label_values\(vestibule_build_info", variable["definition"])


@pytest.mark.parametrize("board, panel", PANELS)
def test_a_panel_says_what_it_shows_and_asks_for_what_there_is(board, panel):
    assert panel["title"] and panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"]["uid"] == "$datasource" and panel["targets"]
    for target in panel["targets"]:
        query = target["expr"]
        assert target["datasource"]["uid"] == "$datasource"
        check(plain(query))
        counters_are_rated(query)
        for name, inner in re.findall(r"\b((?:vestibule|process)[_:][\w:]+)\b(\{[^}]*\})?", re.sub(r"by \([^)]*\)", "", query)):
            wanted = ('namespace=~"$namespace"', 'job=~"$job"') + (() if name in recorded() else ('instance=~"$instance"',))
            assert all(part in inner for part in wanted), f"{name} without the variables: {query}"
        # A fixed window in a graph hides what the zoom would show.
        if not re.search(r"\[24h\]", query):
            assert all(window == "$__rate_interval" for window in re.findall(r"\[([^\]]+)\]", query)), query


def test_what_matters_is_shown_somewhere():
    """Every metric of a node is on a panel or in a rule, or is named here with its reason."""
    shown = " ".join(target["expr"] for _, panel in ((p.values[0], p.values[1]) for p in PANELS) for target in panel["targets"])
    shown += " ".join(path.read_text() for path in (ROOT / "prometheus/rules").glob("*.yaml"))
    hidden = {
        "vestibule_eventlog_deleted_total": "retention in embedded mode: nobody acts on it",
        "vestibule_limits_forgotten_total": "a bound that crowds reach; the limits panel shows the crowd",
        "vestibule_internal_answered_total": "the other side of asked",
        "vestibule_emitter_connected": "off by default",
        "vestibule_edge_accept_errors_total": "an alert", "vestibule_postgres_call_seconds_sum": "", "vestibule_postgres_call_seconds_count": "",
    }
    for name in exported():
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert base in shown or base in hidden or name in hidden, f"{name} is shown nowhere"


def test_provisioning_names_what_the_dashboards_ask():
    sources = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    prometheus = next(source for source in sources if source["type"] == "prometheus")
    assert prometheus["isDefault"] and prometheus["uid"] == "prometheus"
    scraped = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    assert prometheus["jsonData"]["timeInterval"] == scraped
    provider = yaml.safe_load((FOLDER / "provisioning/dashboards/vestibule.yaml").read_text())["providers"][0]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in compose
