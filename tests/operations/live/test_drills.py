"""Faults are made on purpose: the alert fires, Alertmanager passes it on, and both end when the fault does.

The rules are those of prometheus/rules with windows and waits 30 times shorter; promtool proves the originals.
"""

import json
import os
import secrets
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from cluster import Client, Cluster, owner, until
from monitoring import Monitoring, hastened
from tools import program, run

FIRES_WITHIN, CLEARS_WITHIN = 120, 180
WEEK = 7


def pair(folder: Path, days: int):
    """A certificate for the loopback address that ends in so many days, put in place in one step each."""
    cert, key = folder / "new.crt", folder / "new.key"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", key, "-out", cert, "-days", days, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
        "-addext", "basicConstraints=critical,CA:FALSE")
    key.rename(folder / "tls.key")
    cert.rename(folder / "tls.crt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("drills")


@pytest.fixture(scope="module")
def drill_cluster(folder):
    pair(folder, 60)
    settings = {"edge__tls__certificate": folder / "tls.crt", "edge__tls__key": folder / "tls.key", "edge__tls__reload_interval": "1s",
                "rooms__outbox_bytes": "64KiB", "transport__max_payload": "60KiB", "rooms__outbox_frames": "64", "limits__enabled": "false"}
    with Cluster(folder, **settings) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def monitoring(drill_cluster, folder):
    with Monitoring(drill_cluster, folder / "monitoring", hastened) as running:
        yield running


@pytest.fixture(scope="module")
def people(drill_cluster, folder, monitoring):
    """A little traffic all the time: some alerts are about shares of it."""
    (folder / "token").write_text(drill_cluster.token("load"))
    load = subprocess.Popen([str(word) for word in (program(), "load", "durable", "--url", f"wss://{drill_cluster.nodes[0].clients}", "--ca", folder / "tls.crt",
                             "--token-file", folder / "token", "--connections", 16, "--rooms", 8, "--rate", 200, "--stall", "300s", "--duration", "1200s")],
                            stdout=(folder / "load.log").open("w"), stderr=subprocess.STDOUT)
    time.sleep(10)
    assert load.poll() is None, (folder / "load.log").read_text()
    yield load
    load.kill()
    load.wait()


def drill(monitoring, name, fault, **labels):
    """Nothing fires before, it fires while the fault lasts, the pager hears it, and both end with it."""
    until(lambda: not monitoring.firing(name, **labels), CLEARS_WITHIN, what=lambda: f"{name} fires already")
    with fault:
        until(lambda: monitoring.firing(name, **labels), FIRES_WITHIN, what=lambda: f"{name} does not fire: {sorted({one['metric']['alertname'] for one in monitoring.ask('ALERTS')})}")
        until(lambda: monitoring.receiver.was_told(name, "firing", labels), 30, what=lambda: f"nobody was told of {name}")
    until(lambda: not monitoring.firing(name, **labels), CLEARS_WITHIN, what=lambda: f"{name} does not clear")
    until(lambda: monitoring.receiver.was_told(name, "resolved", labels), 60, what=lambda: f"nobody was told that {name} is over")


def family(pid):
    """A process and its children."""
    children = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat")
                if path.read_text(errors="replace").rsplit(") ", 1)[1].split()[1] == str(pid)]
    return [pid, *children]


@contextmanager
def stopped(address):
    """The server that listens there stands still: it keeps its connections and answers nobody."""
    processes = family(owner(address))
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            os.kill(process, signal.SIGCONT)


def test_the_broker_is_down(monitoring, drill_cluster, people):
    drill(monitoring, "VestibuleDependencyDown", stopped(drill_cluster.kafka), dependency="log")


def test_a_shard_is_down(monitoring, drill_cluster, people):
    drill(monitoring, "VestibuleDependencyDown", stopped(drill_cluster.shards[1]), dependency="rooms/shard-1")


def test_redis_exporter_sees_a_shard_that_is_down(monitoring, drill_cluster, people):
    drill(monitoring, "VestibuleRedisDown", stopped(drill_cluster.shards[1]))


def test_the_archive_is_down(monitoring, drill_cluster, people):
    drill(monitoring, "VestibuleArchiveStalled", stopped(drill_cluster.postgres.split("@")[1].split("/")[0]))


def test_a_group_falls_behind(monitoring, drill_cluster, people):
    """A shard stands still while people go on: what they send waits in the log."""
    drill(monitoring, "VestibuleLagGrowing", stopped(drill_cluster.shards[1]), group="pump")


def test_a_partition_is_stuck(monitoring, drill_cluster, people):
    drill(monitoring, "VestibulePartitionStuck", stopped(drill_cluster.shards[1]), group="pump")


def test_no_canary_arrives(monitoring, drill_cluster, people):
    drill(monitoring, "VestibuleCanaryNotArriving", stopped(drill_cluster.shards[1]), shard="shard-1")


def test_a_node_stands_still(monitoring, drill_cluster, people):
    drill(monitoring, "VestibuleNodeDown", stopped(drill_cluster.nodes[2].operations))


@contextmanager
def slow_readers(cluster, folder):
    """Sockets that join a room and then read nothing, while somebody fills it."""
    context = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    host, port = cluster.nodes[2].clients.split(":")
    links = []

    def frame(text):
        data, mask = text.encode(), secrets.token_bytes(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack(">BH", 0x80 | 126, len(data))
        return b"\x81" + size + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))

    def slow(number):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect((host, int(port)))
        link = context.wrap_socket(raw, server_hostname=host)
        link.sendall(f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        link.recv(4096)
        link.sendall(frame("40" + json.dumps({"token": cluster.token(f"slow{number}")})))
        time.sleep(0.3)
        link.sendall(frame('420["join:conversation",{"conversationId":"flood"}]'))
        links.append(link)

    writer = Client(f"https://{cluster.nodes[2].clients}", cluster.token("flooder"), ["websocket"], folder / "tls.crt", "flood")
    ending = time.monotonic() + 90
    over = threading.Event()

    def flood():
        number = 0
        while not over.is_set() and time.monotonic() < ending:
            for _ in range(8):
                number += 1
                try:
                    slow(number)
                except OSError as error:
                    print(f"a slow reader met {error!r}")
            for _ in range(400):
                if over.is_set():
                    return
                writer.io.emit("message:send", {"conversationId": "flood", "content": "x" * 15000, "clientMessageId": secrets.token_hex(8)})
                time.sleep(0.005)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for link in links:
            link.close()
        writer.close()


def test_readers_are_too_slow(monitoring, drill_cluster, people, folder):
    drill(monitoring, "VestibuleSlowConsumers", slow_readers(drill_cluster, folder))


@contextmanager
def certificate_of(folder, days):
    pair(folder, days)
    try:
        yield
    finally:
        pair(folder, 60)


def test_the_certificate_is_about_to_end(monitoring, folder):
    drill(monitoring, "VestibuleCertificateExpiring", certificate_of(folder, WEEK - 2))


@contextmanager
def broken_certificate(folder):
    (folder / "tls.crt").write_text("this is no certificate\n")
    try:
        yield
    finally:
        pair(folder, 60)


def test_a_changed_certificate_is_refused(monitoring, folder):
    drill(monitoring, "VestibuleReloadFailed", broken_certificate(folder))


@contextmanager
def repeatedly(act, every=0.2):
    over = threading.Event()

    def go():
        while not over.wait(every):
            try:
                act()
            except Exception as error:
                print(f"met {error!r}")

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_somebody_tries_the_internal_door(monitoring, drill_cluster):
    address = json.loads(requests.get(f"http://{drill_cluster.nodes[0].operations}/cluster", timeout=5).text)["nodes"][0]["address"]
    drill(monitoring, "VestibulePeersNotBelieved", repeatedly(lambda: requests.post(f"http://{address}/anything", data=b"x", timeout=5), 0.1))


def test_tokens_are_refused(monitoring, drill_cluster, folder):
    node = drill_cluster.nodes[0]

    def refused():
        session = requests.Session()
        session.trust_env, session.verify = False, str(folder / "tls.crt")
        session.get(f"https://{node.clients}/api/profile", headers={"authorization": "Bearer " + "a.b.c"}, timeout=5)

    drill(monitoring, "VestibuleTokensRefused", repeatedly(refused, 0.1))


@contextmanager
def setting(address, key, value):
    """A shard with another setting for a while."""
    host, port = address.split(":")
    ask = lambda *words: run("redis-cli", "-h", host, "-p", port, *words).strip()
    before = ask("CONFIG", "GET", key).splitlines()[1]
    assert ask("CONFIG", "SET", key, value) == "OK"
    try:
        yield
    finally:
        assert ask("CONFIG", "SET", key, before) == "OK"


def test_a_shard_is_nearly_full(monitoring, drill_cluster):
    host, port = drill_cluster.shards[0].split(":")
    used = int(run("redis-cli", "-h", host, "-p", port, "INFO", "memory").split("used_memory:")[1].split()[0])
    drill(monitoring, "VestibuleRedisMemoryNearLimit", setting(drill_cluster.shards[0], "maxmemory", str(int(used * 1.1))))
