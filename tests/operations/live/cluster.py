"""A running `examples/cluster`: three nodes, two Redis shards, Kafka, PostgreSQL."""

import os
import re
import secrets
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import requests
import socketio

from tools import program, run

STARTS_WITHIN = 300
# Whatever becomes of the checks, what they started does not outlive them.
ENDS_WITH_US = ["setpriv", "--pdeathsig", "TERM", "--"]


@dataclass
class Node:
    name: str
    clients: str  # HOST:PORT
    operations: str
    pid: int

    def metrics(self) -> str:
        return requests.get(f"http://{self.operations}/metrics", timeout=20).text

    def metric(self, name: str) -> float:
        """The sum over all series of a metric."""
        lines = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.metrics(), re.M)
        return sum(map(float, lines))

    def ready(self) -> int:
        try:
            return requests.get(f"http://{self.operations}/readyz", timeout=10).status_code
        except requests.RequestException:
            return 0


class Cluster:
    """Ends with its `with` block."""

    def __init__(self, folder: Path, **settings):
        self.log = folder / "cluster.log"
        example = os.environ.get("VESTIBULE_CLUSTER") or program().parent / "examples/cluster"
        assert Path(example).exists(), f"{example} is not there: cargo build --example cluster"
        command = [str(example), "--program", str(program())]
        for key, value in settings.items():
            command += ["--set", f"{key.replace('__', '.')}={value}"]
        with self.log.open("w") as output:
            self.process = subprocess.Popen([*ENDS_WITH_US, *command], stdout=output, stderr=output)
        until(lambda: "Ctrl-C ends" in self.text(), STARTS_WITHIN, alive=self.process, what=self.text)
        text = self.text()
        self.shards = re.findall(r"^redis shard \d+: redis://(\S+)$", text, re.M)
        self.kafka = re.search(r"^kafka: (\S+)$", text, re.M)[1]
        self.postgres = re.search(r"^postgres: (\S+)$", text, re.M)[1]
        self.data = re.search(r"--data (\S+)$", text, re.M)[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def text(self) -> str:
        return self.log.read_text()

    @property
    def nodes(self) -> list[Node]:
        """As they are now: a node that ended starts again under another id."""
        found = {}
        for name, clients, pid, operations in re.findall(
            r"^node (\w+): http://(\S+)  pid (\d+)  http://(\S+)/cluster$", self.text(), re.M
        ):
            found[name] = Node(name, clients, operations, int(pid))
        return list(found.values())

    def token(self, user: str, scope: str = "") -> str:
        options = ["--scope", scope] if scope else []
        return run(program(), "token", "--user", user, "--data", self.data, *options).strip().splitlines()[-1]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(condition, seconds: float, alive=None, what=lambda: ""):
    """Waits until something holds, and gives what it gave."""
    end = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        assert alive is None or alive.poll() is None, f"it ended with {alive.poll()}:\n{what()}"
        assert time.monotonic() < end, f"not within {seconds} s:\n{what()}"
        time.sleep(0.1)


def is_open(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((host, int(port))) == 0


def owner(address: str) -> int:
    """The id of the process that listens there."""
    port = f"{int(address.rsplit(':', 1)[1]):04X}"
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(f":{port}") and fields[3] == "0A":
                sockets.add(f"socket:[{fields[9]}]")
    for file in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(file) in sockets:
                return int(file.parts[2])
        except OSError:
            continue
    raise AssertionError(f"nobody listens at {address}")


class Served:
    """A program that serves until the `with` block ends."""

    def __init__(self, command, log: Path, opens: str, env=None):
        self.log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [*ENDS_WITH_US, *(str(part) for part in command)], stdout=output, stderr=output, env={**os.environ, **(env or {})}
            )
        until(lambda: is_open(opens), 30, alive=self.process, what=log.read_text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Client:
    """The official client for Python. Keeps every message it was sent."""

    def __init__(self, url: str, token: str, transports=None, ca=None, room="lobby"):
        session = requests.Session()
        session.trust_env = False
        session.verify = str(ca) if ca else True
        options = {"sslopt": {"ca_certs": str(ca)}} if ca else {}
        self.io = socketio.Client(http_session=session, websocket_extra_options=options, reconnection_delay=0.2,
                                  reconnection_delay_max=2, request_timeout=15)
        self.places, self.live, self.doubled, self.reloads = {}, [], [], []
        self.joined = None
        self.room = room
        self.closed = 0
        self.io.on("message:new", self.hear)
        self.io.on("connect", self.join)
        self.io.on("disconnect", self.leave)
        self.open = lambda: self.io.connect(url, auth={"token": token}, transports=transports, wait_timeout=20)
        self.over = False
        self.open()
        until(lambda: self.joined, 20)

    @property
    def messages(self):
        """In the order of the room. This library handles each event in a thread of its own, so the order in which they
        came is not to be had from it."""
        return [self.places[place] for place in sorted(self.places)]

    def hear(self, message, *_):
        """What is live comes once."""
        place = (message["epoch"], message["seq"])
        (self.doubled if place in self.live else self.live).append(place)
        self.places[place] = message

    def take(self, message):
        """A page of what was missed may overlap with what came meanwhile."""
        self.places.setdefault((message["epoch"], message["seq"]), message)

    def leave(self, *_):
        self.closed += 1
        self.io.start_background_task(self.again)

    def again(self):
        """A polling client of this library takes the server's close for good (JavaScript's does not): the application has to
        connect again."""
        time.sleep(1)
        while not self.over and not self.io.connected:
            if self.io.eio.state == "disconnected" and self.io._reconnect_task is None:
                try:
                    self.open()
                except Exception:  # not yet
                    pass
            time.sleep(0.5)

    def join(self):
        # Before anything live comes: what is asked for begins after the last that was seen.
        self.io.start_background_task(self.ask, max(self.places, default=None))

    def ask(self, after):
        """Joins, again after each reconnection, and takes what was missed, page by page."""
        for _ in range(200):
            known = {"after": {"epoch": after[0], "seq": after[1]}} if after else {}
            try:
                answer = self.io.call("join:conversation", {"conversationId": self.room, **known}, timeout=15)
            except Exception:  # the connection went again: the next `connect` asks
                if not self.io.connected:
                    return
                continue
            if not answer["ok"]:
                time.sleep(answer["error"].get("retryAfterMs", 200) / 1000)
                continue
            for event in answer["missed"]:
                self.take(event["data"])
            if more := answer.get("next"):
                after = (more["epoch"], more["seq"])
                continue
            if not answer["complete"]:
                self.reloads.append(answer.get("reason"))
            self.joined = answer
            return

    def send(self, content: str, mark=None) -> dict:
        body = {"conversationId": self.room, "content": content, "clientMessageId": mark or secrets.token_hex(8)}
        return self.io.call("message:send", body, timeout=15)

    def surely(self, content: str, seconds=60) -> dict:
        """Sends until it is acknowledged, always under the same mark, as an application does."""
        mark, end, met = secrets.token_hex(8), time.monotonic() + seconds, []
        while True:
            try:
                answer = self.send(content, mark)
                if answer["ok"]:
                    return answer
                met.append(answer["error"])
                wait = answer["error"].get("retryAfterMs", 200) / 1000
            except Exception as error:  # no connection, or it went before the answer
                met.append(repr(error))
                wait = 0.2
            state = f"connected {self.io.connected}, engine {self.io.eio.state}, reconnecting {self.io._reconnect_task is not None}"
            assert time.monotonic() < end, f"{content} was not acknowledged within {seconds} s ({state}): {met[:3]} … {met[-3:]}"
            time.sleep(wait)

    def saw(self, content: str) -> bool:
        return any(message["content"] == content for message in self.messages)

    def close(self):
        self.over = True
        self.io.disconnect()
        self.io.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
