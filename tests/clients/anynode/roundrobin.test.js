// The stock client through a balancer without stickiness, in front of two nodes.
//
// Each node has rooms of its own here, so a test's peers each talk to themselves.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { unique } from "../lib/node.js";
import { assertInOrder, closePeers, pause, Peer } from "../lib/peer.js";

const PEERS = 6;
const MESSAGES = 30;

afterEach(closePeers);

/** Peers that note when they lose their session. */
async function peers(options) {
  const all = Array.from({ length: PEERS }, () => Peer.connect(unique("ada"), options));
  const connected = await Promise.all(all);
  for (const peer of connected) {
    peer.losses = [];
    peer.socket.on("disconnect", (reason) => peer.losses.push(reason));
  }
  return connected;
}

async function talk(peer) {
  const room = unique("talk");
  await peer.join(room);
  for (let n = 0; n < MESSAGES; n += 1) await peer.send(room, `${n}`);
  const messages = await peer.arrived(room, MESSAGES);
  assert.deepEqual(messages.map((one) => one.content), Array.from({ length: MESSAGES }, (_, n) => `${n}`));
  assertInOrder(messages);
}

test("a client that polls stays in its session wherever its requests go", async () => {
  const all = await peers({ transports: ["polling"] });
  await Promise.all(all.map(talk));
  // Idle for longer than a ping takes, and still there.
  await pause(1_500);
  await Promise.all(all.map(talk));
  for (const peer of all) assert.deepEqual(peer.losses, []);
});

test("a client that upgrades does so through another node", async () => {
  const all = await peers({ transports: ["polling", "websocket"] });
  for (const peer of all) assert.ok(peer.isOnWebSocket);
  await Promise.all(all.map(talk));
  await pause(1_500);
  await Promise.all(all.map(talk));
  for (const peer of all) assert.deepEqual(peer.losses, []);
});

test("a large message goes through another node too", async () => {
  for (const transports of [["polling"], ["polling", "websocket"]]) {
    const all = await peers({ transports });
    await Promise.all(all.map(async (peer) => {
      const room = unique("talk");
      await peer.join(room);
      const ack = await peer.ask("message:send", { conversationId: room, content: "x".repeat(500_000) });
      // Larger than a message may be, but not than a packet: it is refused in words.
      assert.equal(ack.ok, false);
      assert.deepEqual(peer.losses, []);
    }));
    closePeers();
  }
});
