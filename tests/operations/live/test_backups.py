"""The commands of docs/OPERATIONS.md under *Backup and restore*, against a cluster with data; and what the image and the chart start."""

import os
import re
import signal
import subprocess
from pathlib import Path

import requests

from cluster import Client, Served, free_port, until
from tools import CHART, ROOT, program, run

JARS = ROOT / "tests/servers/kafka/jars"


def documented(word):
    """The one command of the page that has this word in it."""
    text = re.search(r"## Backup and restore(.*?)\n## ", (ROOT / "docs/OPERATIONS.md").read_text(), re.S)[1]
    found = [line.split("  #")[0].strip() for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines() if word in line]
    assert len(found) == 1, found
    return found[0]


def shell(command, folder, **variables):
    return run("bash", "-euc", command, cwd=folder, env={**os.environ, **variables})


def talk(cluster, count):
    with Client(f"http://{cluster.nodes[0].clients}", cluster.token("keeper"), ["websocket"], room="kept") as client:
        for number in range(count):
            assert client.send(f"keep {number}")["ok"]
        until(lambda: len(client.messages) >= count, 20)
        return {message["id"] for message in client.messages}


def rows(url):
    tables = run("psql", url, "-Atc", "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')").split()
    return {table: int(run("psql", url, "-Atc", f"select count(*) from {table}")) for table in tables}


def test_postgresql_is_dumped_and_restored(cluster, tmp_path):
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    path = f"{programs}:{os.environ['PATH']}"
    talk(cluster, 40)
    archived = lambda: sum(node.metric("vestibule_archive_rows_total") for node in cluster.nodes)
    until(lambda: archived() >= 40, 30)
    server, name = cluster.postgres.rsplit("/", 1)
    shell(documented("pg_dump"), tmp_path, URL=cluster.postgres, PATH=path)
    run("psql", cluster.postgres, "-c", f"create database restored")
    try:
        shell(documented("pg_restore"), tmp_path, NEW_URL=f"{server}/restored", PATH=path)
        restored, now = rows(f"{server}/restored"), rows(cluster.postgres)
        assert restored.keys() == now.keys() and sum(restored.values()) >= 40
        assert all(restored[table] <= now[table] for table in now)
    finally:
        run("psql", cluster.postgres, "-c", "drop database restored")


def test_a_shard_is_copied_and_a_server_begins_with_the_copy(cluster, tmp_path):
    talk(cluster, 10)
    port = free_port()
    for shard in cluster.shards:
        shell(documented("--rdb shard.rdb"), tmp_path, SHARD=f"redis://{shard}")
        command = ["bash", "-c", f"cd {tmp_path} && exec {documented('--dbfilename shard.rdb')} --port {port} --bind 127.0.0.1"]
        with Served(command, tmp_path / "redis.log", f"127.0.0.1:{port}"):
            size = lambda at: int(run("redis-cli", "-h", at.split(":")[0], "-p", at.split(":")[1], "DBSIZE").split()[-1])
            assert size(f"127.0.0.1:{port}") > 0
            assert abs(size(f"127.0.0.1:{port}") - size(shard)) <= 5, "leases and limits come and go"


def test_what_the_groups_have_settled_is_exported(cluster, tmp_path):
    (tools := tmp_path / "bin").mkdir()
    script = tools / "kafka-consumer-groups.sh"
    script.write_text(f'#!/bin/sh\nexec java -cp "{JARS}/*" org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"\n')
    script.chmod(0o755)
    talk(cluster, 10)
    told = shell(documented("--export"), tmp_path, KAFKA=cluster.kafka, PATH=f"{tools}:{os.environ['PATH']}")
    assert '"pump","messages",' in told and '"archive","timeline",' in told, told


def test_the_script_of_helm_test_sends_and_receives(cluster):
    options = [] if int(run("node", "--version").lstrip("v").split(".")[0]) >= 22 else ["--experimental-websocket"]
    env = {**os.environ, "VESTIBULE_URL": f"http://{cluster.nodes[1].clients}"}
    told = run("node", *options, CHART / "files/message.mjs", env={**env, "VESTIBULE_TOKEN": cluster.token("helm-test")})
    assert told.startswith("ok: sent by polling, received by WebSocket"), told
    # With the secret it makes a token of its own; with a wrong one it fails.
    secret = (Path(cluster.data) / "development-secret").read_text().strip()
    told = subprocess.run(["node", *options, CHART / "files/message.mjs"], env={**env, "VESTIBULE_AUTH_SECRET": "wrong " + secret}, capture_output=True, text=True)
    assert told.returncode == 1 and "refused" in told.stderr


def test_what_the_image_starts_serves_knows_its_health_and_ends_when_asked(tmp_path):
    text = (ROOT / "Dockerfile").read_text()
    image = dict(re.findall(r"(VESTIBULE__\w+)=(\S+)", text))
    ports = {"LISTEN": free_port(), "OPERATIONS": free_port(), "INTERNAL": free_port()}
    for name, port in ports.items():
        image[f"VESTIBULE__EDGE__{name}"] = re.sub(r":\d+$", f":{port}", image[f"VESTIBULE__EDGE__{name}"])
    image |= {"VESTIBULE__DATA": str(tmp_path), "VESTIBULE__AUTH__SECRET": "s" * 40}
    command = [program(), *re.findall(r'"(\w+)"', re.search(r"^CMD (.*)$", text, re.M)[1])]
    env = {**os.environ, **image}
    with Served(command, tmp_path / "node.log", f"127.0.0.1:{ports['OPERATIONS']}", image) as node:
        health = re.findall(r'"(\w+)"', re.search(r"HEALTHCHECK .*CMD (.*)$", text, re.M)[1])[1:]
        until(lambda: subprocess.run([program(), *health], env=env, capture_output=True).returncode == 0, 20)
        assert requests.get(f"http://127.0.0.1:{ports['LISTEN']}/", timeout=5).status_code == 200
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(30) == 0
    assert subprocess.run([program(), *health], env=env, capture_output=True).returncode != 0
