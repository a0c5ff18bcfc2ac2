"""The configurations of deploy/ in front of three nodes, as they are but for addresses."""

import os
import signal
import socket
import time
from collections import Counter

import requests

from cluster import Client, Cluster, Served, free_port, until
from tools import ROOT, TOOLS

CLIENTS = 9


def haproxy(cluster, tmp_path, files, opens, env):
    for number, node in enumerate(cluster.nodes, 1):
        env[f"NODE_{number}"] = node.clients
        env[f"NODE_{number}_OPERATIONS"] = node.operations.rsplit(":", 1)[1]
    env.setdefault("VESTIBULE_METRICS_BIND", f"127.0.0.1:{free_port()}")
    env["VESTIBULE_MAXCONN"] = "2000"
    command = ["haproxy", "-db"]
    for file in files:
        command += ["-f", ROOT / "deploy/haproxy" / file]
    served = Served(command, tmp_path / "haproxy.log", opens, env)
    # Nobody is sent anywhere before the first checks.
    metrics = f"http://{env['VESTIBULE_METRICS_BIND']}/metrics"
    up = lambda: [line for line in requests.get(metrics, timeout=5).text.splitlines()
                  if line.startswith("haproxy_server_check_status") and 'state="L7OK"' in line and line.endswith(" 1")]
    until(lambda: len(up()) == 3, 20, what=served.log.read_text)
    return served


def nginx(cluster, tmp_path, plain, tls, certificate):
    text = (ROOT / "deploy/nginx/nginx.conf").read_text()
    for number, node in enumerate(cluster.nodes, 1):
        text = text.replace(f"node-{number}:8080", node.clients)
    text = text.replace("listen 8080", f"listen {plain}").replace("listen 8443", f"listen {tls}")
    text = text.replace("/etc/nginx/vestibule.crt", str(certificate[0])).replace("/etc/nginx/vestibule.key", str(certificate[1]))
    file = tmp_path / "nginx.conf"
    file.write_text(f"daemon off;\npid {tmp_path}/pid;\n" + text)
    for folder in ("client", "proxy", "fastcgi", "uwsgi", "scgi"):
        text = text.replace("http {", f"http {{\n  {folder + '_body' if folder == 'client' else folder}_temp_path {tmp_path}/{folder};", 1)
    file.write_text(f"daemon off;\npid {tmp_path}/pid;\n" + text)
    return Served([TOOLS / "nginx", "-e", "stderr", "-c", file], tmp_path / "nginx.log", f"127.0.0.1:{plain}")


def talk(cluster, url, ca=None):
    """Clients of every kind, over all nodes, in one room: each one's message reaches every one, once."""
    before = Counter({node.name: node.metric("vestibule_connections_opened_total") for node in cluster.nodes})
    kinds = (["websocket"], ["polling"], None)  # None: polling, then an upgrade
    room = f"talk-{free_port()}"
    clients = [Client(url, cluster.token(f"user{n}"), kinds[n % 3], ca, room) for n in range(CLIENTS)]
    try:
        until(lambda: all(c.io.transport() == "websocket" for n, c in enumerate(clients) if n % 3 != 1), 20)
        assert {c.io.transport() for n, c in enumerate(clients) if n % 3 == 1} == {"polling"}
        for number, client in enumerate(clients):
            assert client.send(f"from {number}")["ok"]
        wanted = {f"from {number}" for number in range(CLIENTS)}
        until(lambda: all({m["content"] for m in c.messages} == wanted for c in clients), 20)
        assert all(len(c.messages) == CLIENTS for c in clients)
        orders = {tuple(m["content"] for m in c.messages) for c in clients}
        assert len(orders) == 1, "one order for all"
    finally:
        for client in clients:
            client.close()
    after = {node.name: node.metric("vestibule_connections_opened_total") for node in cluster.nodes}
    assert all(after[name] > before[name] for name in after), f"a node got nobody: {before} {after}"


def test_haproxy_carries_every_transport(cluster, tmp_path):
    port = free_port()
    with haproxy(cluster, tmp_path, ["haproxy.cfg"], f"127.0.0.1:{port}", {"VESTIBULE_BIND": f"127.0.0.1:{port}"}):
        talk(cluster, f"http://127.0.0.1:{port}")


def test_haproxy_ends_tls(cluster, tmp_path, certificate):
    port, plain = free_port(), free_port()
    env = {"VESTIBULE_TLS_BIND": f"127.0.0.1:{port}", "VESTIBULE_BIND": f"127.0.0.1:{plain}", "VESTIBULE_PEM": str(certificate[2])}
    with haproxy(cluster, tmp_path, ["haproxy.cfg", "tls.cfg"], f"127.0.0.1:{port}", env):
        talk(cluster, f"https://127.0.0.1:{port}", certificate[0])


def test_nginx_carries_every_transport_with_and_without_tls(cluster, tmp_path, certificate):
    plain, tls = free_port(), free_port()
    with nginx(cluster, tmp_path, plain, tls, certificate):
        talk(cluster, f"http://127.0.0.1:{plain}")
        talk(cluster, f"https://127.0.0.1:{tls}", certificate[0])


def test_haproxy_passes_tls_on_with_the_proxy_protocol(tmp_path, certificate):
    cert, key, _ = certificate
    settings = {"edge__proxy_protocol": "true", "edge__tls__certificate": cert, "edge__tls__key": key, "limits__enabled": "false"}
    port = free_port()
    with Cluster(tmp_path, **settings) as cluster:
        with haproxy(cluster, tmp_path, ["passthrough.cfg"], f"127.0.0.1:{port}", {"VESTIBULE_BIND": f"127.0.0.1:{port}"}):
            talk(cluster, f"https://127.0.0.1:{port}", cert)
        # Who comes without the header is not a client of the balancer.
        host, direct = cluster.nodes[0].clients.split(":")
        with socket.create_connection((host, int(direct)), 5) as link:
            link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                assert link.recv(100) == b""
            except ConnectionResetError:
                pass
        assert cluster.nodes[0].metric("vestibule_edge_refused_total") >= 1


def test_a_node_that_drains_gets_no_new_clients_and_one_that_is_gone_none_at_all(tmp_path):
    port = free_port()
    settings = {"drain__unready": "4s", "drain__parting": "2s", "limits__enabled": "false"}
    with Cluster(tmp_path, **settings) as cluster:
        with haproxy(cluster, tmp_path, ["haproxy.cfg"], f"127.0.0.1:{port}", {"VESTIBULE_BIND": f"127.0.0.1:{port}"}):
            first = cluster.nodes[0]
            os.kill(first.pid, signal.SIGTERM)
            until(lambda: first.ready() == 404, 5)
            time.sleep(1)  # two checks, a quarter of a second apart
            opened = first.metric("vestibule_connections_opened_total")
            for _ in range(12):
                answer = requests.get(f"http://127.0.0.1:{port}/socket.io/?EIO=4&transport=polling", timeout=5)
                assert answer.status_code == 200
            assert first.metric("vestibule_connections_opened_total") == opened
