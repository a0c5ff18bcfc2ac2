// What is sent and received while polling gives way to a WebSocket.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { unique } from "../lib/node.js";
import { assertInOrder, closePeers, eventually, pause, Peer } from "../lib/peer.js";

const ROUNDS = 6;
const EACH = 150;
const AT_ONCE = 10;

afterEach(closePeers);

const texts = (peer) => Array.from({ length: EACH }, (_, i) => `${peer.user} ${i}`);

/** A peer on polling; its client is told to upgrade later, so that traffic is already under way. */
async function connectOnPolling(user) {
  const transports = ["polling", "websocket"];
  return Peer.connectEarly(user, { transports, upgrade: false });
}

function beginUpgrade(peer) {
  const { engine } = peer.socket.io;
  assert.equal(engine.transport.name, "polling");
  // What the client does by itself when it may upgrade from the start.
  engine._probe("websocket");
}

async function write(peer, conversationId, each) {
  const acks = [];
  for (const text of texts(peer)) {
    acks.push(peer.send(conversationId, text));
    await each(acks.length);
  }
  return Promise.all(acks);
}

for (let round = 1; round <= ROUNDS; round += 1) {
  test(`nothing is lost, doubled or moved by an upgrade (${round} of ${ROUNDS})`, async () => {
    const conversationId = unique("talk");
    const ada = await Peer.connect(unique("ada"), { transports: ["websocket"] });
    const bo = await connectOnPolling(unique("bo"));
    await Promise.all([ada.join(conversationId), bo.join(conversationId)]);

    const beginAt = round * AT_ONCE;
    const upgraded = eventually("an upgrade", () => bo.isOnWebSocket);
    await Promise.all([
      write(ada, conversationId, (sent) => sent % AT_ONCE === 0 && pause(round)),
      write(bo, conversationId, async (sent) => {
        if (sent === beginAt) beginUpgrade(bo);
        if (sent % AT_ONCE === 0) await pause(round);
      }),
      upgraded,
    ]);

    for (const peer of [ada, bo]) {
      const messages = await peer.arrived(conversationId, 2 * EACH);
      assertInOrder(messages);
      for (const author of [ada, bo]) {
        const own = messages.filter((message) => message.userId === author.user);
        assert.deepEqual(own.map((message) => message.content), texts(author));
      }
    }
  });
}
