"""python-socketio, a client that is not JavaScript and has no state recovery, against a node."""

import queue
import time

import pytest
import socketio
from node import URL, rest, token, unique

PATIENCE = 15

TRANSPORTS = {
    "websocket": ["websocket"],
    "polling": ["polling"],
    "upgrade": ["polling", "websocket"],
}


class Peer:
    """A user on one connection; what arrives is kept in order."""

    def __init__(self, user, transports):
        self.user = user
        self.transports = transports
        self.events = queue.Queue()
        self.socket = None

    def connect(self, auth=None):
        self.socket = socketio.Client(reconnection=False)
        self.socket.on("*", lambda event, *args: self.events.put((event, *args)))
        auth = {"token": token(self.user)} if auth is None else auth
        self.socket.connect(URL, auth=auth, transports=self.transports, wait_timeout=PATIENCE)
        return self

    def ask(self, event, data):
        return self.socket.call(event, data, timeout=PATIENCE)

    def ok(self, event, data):
        ack = self.ask(event, data)
        assert ack["ok"] is True, ack
        return ack

    def join(self, conversation, after=None):
        data = {"conversationId": conversation}
        if after:
            data["after"] = after
        return self.ok("join:conversation", data)

    def send(self, conversation, content, **others):
        data = {"conversationId": conversation, "content": content, **others}
        return self.ok("message:send", data)

    def next(self, name):
        """The next event of this name; others before it are dropped."""
        end = time.monotonic() + PATIENCE
        while True:
            event, *args = self.events.get(timeout=max(0.01, end - time.monotonic()))
            if event == name:
                return args[0]

    def close(self):
        if self.socket:
            self.socket.disconnect()


@pytest.fixture(params=TRANSPORTS, ids=str)
def transports(request):
    return TRANSPORTS[request.param]


@pytest.fixture
def peer(transports):
    peers = []

    def make(name):
        peers.append(Peer(unique(name), transports))
        return peers[-1]

    yield make
    for one in peers:
        one.close()


def test_messages_arrive_in_the_order_sent_and_acknowledged(peer):
    ada, bo, talk = peer("ada").connect(), peer("bo").connect(), unique("talk")
    assert ada.join(talk)["seq"] == 0
    bo.join(talk)
    acks = [ada.send(talk, f"message {n}") for n in range(20)]
    for one in (ada, bo):
        messages = [one.next("message:new") for _ in acks]
        assert [m["content"] for m in messages] == [f"message {n}" for n in range(20)]
        assert [m["id"] for m in messages] == [ack["id"] for ack in acks]
        assert [m["seq"] for m in messages] == list(range(1, 21))
        assert {m["userId"] for m in messages} == {ada.user}
    assert {ack["room"] for ack in acks} == {f"conversation:{talk}"}


def test_many_on_their_way_at_once_keep_their_order(peer):
    ada, bo, talk = peer("ada").connect(), peer("bo").connect(), unique("talk")
    ada.join(talk)
    bo.join(talk)
    acks = queue.Queue()
    for n in range(200):
        data = {"conversationId": talk, "content": str(n)}
        ada.socket.emit("message:send", data, callback=acks.put)
    assert [bo.next("message:new")["content"] for _ in range(200)] == [str(n) for n in range(200)]
    assert all(acks.get(timeout=PATIENCE)["ok"] for _ in range(200))


def test_who_comes_back_gets_what_it_missed_and_nothing_twice(peer):
    ada, bo, talk = peer("ada").connect(), peer("bo").connect(), unique("talk")
    ada.join(talk)
    bo.join(talk)
    ada.send(talk, "seen")
    seen = bo.next("message:new")
    bo.close()
    for n in range(5):
        ada.send(talk, f"missed {n}")
    again = Peer(bo.user, bo.transports).connect()
    try:
        joined = again.join(talk, after={"epoch": seen["epoch"], "seq": seen["seq"]})
        assert joined["complete"] is True
        missed = [(one["event"], one["data"]["content"]) for one in joined["missed"]]
        assert missed == [("message:new", f"missed {n}") for n in range(5)]
        ada.send(talk, "live")
        message = again.next("message:new")
        assert (message["content"], message["seq"]) == ("live", joined["seq"] + 1)
    finally:
        again.close()


def test_a_retry_is_the_same_message(peer):
    ada, bo, talk = peer("ada").connect(), peer("bo").connect(), unique("talk")
    bo.join(talk)
    ada.join(talk)
    first = ada.send(talk, "once", clientMessageId="m1")
    assert ada.send(talk, "once", clientMessageId="m1")["id"] == first["id"]
    ada.send(talk, "end")
    assert [bo.next("message:new")["content"] for _ in range(2)] == ["once", "end"]


def test_any_text_comes_back_as_it_was(peer):
    ada, talk = peer("ada").connect(), unique("talk")
    ada.join(talk)
    for text in ['"quotes" \\ /', "zażółć", "שלום", "👩‍👩‍👧‍👦", "\u2028", '42["x"]', "x" * 8000]:
        ada.send(talk, text)
        assert ada.next("message:new")["content"] == text


def test_refusals_say_what_was_wrong(peer):
    ada, talk = peer("ada").connect(), unique("talk")
    ada.join(talk)
    for data in (None, "text", {"conversationId": talk}, {"conversationId": talk, "content": 7}):
        ack = ada.ask("message:send", data)
        assert ack["ok"] is False and ack["error"]["code"] == "invalid", (data, ack)
        assert ack["error"]["message"]
    assert ada.ask("nothing:known", {})["error"]["code"] == "not_found"
    ada.send(talk, "still here")


@pytest.mark.parametrize("auth", [{}, {"token": "x"}, {"token": 7}], ids=["none", "bad", "number"])
def test_nobody_enters_without_a_token(peer, auth):
    with pytest.raises(socketio.exceptions.ConnectionError):
        peer("eve").connect(auth=auth)


def test_typing_is_seen_by_the_others(peer):
    ada, bo, talk = peer("ada").connect(), peer("bo").connect(), unique("talk")
    ada.join(talk)
    bo.join(talk)
    ada.socket.emit("typing:start", {"conversationId": talk})
    assert bo.next("typing:start") == {"conversationId": talk, "userId": ada.user}
    assert bo.next("typing:stop") == {"conversationId": talk, "userId": ada.user}


def test_what_was_sent_is_in_history(peer):
    ada, talk = peer("ada").connect(), unique("talk")
    ada.join(talk)
    ada.send(talk, "for later")
    shown = ada.next("message:new")
    status, _, page = rest(f"/api/conversations/{talk}/messages", bearer=token(ada.user))
    assert status == 200
    assert page["messages"] == [shown]
