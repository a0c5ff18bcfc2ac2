"""What a node exports, from docs/METRICS.md, and what queries ask for."""

import re
from functools import cache

import promql_parser
import yaml

from tools import ROOT

# Of Prometheus itself, and of those who scrape.
COMMON = {"namespace", "job", "instance", "cluster", "pod", "le", "__name__"}
# What others export, as far as our rules use it.
FOREIGN = {
    "up", "ALERTS",
    # redis_exporter 1.45 and later
    "redis_up", "redis_evicted_keys_total", "redis_memory_used_bytes", "redis_memory_max_bytes", "redis_aof_enabled",
    "redis_aof_last_write_status", "redis_aof_last_bgrewrite_status",
    # kafka_exporter 1.9
    "kafka_topic_partition_under_replicated_partition", "kafka_topic_partition_leader", "kafka_consumergroup_lag",
    # the kubelet's cAdvisor
    "container_memory_working_set_bytes", "container_spec_memory_limit_bytes",
}


@cache
def exported():
    """Each series of a node: its kind, and for each label the values it may have (None: open)."""
    found = {}
    for line in (ROOT / "docs/METRICS.md").read_text().splitlines():
        row = re.match(r"\| `(\w+)` \| (\w+) \| (\w+) \| (.*?) \| .* \|$", line)
        if not row:
            continue
        name, kind, _, labels = row.groups()
        values = {}
        for part in filter(None, labels.split("; ")):
            label, says = re.match(r"`(\w+)`: (.*)", part).groups()
            closed = re.fullmatch(r"[\w, -]+", says) and ", " in says
            values[label] = set(says.split(", ")) if closed else None
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        for suffix in suffixes:
            found[name + suffix] = ("counter" if suffix else kind, values)
    return found


@cache
def rules():
    """All groups of prometheus/rules."""
    return [group for path in sorted((ROOT / "prometheus/rules").glob("*.yaml")) for group in yaml.safe_load(path.read_text())["groups"]]


@cache
def recorded():
    return {rule["record"] for group in rules() for rule in group["rules"] if "record" in rule}


def selectors(query):
    """Names and matchers (label, operator, value) in a query."""
    for name, inner in re.findall(r"\b((?:vestibule|process|redis|kafka|container|up|ALERTS)[\w:]*)\b(?!\()(?:\{([^}]*)\})?", query):
        yield name, re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', inner)


def check(query):
    """Fails unless the query can be parsed and asks only for what there is."""
    promql_parser.parse(query)
    names = 0
    # Words in by() and on() are not metrics.
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right) \([^)]*\)", "", query)
    for name, matchers in selectors(bare):
        names += 1
        if name in FOREIGN or name in recorded():
            continue
        assert name in exported(), f"{name} is exported by nobody: {query}"
        labels = exported()[name][1]
        for label, operator, value in matchers:
            if label in COMMON:
                continue
            assert label in labels, f"{name} has no label {label}: {query}"
            closed = labels[label]
            if closed and not value.startswith("$"):
                for word in value.split("|") if operator in ("=~", "!~") else [value]:
                    assert word in closed or "*" in word, f"{name} has no {label}={word}: {query}"
    assert names or "vector(1)" in query, f"no metric in {query}"


def counters_are_rated(query):
    """A counter's value says nothing: its increase does."""
    for name, _ in selectors(query):
        if name in exported() and exported()[name][0] == "counter":
            before = query[: query.index(name)]
            assert re.search(r"(rate|increase|irate|unless|or sum by \([^)]*\)) ?\($|unless $", before.rstrip("( ") + ("(" if before.rstrip().endswith("(") else "")) or \
                re.search(r"(rate|increase)\($", before), f"{name} without a rate: {query}"
