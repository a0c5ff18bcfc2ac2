// Joining and leaving a conversation.

import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { unique, withoutRoomTokens } from "../lib/node.js";
import { assertRefused, closePeers, onEachTransport, pair, Peer } from "../lib/peer.js";

afterEach(closePeers);

/** What is no conversation, for every event that names one. */
export const BAD_CONVERSATIONS = {
  "nothing": [],
  "null": [null],
  "a number": [7],
  "a text": ["lobby"],
  "a list": [["lobby"]],
  "true": [true],
  "an empty object": [{}],
  "a number as id": [{ conversationId: 7 }],
  "null as id": [{ conversationId: null }],
  "an object as id": [{ conversationId: { id: "lobby" } }],
  "an empty id": [{ conversationId: "" }],
  "a control character": [{ conversationId: "a\u0000b" }],
  "an id too long": [{ conversationId: "x".repeat(1000) }],
};

onEachTransport(describe, (options) => {
  test("joining tells the room, its top, and that nothing was missed", async () => {
    const ada = await Peer.connect(unique("ada"), options);
    const room = unique("talk");
    const { epoch, ...rest } = await ada.join(room);
    assert.ok(Number.isInteger(epoch) && epoch >= 1, `epoch ${epoch}`);
    const expected = { ok: true, room: `conversation:${room}`, seq: 0, missed: [], complete: true };
    assert.deepEqual(rest, expected);
    await ada.send(room, "one");
    await ada.send(room, "two");
    await ada.arrived(room, 2);
    assert.equal((await ada.join(room)).seq, 2);
  });

  test("bad input is told apart, and the socket goes on", async () => {
    const ada = await Peer.connect(unique("ada"), options);
    for (const event of ["join:conversation", "leave:conversation"]) {
      for (const [what, args] of Object.entries(BAD_CONVERSATIONS)) {
        assertRefused(await ada.ask(event, ...args), ["invalid", "too_large"], `${event} ${what}`);
      }
    }
    const conversationId = unique("talk");
    for (const after of ["1-2", 7, [], {}, { epoch: 1 }, { epoch: 1, seq: "2" },
      { epoch: 1, seq: -1 }, { epoch: 1, seq: 1.5 }, { epoch: "1", seq: 1 }]) {
      const ack = await ada.ask("join:conversation", { conversationId, after });
      assertRefused(ack, "invalid", JSON.stringify(after));
    }
    await ada.join(conversationId);
  });

  test("a token without the room is refused", { skip: withoutRoomTokens }, async () => {
    const own = unique("own");
    const other = unique("other");
    const ada = await Peer.connect(unique("ada"), { ...options, rooms: `conversation:${own}` });
    await ada.join(own);
    assertRefused(await ada.ask("join:conversation", { conversationId: other }), "forbidden");
    const message = { conversationId: other, content: "let me in" };
    assertRefused(await ada.ask("message:send", message), "forbidden");
    assertRefused(await ada.ask("typing:start", { conversationId: other }), "forbidden");
  });

  test("who has left, or never joined, hears nothing", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const cy = await Peer.connect(unique("cy"), options);
    await ada.send(conversationId, "one");
    await bo.arrived(conversationId, 1);
    const left = await bo.askOk("leave:conversation", { conversationId });
    assert.equal(left.ok, true);
    await ada.send(conversationId, "two");
    await ada.arrived(conversationId, 2);
    await bo.join(conversationId);
    await ada.send(conversationId, "three");
    await bo.arrived(conversationId, 2);
    const heard = bo.messages(conversationId).map((message) => message.content);
    assert.deepEqual(heard, ["one", "three"]);
    assert.deepEqual(cy.received, []);
  });

  test("joining twice brings everything once, leaving twice is harmless", async () => {
    const { ada, bo, conversationId } = await pair(options);
    await Promise.all([bo.join(conversationId), bo.join(conversationId)]);
    for (const text of ["one", "two", "three"]) await ada.send(conversationId, text);
    const heard = (await bo.arrived(conversationId, 3)).map((message) => message.content);
    assert.deepEqual(heard, ["one", "two", "three"]);
    await bo.askOk("leave:conversation", { conversationId });
    await bo.askOk("leave:conversation", { conversationId });
  });

  test("conversations do not hear each other, whatever their names", async () => {
    const ada = await Peer.connect(unique("ada"), options);
    const base = unique("talk");
    const rooms = [base, `${base} `, `${base}/1`, `${base}:*`, `${base}é`, `__proto__${base}`];
    const joined = [];
    for (const room of rooms) {
      const ack = await ada.ask("join:conversation", { conversationId: room });
      if (ack.ok) joined.push(room);
      else assertRefused(ack, "invalid", room);
    }
    assert.ok(joined.length >= 1 && joined[0] === base);
    for (const room of joined) await ada.send(room, `to ${room}`);
    for (const room of joined) await ada.arrived(room, 1);
    for (const room of joined) {
      const heard = ada.messages(room).map((message) => message.content);
      assert.deepEqual(heard, [`to ${room}`]);
    }
  });

  test("a join without an ack works too", async () => {
    const ada = await Peer.connect(unique("ada"), options);
    const room = unique("talk");
    ada.socket.emit("join:conversation", { conversationId: room });
    ada.socket.emit("join:conversation", "nonsense");
    await ada.send(room, "hello");
    await ada.arrived(room, 1);
  });
});
