// Sending: the ack, the order, retries, and what is refused.

import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { rest, unique } from "../lib/node.js";
import {
  assertInOrder, assertRefused, closePeers, onEachTransport, pair, pause, Peer,
} from "../lib/peer.js";

const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const BURST = 1000;

afterEach(closePeers);

onEachTransport(describe, (options) => {
  test("a message is acknowledged, and arrives in its place at everybody", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const ack = await ada.send(conversationId, "hello");
    assert.deepEqual(Object.keys(ack).sort(), ["at", "id", "ok", "room"]);
    assert.equal(ack.room, `conversation:${conversationId}`);
    assert.match(ack.at, TIMESTAMP);
    const [message] = await bo.arrived(conversationId, 1);
    const { timestamp, epoch, ...known } = message;
    assert.match(timestamp, TIMESTAMP);
    assert.ok(Number.isInteger(epoch) && epoch >= 1);
    assert.deepEqual(known, {
      id: ack.id, conversationId, userId: ada.user, content: "hello", seq: 1,
    });
    assert.deepEqual(await ada.arrived(conversationId, 1), [message]);
  });

  test("two users see everything in one order, each user's in the order sent", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const write = async (peer) => {
      for (let i = 0; i < 40; i += 1) await peer.send(conversationId, `${peer.user} ${i}`);
    };
    await Promise.all([write(ada), write(bo)]);
    const [atAda, atBo] = await Promise.all([
      ada.arrived(conversationId, 80),
      bo.arrived(conversationId, 80),
    ]);
    assert.deepEqual(atAda, atBo);
    assertInOrder(atAda);
    for (const { user } of [ada, bo]) {
      const own = atAda.filter((message) => message.userId === user);
      const expected = Array.from({ length: 40 }, (_, i) => `${user} ${i}`);
      assert.deepEqual(own.map((message) => message.content), expected);
    }
  });

  test(`${BURST} messages in one go arrive in the order sent, none lost or doubled`, async () => {
    const { ada, bo, conversationId } = await pair(options);
    const texts = Array.from({ length: BURST }, (_, i) => `message ${i}`);
    const acks = await Promise.all(texts.map((text) => ada.send(conversationId, text)));
    assert.equal(new Set(acks.map((ack) => ack.id)).size, BURST);
    for (const peer of [ada, bo]) {
      const messages = await peer.arrived(conversationId, BURST, 30_000);
      assert.deepEqual(messages.map((message) => message.content), texts);
      assert.deepEqual(messages.map((message) => message.id), acks.map((ack) => ack.id));
      assertInOrder(messages);
    }
  });

  test("a retry under the same clientMessageId is the same message", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const [first, second] = await Promise.all([
      ada.send(conversationId, "once", "m1"),
      ada.send(conversationId, "once", "m1"),
    ]);
    const again = await Peer.connect(ada.user, options);
    const third = await again.send(conversationId, "once", "m1");
    const byRest = await rest("/api/messages", {
      method: "POST",
      user: ada.user,
      json: { conversationId, content: "once", clientMessageId: "m1" },
    });
    const ids = [first.id, second.id, third.id, byRest.body.id];
    assert.deepEqual(ids, Array(4).fill(first.id));
    await ada.send(conversationId, "end");
    const heard = (await bo.arrived(conversationId, 2)).map((message) => message.content);
    await pause(100);
    assert.deepEqual(heard, ["once", "end"]);
    assert.equal(bo.messages(conversationId).length, 2);
  });

  test("the same clientMessageId elsewhere, or with other words, is another message", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const other = unique("talk");
    await ada.join(other);
    const acks = [
      await ada.send(conversationId, "one", "m1"),
      await bo.send(conversationId, "one", "m1"),
      await ada.send(other, "one", "m1"),
      await ada.send(conversationId, "other words", "m1"),
    ];
    assert.equal(new Set(acks.map((ack) => ack.id)).size, 4);
    await bo.arrived(conversationId, 3);
    await ada.arrived(other, 1);
  });

  test("any text comes back as it was", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const texts = [
      "plain", " spaces around ", "line\nbreak\ttab", "\u2028\u2029", "\"quotes\" \\ back/slash",
      "zażółć gęślą jaźń", "שלום עולם", "👩‍👩‍👧‍👦 👍🏽", "\u{10ffff}", "<script>alert(1)</script>",
      "{\"_placeholder\":true,\"num\":0}", "42[\"message:new\"]", "x".repeat(8000),
    ];
    for (const text of texts) await ada.send(conversationId, text);
    const heard = await bo.arrived(conversationId, texts.length);
    assert.deepEqual(heard.map((message) => message.content), texts);
  });

  test("bad input is told apart, and the socket goes on", async () => {
    const { ada, conversationId } = await pair(options);
    const table = {
      "nothing": [],
      "null": [null],
      "a text": ["hello"],
      "no content": [{ conversationId }],
      "null as content": [{ conversationId, content: null }],
      "a number as content": [{ conversationId, content: 7 }],
      "an object as content": [{ conversationId, content: { text: "hello" } }],
      "empty content": [{ conversationId, content: "" }],
      "no conversation": [{ content: "hello" }],
      "a number as conversation": [{ conversationId: 7, content: "hello" }],
      "an empty conversation": [{ conversationId: "", content: "hello" }],
      "a number as client id": [{ conversationId, content: "hello", clientMessageId: 7 }],
    };
    for (const [what, args] of Object.entries(table)) {
      assertRefused(await ada.ask("message:send", ...args), "invalid", what);
    }
    await ada.send(conversationId, "still here");
    const heard = await ada.arrived(conversationId, 1);
    assert.deepEqual(heard.map((message) => message.content), ["still here"]);
  });

  test("a message without an ack arrives too", async () => {
    const { ada, bo, conversationId } = await pair(options);
    ada.socket.emit("message:send", { conversationId, content: "no ack wanted" });
    const [message] = await bo.arrived(conversationId, 1);
    assert.equal(message.content, "no ack wanted");
  });

  test("what is posted over REST arrives like any other", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const json = { conversationId, content: "by post", senderId: ada.user };
    const answer = await rest("/api/messages", { method: "POST", user: ada.user, json });
    assert.ok(answer.status === 200 || answer.status === 201, `status ${answer.status}`);
    const [message] = await bo.arrived(conversationId, 1);
    assert.equal(message.id, answer.body.id);
    assert.equal(message.userId, ada.user);
    assert.equal(message.content, "by post");
  });
});
