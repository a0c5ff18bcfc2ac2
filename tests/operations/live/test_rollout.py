"""A rollout under load: every node is restarted by SIGTERM, behind HAProxy, and nobody loses or repeats a message."""

import os
import signal
import threading
import time

from cluster import Client, Cluster, free_port, until
from test_balancers import haproxy

READERS, WRITERS = 12, 4


def test_nobody_notices_a_rollout(tmp_path):
    settings = {"drain__unready": "5s", "drain__parting": "4s", "drain__flushing": "5s", "limits__enabled": "false"}
    port = free_port()
    with Cluster(tmp_path, **settings) as cluster, \
            haproxy(cluster, tmp_path, ["haproxy.cfg"], f"127.0.0.1:{port}", {"VESTIBULE_BIND": f"127.0.0.1:{port}"}):
        url = f"http://127.0.0.1:{port}"
        kinds = (None, ["websocket"], ["polling"])
        readers = [Client(url, cluster.token(f"reader{n}"), kinds[n % 3], room="rollout") for n in range(READERS)]
        writers = [Client(url, cluster.token(f"writer{n}"), kinds[n % 3], room="rollout") for n in range(WRITERS)]
        acknowledged, failures, over = [], [], threading.Event()

        def write(number):
            turn = 0
            while not over.is_set():
                content = f"{number}:{turn}"
                try:
                    acknowledged.append((writers[number].surely(content, 180)["id"], content))
                except AssertionError as error:
                    failures.append(str(error))
                    return
                turn += 1
                time.sleep(0.05)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(WRITERS)]
        for thread in threads:
            thread.start()
        took = []
        for name in [node.name for node in cluster.nodes]:
            node = next(node for node in cluster.nodes if node.name == name)
            began = time.monotonic()
            os.kill(node.pid, signal.SIGTERM)
            until(lambda: node.ready() == 404, 30, what=lambda: f"{name} never said that it drains")
            # The example starts it again as soon as it has ended.
            again = until(lambda: next((one for one in cluster.nodes if one.name == name and one.pid != node.pid), None), 90)
            took.append(time.monotonic() - began)
            until(lambda: again.ready() == 200, 120)
        time.sleep(3)
        over.set()
        for thread in threads:
            thread.join()
        assert not failures, failures
        everything = {content for _, content in acknowledged}
        everybody = readers + writers
        missing = lambda: [sorted(everything - {m["content"] for m in one.messages})[:5] for one in everybody]
        until(lambda: not any(missing()), 180, what=lambda: f"missing: {missing()}")
        for one in everybody:
            contents = [message["content"] for message in one.messages]
            assert len(contents) == len(set(contents)), "a message came twice under two places"
            assert not one.doubled, f"came twice: {one.doubled[:3]}"
            assert not one.reloads, f"was told to reload: {one.reloads}"
        orders = {tuple(m["id"] for m in one.messages) for one in everybody}
        assert len(orders) == 1, "one order for all"
        moved = sum(one.closed for one in everybody)
        print(f"\nrollout: {len(everything)} messages acknowledged, 0 lost, 0 twice, one order for {len(everybody)} clients, "
              f"who reconnected {moved} times; nodes took {', '.join(f'{t:.1f}' for t in took)} s to leave")
        assert moved >= READERS, "nobody was moved: that was no rollout"
        assert all(seconds < 60 for seconds in took), "the phases have deadlines, 19 s together"
        for client in everybody:
            client.close()
