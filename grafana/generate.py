#!/usr/bin/env python3
"""Writes grafana/dashboards/*.json; with --check it only says what is out of date.

A dashboard is a list of rows, a row a list of panels, a panel its title, what it says, its unit and its queries.
In queries `S` stands for the selectors that the variables make, `R` for Grafana's rate interval.
"""

import json
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "dashboards"
SELECT = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"'
SOURCE = {"type": "prometheus", "uid": "$datasource"}
WIDTH = 24


class Panel:
    """One panel. `queries` are pairs of PromQL and legend."""

    def __init__(self, title, says, unit, *queries, kind="timeseries", width=8, height=8, steps=None, stack=False,
                 most=None, least=0, choices=None, instant=None):
        self.title, self.says, self.unit, self.queries = title, says, unit, queries
        self.kind, self.width, self.height, self.steps = kind, width, height, steps
        self.stack, self.most, self.least, self.choices = stack, most, least, choices
        self.instant = kind in ("stat", "gauge", "table", "bargauge") if instant is None else instant

    def targets(self):
        for letter, (query, legend) in zip("ABCDEFGH", self.queries):
            query = re.sub(r"\bS\b", SELECT, query).replace("[R]", "[$__rate_interval]")
            target = {"refId": letter, "datasource": SOURCE, "expr": " ".join(query.split()), "legendFormat": legend,
                      "editorMode": "code", "range": not self.instant, "instant": self.instant}
            if self.kind == "heatmap" or self.kind == "table":
                target["format"] = "heatmap" if self.kind == "heatmap" else "table"
            yield target

    def json(self, number, x, y):
        steps = [{"color": color, "value": value} for value, color in (self.steps or [(None, "green")])]
        defaults = {"unit": self.unit, "thresholds": {"mode": "absolute", "steps": steps}, "mappings": [], "custom": {}}
        if self.least is not None and self.kind != "heatmap":
            defaults["min"] = self.least
        if self.most is not None:
            defaults["max"] = self.most
        if self.choices:
            options = {str(value): {"text": text, "color": color, "index": index} for index, (value, text, color) in enumerate(self.choices)}
            defaults["mappings"] = [{"type": "value", "options": options}]
        panel = {"id": number, "type": self.kind, "title": self.title, "description": self.says, "datasource": SOURCE,
                 "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y}, "targets": list(self.targets()),
                 "fieldConfig": {"defaults": defaults, "overrides": []}, "options": {}}
        if self.kind == "timeseries":
            defaults["color"] = {"mode": "palette-classic"}
            defaults["custom"] = {"lineWidth": 1, "fillOpacity": 20 if self.stack else 5, "showPoints": "never",
                                  "stacking": {"mode": "normal" if self.stack else "none", "group": "A"}}
            if self.steps:
                defaults["custom"]["thresholdsStyle"] = {"mode": "line"}
            panel["options"] = {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": True},
                                "tooltip": {"mode": "multi", "sort": "desc"}}
        elif self.kind in ("stat", "gauge", "bargauge"):
            defaults["color"] = {"mode": "thresholds"}
            panel["options"] = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
            if self.kind == "stat":
                panel["options"] |= {"colorMode": "background" if self.steps or self.choices else "value", "graphMode": "none", "textMode": "auto"}
            if self.kind == "bargauge":
                panel["options"] |= {"orientation": "horizontal", "displayMode": "basic"}
        elif self.kind == "heatmap":
            panel["options"] = {"calculate": False, "yAxis": {"unit": self.unit}, "color": {"mode": "scheme", "scheme": "Spectral", "steps": 64},
                                "tooltip": {"mode": "single", "yHistogram": True}, "legend": {"show": True}, "cellGap": 1, "filterValues": {"le": 1e-9}}
        elif self.kind == "state-timeline":
            defaults["custom"] = {"lineWidth": 0, "fillOpacity": 80}
            panel["options"] = {"mergeValues": True, "showValue": "auto", "rowHeight": 0.8, "legend": {"showLegend": False}}
        elif self.kind == "table":
            panel["transformations"] = [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]
        return panel


def variables():
    def query(name, label, text, multi=True):
        return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": {"query": text, "refId": name},
                "definition": text, "refresh": 2, "sort": 1, "multi": multi, "includeAll": multi, "allValue": ".*" if multi else None,
                "current": {"selected": False, "text": "All", "value": "$__all"} if multi else {}, "hide": 0, "options": []}
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}, "hide": 0, "refresh": 1, "options": []},
        query("namespace", "Namespace", "label_values(vestibule_build_info, namespace)"),
        query("job", "Job", 'label_values(vestibule_build_info{namespace=~"$namespace"}, job)'),
        query("instance", "Instance", 'label_values(vestibule_build_info{namespace=~"$namespace", job=~"$job"}, instance)'),
    ]


def annotations():
    def marks(name, color, query, title):
        return {"name": name, "enable": True, "iconColor": color, "datasource": SOURCE, "expr": re.sub(r"\bS\b", SELECT, query), "titleFormat": title, "useValueForTime": False}
    return {"list": [
        marks("Starts", "blue", "changes(process_start_time_seconds{S}[$__interval]) > 0", "{{instance}} started"),
        marks("Drains", "orange", "vestibule_drain_phase{S} > 0", "{{instance}} drains"),
        marks("Alerts", "red", 'ALERTS{alertname=~"Vestibule.*", alertstate="firing", severity=~"critical|warning"}', "{{alertname}}"),
    ]}


def dashboard(uid, title, says, rows, hours=1):
    panels, number, y = [], 1, 0
    for index, (name, content) in enumerate(rows):
        if index:
            panels.append({"id": number, "type": "row", "title": name, "collapsed": False, "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y}, "panels": []})
            number, y = number + 1, y + 1
        x = deep = 0
        for panel in content:
            if x + panel.width > WIDTH:
                x, y, deep = 0, y + deep, 0
            panels.append(panel.json(number, x, y))
            number, x, deep = number + 1, x + panel.width, max(deep, panel.height)
        y += deep
    links = [{"type": "dashboards", "title": "Vestibule", "tags": ["vestibule"], "asDropdown": True, "includeVars": True, "keepTime": True, "icon": "external link", "targetBlank": False, "tooltip": "", "url": ""}]
    return {"uid": f"vestibule-{uid}", "title": f"Vestibule: {title}", "description": says, "tags": ["vestibule"], "timezone": "utc", "editable": False,
            "graphTooltip": 1, "schemaVersion": 39, "version": 1, "refresh": "30s", "time": {"from": f"now-{hours}h", "to": "now"},
            "templating": {"list": variables()}, "annotations": annotations(), "links": links, "panels": panels}


def p(quantile, metric, by="", more=""):
    """A quantile of a histogram."""
    keep = f"le, {by}" if by else "le"
    return f"histogram_quantile({quantile}, sum by ({keep}) (rate({metric}_bucket{{S{more}}}[R])))"


def rate(metric, by="", more=""):
    keep = f"sum by ({by})" if by else "sum"
    return f"{keep} (rate({metric}{{S{more}}}[R]))"


def total(metric, by="", more=""):
    keep = f"sum by ({by})" if by else "sum"
    return f"{keep} ({metric}{{S{more}}})"


PHASES = [(0, "serving", "green"), (1, "unready", "yellow"), (2, "closed", "orange"), (3, "parting", "orange"), (4, "flushing", "purple"), (5, "stopped", "dark-gray")]
HEALTH = [(0, "down", "red"), (1, "up", "green")]
JOBS = 'namespace=~"$namespace", job=~"$job"'
SHARE = [(None, "red"), (0.99, "orange"), (0.999, "green")]

BOARDS = {
    "overview": dashboard("overview", "overview", "Whether clients are served as promised, on one screen.", [
        ("", [
            Panel("Sends taken, 1 h", "Share of client events of the last hour that were not refused for a reason of ours; the objective is 99.9 % over 30 days.", "percentunit",
                  (f"1 - vestibule:sends_refused:ratio_rate1h{{{JOBS}}}", "taken"), kind="stat", width=4, height=4, steps=SHARE, most=1),
            Panel("Published in time, 1 h", "Share of durable events of the last hour that were published within 250 ms of their append; the objective is 99 % over 30 days.", "percentunit",
                  (f"1 - vestibule:delivery_slow:ratio_rate1h{{{JOBS}}}", "in time"), kind="stat", width=4, height=4, steps=[(None, "red"), (0.9, "orange"), (0.99, "green")], most=1),
            Panel("Connections", "Client connections open now.", "short", (total("vestibule_connections_open"), "open"), kind="stat", width=4, height=4),
            Panel("Nodes that serve", "Nodes in the phase serving.", "short", ("sum(vestibule_drain_phase{S} == bool 0)", "serving"), kind="stat", width=4, height=4, steps=[(None, "red"), (2, "green")]),
            Panel("Backends", "The least of what any node says of each thing it depends on.", "short", ("min by (dependency) (vestibule_dependency_up{S})", "{{dependency}}"), kind="stat", width=8, height=4, choices=HEALTH, steps=[(None, "red"), (1, "green")]),
            Panel("Firing alerts", "Alerts that fire now; each has its section in docs/RUNBOOK.md.", "short", ('count by (alertname, severity) (ALERTS{alertname=~"Vestibule.*", alertstate="firing", severity=~"critical|warning"}) or vector(0)', "{{alertname}}"), kind="table", width=8, height=8),
            Panel("Connections by node", "How evenly clients are spread.", "short", (total("vestibule_connections_open", "instance"), "{{instance}}"), stack=True),
            Panel("Delivery, append to publication", "How long durable events take from the log to their room.", "s", (p(0.5, "vestibule_delivery_seconds"), "p50"), (p(0.99, "vestibule_delivery_seconds"), "p99"), steps=[(None, "green"), (0.25, "red")]),
            Panel("Events and deliveries", "What clients send, and the frames that are put into outboxes for it.", "ops", (rate("vestibule_events_received_total"), "received"), (rate("vestibule_rooms_deliveries_total"), "delivered")),
            Panel("Refused events", "Client events answered with a refusal, by code.", "ops", (rate("vestibule_event_errors_total", "code"), "{{code}}"), stack=True),
            Panel("Records that wait", "How far each group is behind the log.", "short", (f"sum by (group) (vestibule:eventlog_lag:sum{{{JOBS}}})", "{{group}}")),
        ]),
        ("Budget of 30 days", [
            Panel("Sends: how fast the budget burns", "1 uses up the budget in just 30 days; 14.4 over an hour pages.", "x",
                  *[(f"vestibule:sends_refused:ratio_rate{w}{{{JOBS}}} / 0.001", w) for w in ("5m", "1h", "6h", "3d")], width=12, steps=[(None, "green"), (1, "orange"), (14.4, "red")]),
            Panel("Delivery: how fast the budget burns", "1 uses up the budget in just 30 days; 14.4 over an hour pages.", "x",
                  *[(f"vestibule:delivery_slow:ratio_rate{w}{{{JOBS}}} / 0.01", w) for w in ("5m", "1h", "6h", "3d")], width=12, steps=[(None, "green"), (1, "orange"), (14.4, "red")]),
        ]),
    ], 6),
    "connections": dashboard("connections", "connections and transports", "Who is connected and how, who comes, who goes and why.", [
        ("", [
            Panel("Open, by transport", "WebSockets and polling sessions.", "short", (total("vestibule_connections_open", "transport"), "{{transport}}"), stack=True),
            Panel("Opened", "New sessions, by the transport of their handshake.", "ops", (rate("vestibule_connections_opened_total", "transport"), "{{transport}}")),
            Panel("Closed, by reason", "Sessions that ended. `slow_consumer`, `interrupted` and `unavailable` are ours, the rest are clients and networks.", "ops", (rate("vestibule_connections_closed_total", "reason") + " > 0", "{{reason}}"), stack=True),
            Panel("Spread", "The fullest node's connections over the average; 1 is even.", "short", (f"vestibule:connections_skew:ratio{{{JOBS}}}", "fullest / average"), steps=[(None, "green"), (1.6, "red")]),
            Panel("Upgrades", "From polling to WebSocket.", "ops", (rate("vestibule_engineio_upgrades_total", "result"), "{{result}}")),
            Panel("Sockets", "Sockets (a session in a namespace) open, and refused.", "short", (total("vestibule_sockets_open"), "open")),
            Panel("Refused CONNECTs", "By code; mostly tokens.", "ops", (rate("vestibule_connect_errors_total", "code"), "{{code}}"), stack=True),
            Panel("Tokens not accepted", "By reason.", "ops", (rate("vestibule_auth_failures_total", "reason"), "{{reason}}"), stack=True),
            Panel("Over a limit", "Requests and events refused because somebody came too often.", "ops", ("(" + rate("vestibule_limits_refused_total", "limiter") + ") or vector(0)", "{{limiter}}"), stack=True),
        ]),
        ("At the edge", [
            Panel("TCP connections", "Accepted, and closed before their first request.", "ops", (rate("vestibule_edge_accepted_total"), "accepted"), (rate("vestibule_edge_refused_total", "why"), "refused: {{why}}")),
            Panel("Full", "1 while a node has no permit left and connections wait in the kernel.", "short", (total("vestibule_edge_accept_waiting", "instance"), "{{instance}}"), most=1),
            Panel("TLS handshakes", "By how they ended.", "ops", (rate("vestibule_tls_handshakes_total", "result"), "{{result}}")),
            Panel("Certificate ends in", "The time left of the certificate that nodes serve; nothing without TLS.", "s", ("(min by (instance) (vestibule_tls_certificate_expiry_timestamp_seconds{S} > 0) - time()) or vector(0)", "{{instance}}"), least=None),
            Panel("Payload", "Frames and polling bodies, without headers and TLS.", "Bps", (rate("vestibule_bytes_received_total"), "received"), (rate("vestibule_bytes_sent_total"), "sent")),
            Panel("Packets", "A broadcast counts once for each member.", "pps", (rate("vestibule_packets_received_total"), "received"), (rate("vestibule_packets_sent_total"), "sent")),
        ]),
    ]),
    "delivery": dashboard("delivery", "delivery by stage", "From a client's event to its publication, stage by stage.", [
        ("", [
            Panel("Append to publication", "Every durable event: the log, the pump and the shard's script.", "s", ("sum by (le) (increase(vestibule_delivery_seconds_bucket{S}[R]))", "{{le}}"), kind="heatmap", width=12),
            Panel("Append", "Until the log has it, which is the sender's acknowledgement.", "s", ("sum by (le) (increase(vestibule_eventlog_append_seconds_bucket{S}[R]))", "{{le}}"), kind="heatmap", width=12),
            Panel("Canaries, p99", "Events that nodes send themselves: through the log, a shard and the bus, and back. Also when nobody sends anything.", "s", (p(0.99, "vestibule_canary_delivery_seconds", "shard"), "{{shard}}")),
            Panel("Canaries, by outcome", "`delivered` is all there should be. `unheard`: in its place, but not brought by the bus, which members repair; `lost` and `doubled` are alarms.", "ops", (rate("vestibule_canary_probes_total", "outcome"), "{{outcome}}"), stack=True),
            Panel("Stages, p99", "Append to the log; append to publication, which contains it.", "s", (p(0.99, "vestibule_eventlog_append_seconds"), "append"), (p(0.99, "vestibule_delivery_seconds"), "append to publication")),
            Panel("By node, p99", "A node that is slower than the others has too little CPU, or a bad way to a shard.", "s", (p(0.99, "vestibule_delivery_seconds", "instance"), "{{instance}}")),
            Panel("Applied, by outcome", "`applied` is what is new; `duplicate` after a restart or rebalance is harmless; `gap`, `stale` and `moved` pass.", "ops", (rate("vestibule_delivery_applied_total", "outcome"), "{{outcome}}"), stack=True),
            Panel("Received, by event", "Client events.", "ops", (rate("vestibule_events_received_total", "event"), "{{event}}"), stack=True),
            Panel("Repeated calls", "Calls to a store that were made again because they failed.", "ops", (rate("vestibule_delivery_retries_total", "instance"), "{{instance}}")),
            Panel("What follows", "Events that followed from others, and changes of records and memberships.", "ops", (rate("vestibule_delivery_derived_total"), "derived events"), (rate("vestibule_delivery_effects_total"), "effects")),
            Panel("Handlers paused", "Times a socket's reading was paused because its handlers were at their limit.", "ops", (rate("vestibule_handlers_paused_total", "instance"), "{{instance}}")),
            Panel("Dead letters, 24 h", "Records put aside because they could not be applied: see `vestibule dead-letters`.", "short", ('sum(increase(vestibule_delivery_applied_total{S, outcome="dead_letter"}[24h]))', "24 h"), kind="stat", steps=[(None, "green"), (1, "red")]),
        ]),
    ]),
    "rooms": dashboard("rooms", "rooms and fan-out", "Rooms, members, outboxes, presence.", [
        ("", [
            Panel("Rooms and members", "Rooms with a member, and memberships, on these nodes.", "short", (total("vestibule_rooms_open"), "rooms"), (total("vestibule_rooms_members"), "memberships")),
            Panel("Broadcasts", "Events handed to a room of a worker.", "ops", (rate("vestibule_rooms_broadcasts_total"), "broadcasts")),
            Panel("Fan-out factor", "Frames for each broadcast.", "short", (rate("vestibule_rooms_deliveries_total") + " / " + rate("vestibule_rooms_broadcasts_total"), "members reached")),
            Panel("Deliveries by node", "Frames put into outboxes.", "ops", (rate("vestibule_rooms_deliveries_total", "instance"), "{{instance}}"), stack=True),
            Panel("Slow readers", "Outboxes that were full: volatile frames dropped, or sockets closed, which then resume.", "ops", (rate("vestibule_rooms_outbox_dropped_total"), "frames dropped"), (rate("vestibule_rooms_outbox_overflows_total"), "sockets closed")),
            Panel("Online", "Users online by node; one who is on two counts twice.", "short", (total("vestibule_presence_online", "instance"), "{{instance}}"), stack=True),
            Panel("Presence", "Users who came or went, and who were taken off a node that is gone.", "ops", (rate("vestibule_presence_changes_total"), "changes"), (rate("vestibule_presence_swept_total"), "swept"), (rate("vestibule_presence_stale_total"), "answered from memory")),
            Panel("Emitters", "Messages of other processes' emitters, by kind; nothing where that is off.", "ops", (rate("vestibule_emitter_messages_total", "kind"), "{{kind}}")),
        ]),
    ]),
    "log": dashboard("log", "log and pump", "Kafka as the nodes see it: appends, lag by group, archive.", [
        ("", [
            Panel("Lag by group", "Records that a group has not settled.", "short", (f"sum by (group) (vestibule:eventlog_lag:sum{{{JOBS}}})", "{{group}}")),
            Panel("Lag by topic", "The same by group and topic, where there is any.", "short", (f"sum by (group, topic) (vestibule:eventlog_lag:sum{{{JOBS}}})", "{{group}} {{topic}}")),
            Panel("Partitions furthest behind", "One alone is a stuck partition or a user who floods.", "short", (f"topk(10, vestibule:eventlog_lag:max{{{JOBS}}})", ""), kind="table"),
            Panel("Appended, by topic", "Records that became durable.", "ops", (rate("vestibule_eventlog_appended_total", "topic") + " > 0", "{{topic}}"), stack=True),
            Panel("In flight", "Records that wait to become durable; at the bound senders are refused.", "short", (total("vestibule_eventlog_inflight_records", "instance"), "{{instance}}")),
            Panel("Rebalances", "Times a node's consumers were given partitions, or lost some. Each holds events of those partitions up for a moment.", "ops", (rate("vestibule_eventlog_rebalances_total", "instance"), "{{instance}}")),
            Panel("Refused appends", "Because the bound was reached or the brokers did not answer.", "ops", (rate("vestibule_eventlog_refused_total", "instance"), "{{instance}}")),
            Panel("Append time", "Until a record is durable.", "s", (p(0.5, "vestibule_eventlog_append_seconds"), "p50"), (p(0.99, "vestibule_eventlog_append_seconds"), "p99")),
        ]),
        ("Archive", [
            Panel("Rows", "Written to PostgreSQL.", "ops", (rate("vestibule_archive_rows_total"), "rows")),
            Panel("Age of what is written", "How old the newest event was when it was written.", "s", ("max(vestibule_archive_lag_seconds{S})", "age")),
            Panel("PostgreSQL calls", "With the wait for a connection.", "s", (p(0.5, "vestibule_postgres_call_seconds"), "p50"), (p(0.99, "vestibule_postgres_call_seconds"), "p99")),
            Panel("PostgreSQL pool", "Callers that wait for a connection.", "short", (total("vestibule_postgres_waiting", "instance"), "{{instance}}")),
            Panel("PostgreSQL trouble", "Work done again, and connections given up.", "ops", (rate("vestibule_postgres_repeats_total"), "repeated"), (rate("vestibule_postgres_broken_total"), "broken connections")),
        ]),
    ]),
    "cluster": dashboard("cluster", "cluster and shards", "Nodes, leases, what is between them, and the shards as the nodes see them.", [
        ("", [
            Panel("Nodes, as each sees them", "Live leases. They differ for long only when something is wrong.", "short", (total("vestibule_cluster_nodes", "instance"), "{{instance}}"), kind="stat", height=5, width=8),
            Panel("Leases", "1 while a node holds its lease.", "short", (total("vestibule_cluster_lease_held", "instance"), "{{instance}}"), kind="stat", height=5, width=8, choices=[(0, "none", "red"), (1, "held", "green")], steps=[(None, "red"), (1, "green")]),
            Panel("Leases lost, 24 h", "By node.", "short", ("sum by (instance) (increase(vestibule_cluster_leases_lost_total{S}[24h]))", "{{instance}}"), kind="stat", height=5, width=8, steps=[(None, "green"), (1, "orange")]),
            Panel("Backends over time", "The log, the archive and each shard, as nodes find them.", "short", ("min by (dependency) (vestibule_dependency_up{S})", "{{dependency}}"), kind="state-timeline", width=12, choices=HEALTH, steps=[(None, "red"), (1, "green")]),
            Panel("Degraded time, 24 h", "Seconds for which each was away, summed over nodes.", "s", ("sum by (dependency) (increase(vestibule_dependency_degraded_seconds_total{S}[24h]))", "{{dependency}}"), kind="bargauge", width=12),
        ]),
        ("From the shards", [
            Panel("Shares of the ring", "Of the rooms, by weight.", "percentunit", ("max by (shard) (vestibule_ring_share{S})", "{{shard}}"), most=1),
            Panel("Calls to shards", "From a call to its answer, or until it is not waited for: sessions, presence, limits, caches. The timelines' are `applied` among the parts of a delivery.", "s", (p(0.5, "vestibule_redis_call_seconds", "shard"), "{{shard}} p50"), (p(0.99, "vestibule_redis_call_seconds", "shard"), "{{shard}} p99")),
            Panel("Subscriptions", "Rooms that nodes hear from shards.", "short", (total("vestibule_bus_subscriptions", "instance"), "{{instance}}"), stack=True),
            Panel("Interruptions", "Times a worker was told that entries may be missing; all its rooms of the shard are then checked.", "ops", (rate("vestibule_bus_interruptions_total", "reason"), "{{reason}}")),
            Panel("Gaps and reloads", "Events fetched because the bus lost them, and sockets closed because they could not be.", "ops", (rate("vestibule_bus_gaps_total"), "gaps fetched"), (rate("vestibule_bus_reloads_total"), "sockets closed")),
            Panel("Reconnects to shards", "Connections on which shards are heard.", "ops", (rate("vestibule_bus_reconnects_total", "instance"), "{{instance}}")),
            Panel("Dropped for want of room", "Ephemeral events, and control words that were replaced by looking everything up.", "ops", (rate("vestibule_bus_ephemeral_dropped_total"), "ephemeral events"), (rate("vestibule_bus_control_lost_total"), "control words")),
            Panel("Limits counted alone", "Because their shard did not answer in time.", "ops", (rate("vestibule_limits_alone_total", "instance"), "{{instance}}")),
        ]),
        ("Between nodes", [
            Panel("Asked", "Requests to other nodes, by outcome: polls that landed elsewhere, mostly.", "ops", (rate("vestibule_internal_asked_total", "outcome"), "{{outcome}}"), stack=True),
            Panel("Tunnels", "WebSockets that go through another node than their session's.", "short", (total("vestibule_internal_tunnels_open", "instance"), "{{instance}}")),
            Panel("Not believed", "Requests on the internal listener without a right proof.", "ops", (rate("vestibule_internal_refused_total", "reason"), "{{reason}}"), stack=True),
        ]),
    ]),
    "caches": dashboard("caches", "caches", "What caches answer, by cache and level.", [
        ("", [
            Panel("Hit ratio, all", "Reads that either level answered.", "percentunit", (f"avg by (cache) (vestibule:cache_hit:ratio_rate5m{{{JOBS}}})", "{{cache}}"), most=1, width=12),
            Panel("Reads", "What each cache is asked.", "reqps", (f"sum by (cache) (vestibule:cache_reads:rate5m{{{JOBS}}})", "{{cache}}"), stack=True, width=12),
            Panel("First level", "Hit ratio of the memory of the nodes.", "percentunit", (rate("vestibule_cache_hits_total", "cache", ', level="l1"') + " / (" + rate("vestibule_cache_hits_total", "cache", ', level="l1"') + " + " + rate("vestibule_cache_misses_total", "cache", ', level="l1"') + ")", "{{cache}}"), most=1),
            Panel("Second level", "Hit ratio of the Redis shards, for what the first had not.", "percentunit", (rate("vestibule_cache_hits_total", "cache", ', level="l2"') + " / (" + rate("vestibule_cache_hits_total", "cache", ', level="l2"') + " + " + rate("vestibule_cache_misses_total", "cache", ', level="l2"') + ")", "{{cache}}"), most=1),
            Panel("Stale answers", "Expired values served because the store did not answer.", "ops", (rate("vestibule_cache_stale_total", "cache"), "{{cache}}"), stack=True),
            Panel("Shards that were silent", "Reads that a shard did not answer in time.", "ops", (rate("vestibule_cache_shard_silent_total", "instance"), "{{instance}}")),
        ]),
    ]),
    "api": dashboard("api", "API", "REST and handshakes: rates, errors, times.", [
        ("", [
            Panel("Requests, by route", "Answered.", "reqps", (rate("vestibule_http_requests_total", "route"), "{{route}}"), stack=True),
            Panel("By status", "101 is an accepted WebSocket.", "reqps", (rate("vestibule_http_requests_total", "status"), "{{status}}"), stack=True),
            Panel("Failing", "Share of 500 and 503.", "percentunit", ("(" + rate("vestibule_http_requests_total", "", ', status=~"500|503"') + " or vector(0)) / " + rate("vestibule_http_requests_total"), "500 and 503"), steps=[(None, "green"), (0.01, "red")]),
            Panel("p99 by route", "Without long polls, which wait on purpose.", "s", (p(0.99, "vestibule_http_request_seconds", "route", ', route!="engineio"'), "{{route}}")),
            Panel("p50 by route", "Without long polls.", "s", (p(0.5, "vestibule_http_request_seconds", "route", ', route!="engineio"'), "{{route}}")),
            Panel("Engine.IO errors", "Handshakes and polls refused; `session_unknown` after a node went is normal.", "ops", (rate("vestibule_engineio_handshake_errors_total", "code"), "{{code}}"), stack=True),
            Panel("Logins", "By how they ended.", "ops", (rate("vestibule_accounts_logins_total", "outcome"), "{{outcome}}"), stack=True),
        ]),
    ]),
    "drain": dashboard("drain", "resume and drain", "What a rollout or a fault does to clients.", [
        ("", [
            Panel("Phases", "Where each node is in its drain.", "short", ("max by (instance) (vestibule_drain_phase{S})", "{{instance}}"), kind="state-timeline", width=24, choices=PHASES),
            Panel("Coming and going", "Sessions opened and closed.", "ops", (rate("vestibule_connections_opened_total"), "opened"), (rate("vestibule_connections_closed_total"), "closed")),
            Panel("Told to go", "Sessions closed by nodes that drain.", "ops", (rate("vestibule_connections_closed_total", "instance", ', reason="server_shutting_down"'), "{{instance}}"), stack=True),
            Panel("Sent to nodes with fewer", "Clients that nodes sent away after another node had joined.", "ops", (rate("vestibule_admission_shed_total", "instance"), "{{instance}}"), stack=True),
            Panel("On their way in", "Clients between handshake and answered CONNECT, and CONNECTs that wait for their turn.", "short", (total("vestibule_admission_opening", "instance"), "{{instance}}"), (total("vestibule_admission_connects_waiting", "instance"), "{{instance}} waiting")),
            Panel("Told to come again", "Clients that were not let in because too many came at once.", "ops", (rate("vestibule_admission_refused_total", "at"), "{{at}}"), stack=True),
            Panel("Joins", "Rooms joined, again by those who came back, with what they missed.", "ops", (rate("vestibule_events_received_total", "", ', event="join:conversation"'), "joins")),
            Panel("Taken over", "Sockets replaced by their client's new connection.", "ops", (rate("vestibule_sockets_closed_total", "", ', reason="taken_over"'), "taken over")),
            Panel("Told to reload", "Sockets closed because a room's events could not be completed.", "ops", (rate("vestibule_bus_reloads_total"), "closed")),
            Panel("Came back", "Clients that asked for their old socket, by how that ended.", "ops", (rate("vestibule_recovery_resumes_total", "outcome"), "{{outcome}}"), (rate("vestibule_recovery_taken_over_total"), "taken over while alive"), stack=True),
            Panel("Brought to them", "Events that they had missed.", "ops", (rate("vestibule_recovery_replayed_total"), "events")),
            Panel("Reads for them", "Rooms read for clients that came back, and those of them that were shared.", "ops", (rate("vestibule_recovery_reads_asked_total"), "asked"), (rate("vestibule_recovery_reads_shared_total"), "shared")),
            Panel("Partitions read again", "Because records seemed to be passed over, or nothing came though there was something: rare, and after brokers were away.", "ops", (rate("vestibule_eventlog_rereads_total", "instance"), "{{instance}}")),
            Panel("Standing in", "Nodes that pump for one whose lease is over.", "ops", (rate("vestibule_takeovers_total", "instance"), "{{instance}} began"), (rate("vestibule_takeover_records_total"), "records")),
            Panel("Ring", "1 while rooms move to their places on a changed ring; rooms that were brought.", "short", ("max(vestibule_ring_moving{S})", "moving"), (rate("vestibule_ring_moved_rooms_total"), "rooms a second")),
            Panel("Epochs", "One more is a shard that lost writes: what was not there any more was read from the log again.", "short", ("max by (shard) (vestibule_shard_epoch{S})", "{{shard}}")),
            Panel("Parts of a delivery, p99", "Where an event's time goes.", "s", (p(0.99, "vestibule_delivery_stage_seconds", "stage"), "{{stage}}"), (p(0.99, "vestibule_delivery_shown_seconds"), "shown")),
            Panel("Starts", "When each node started.", "dateTimeFromNow", ("process_start_time_seconds{S} * 1000", "{{instance}}"), kind="stat"),
        ]),
    ]),
    "nodes": dashboard("nodes", "nodes", "Each process: CPU, memory, descriptors, versions.", [
        ("", [
            Panel("Versions", "What runs.", "short", ("count by (version) (vestibule_build_info{S})", "{{version}}"), kind="stat", height=4, width=6),
            Panel("Up for", "Since the last start.", "s", ("time() - process_start_time_seconds{S}", "{{instance}}"), kind="stat", height=4, width=18),
            Panel("CPU", "Cores in use.", "short", (rate("process_cpu_seconds_total", "instance"), "{{instance}}")),
            Panel("Memory", "Resident.", "bytes", (total("process_resident_memory_bytes", "instance"), "{{instance}}")),
            Panel("Memory for each connection", "Resident memory over open connections: meaningful with many.", "bytes", ("sum by (instance) (process_resident_memory_bytes{S}) / (sum by (instance) (vestibule_connections_open{S}) > 0)", "{{instance}}")),
            Panel("Descriptors", "Share of the limit in use.", "percentunit", ("process_open_fds{S} / process_max_fds{S}", "{{instance}}"), most=1, steps=[(None, "green"), (0.8, "red")]),
            Panel("Threads", "Of each process.", "short", (total("process_threads", "instance"), "{{instance}}")),
            Panel("CPU for a million deliveries", "Core-seconds for a million frames put into outboxes, with all else that the node does.", "s", (rate("process_cpu_seconds_total", "instance") + " / (" + rate("vestibule_rooms_deliveries_total", "instance") + " > 0) * 1e6", "{{instance}}")),
            Panel("Panics, 24 h", "Tasks that ended by a panic, by kind; there should be none.", "short", ("(sum by (task) (increase(vestibule_tasks_panicked_total{S}[24h]))) or vector(0)", "{{task}}"), kind="stat", steps=[(None, "green"), (1, "red")]),
            Panel("Reloads, 24 h", "Certificates and catalogue, by result.", "short", ("sum by (result) (increase(vestibule_tls_reloads_total{S}[24h]))", "certificate {{result}}"), ("sum by (result) (increase(vestibule_catalogue_reloads_total{S}[24h]))", "catalogue {{result}}"), kind="stat"),
        ]),
    ]),
}


def main():
    FOLDER.mkdir(exist_ok=True)
    wanted = {f"{name}.json": json.dumps(board, indent=1) + "\n" for name, board in BOARDS.items()}
    there = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    if "--check" in sys.argv:
        if there != wanted:
            late = sorted(name for name in {*there, *wanted} if there.get(name) != wanted.get(name))
            sys.exit(f"out of date: {', '.join(late)}; run grafana/generate.py")
        return
    for name in there.keys() - wanted.keys():
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
