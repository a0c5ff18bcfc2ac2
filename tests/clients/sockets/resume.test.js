// Coming back: exactly what was missed, or a word that it can not be had.

import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { unique } from "../lib/node.js";
import { assertInOrder, closePeers, onEachTransport, pair, Peer } from "../lib/peer.js";

afterEach(closePeers);

const placeOf = ({ epoch, seq }) => ({ epoch, seq });

/** Joins and follows `next` to the end; returns all that was missed. */
async function catchUp(peer, conversationId, after) {
  const missed = [];
  let pages = 1;
  let ack = await peer.join(conversationId, after);
  assert.equal(ack.complete, true, ack.reason);
  for (;;) {
    for (const { event, data } of ack.missed) {
      assert.equal(event, "message:new");
      missed.push(data);
    }
    if (!ack.next) return { missed, pages };
    assert.ok(ack.missed.length > 0, "a page with `next` is not empty");
    pages += 1;
    ack = await peer.join(conversationId, placeOf(missed.at(-1)));
    assert.equal(ack.complete, true, ack.reason);
  }
}

onEachTransport(describe, (options) => {
  test("a join after a place brings exactly what came later, then what is live", async () => {
    const { ada, bo, conversationId } = await pair(options);
    for (let i = 1; i <= 4; i += 1) await ada.send(conversationId, `${i}`);
    const seen = (await bo.arrived(conversationId, 4)).at(-1);
    bo.close();
    for (let i = 5; i <= 10; i += 1) await ada.send(conversationId, `${i}`);
    const expected = (await ada.arrived(conversationId, 10)).slice(4);

    const back = await Peer.connect(bo.user, options);
    const ack = await back.join(conversationId, placeOf(seen));
    assert.equal(ack.complete, true);
    assert.equal(ack.reason, undefined);
    assert.equal(ack.seq, 10);
    assert.deepEqual(ack.missed, expected.map((data) => ({ event: "message:new", data })));
    await ada.send(conversationId, "11");
    const live = await back.arrived(conversationId, 1);
    assert.deepEqual(live.map((message) => message.content), ["11"]);
  });

  test("after the beginning is everything, after the top is nothing", async () => {
    const { ada, conversationId } = await pair(options);
    for (const text of ["one", "two"]) await ada.send(conversationId, text);
    const messages = await ada.arrived(conversationId, 2);
    const { epoch } = messages[0];
    const cy = await Peer.connect(unique("cy"), options);
    const all = await cy.join(conversationId, { epoch, seq: 0 });
    assert.deepEqual(all.missed.map((one) => one.data), messages);
    const none = await cy.join(conversationId, placeOf(messages[1]));
    assert.deepEqual([none.missed, none.complete], [[], true]);
  });

  test("a long absence comes in pages", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const texts = Array.from({ length: 450 }, (_, i) => `${i}`);
    await ada.send(conversationId, "seen");
    const [seen] = await bo.arrived(conversationId, 1);
    bo.close();
    await Promise.all(texts.map((text) => ada.send(conversationId, text)));
    await ada.arrived(conversationId, 451);
    const back = await Peer.connect(bo.user, options);
    const { missed } = await catchUp(back, conversationId, placeOf(seen));
    assert.deepEqual(missed.map((message) => message.content), texts);
    assertInOrder(missed);
  });

  test("a place that this room never had is told, with a reason", async () => {
    const { ada, conversationId } = await pair(options);
    await ada.send(conversationId, "one");
    const [{ epoch, seq }] = await ada.arrived(conversationId, 1);
    for (const after of [{ epoch: epoch + 998, seq: 1 }, { epoch, seq: seq + 1_000_000 }]) {
      const ack = await ada.join(conversationId, after);
      assert.equal(ack.complete, false, JSON.stringify(after));
      assert.equal(typeof ack.reason, "string");
      assert.ok(ack.reason.length > 0);
      assert.deepEqual(placeOf(ack), { epoch, seq });
    }
  });

  test("leaving and coming back in a stream of messages misses and doubles nothing", async () => {
    const conversationId = unique("talk");
    const ada = await Peer.connect(unique("ada"), options);
    const { epoch } = await ada.join(conversationId);
    const total = 300;
    const sent = (async () => {
      for (let i = 1; i <= total; i += 1) await ada.send(conversationId, `${i}`);
    })();
    const seen = [];
    let after = { epoch, seq: 0 };
    while (seen.length < total) {
      const bo = await Peer.connect("bo", options);
      const { missed, pages } = await catchUp(bo, conversationId, after);
      const live = Math.min(10, total - seen.length - missed.length);
      if (live > 0) await bo.arrived(conversationId, Math.max(1, Math.floor(live / 2)));
      bo.close();
      // Live messages may overtake a second page of missed ones, and are then in both.
      const places = new Map();
      for (const message of [...missed, ...bo.messages(conversationId)]) {
        assert.ok(pages > 1 || !places.has(message.seq), `${message.seq} twice in one visit`);
        places.set(message.seq, message);
      }
      seen.push(...[...places.values()].sort((a, b) => a.seq - b.seq));
      after = placeOf(seen.at(-1) ?? after);
    }
    await sent;
    const expected = Array.from({ length: total }, (_, i) => `${i + 1}`);
    assert.deepEqual(seen.map((message) => message.content), expected);
    assertInOrder(seen);
  });
});
