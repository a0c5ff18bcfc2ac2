// Input that no client should send costs only the one who sends it.

import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { unique } from "../lib/node.js";
import { assertRefused, closePeers, once, onEachTransport, pair, Peer } from "../lib/peer.js";

const MAX_PAYLOAD_BYTES = 1_000_000;

afterEach(closePeers);

onEachTransport(describe, (options) => {
  test("an event nobody knows is answered, with and without arguments", async () => {
    const { ada, conversationId } = await pair(options);
    for (const event of ["no:such", "", " ", "message:new", "Message:Send", "__proto__", "x".repeat(500)]) {
      for (const args of [[], [{ conversationId }], [1, 2, 3]]) {
        const ack = await ada.ask(event, ...args);
        assertRefused(ack, ["not_found", "invalid"], JSON.stringify([event, ...args]));
      }
    }
    ada.socket.emit("no:such", "and no ack");
    await ada.send(conversationId, "still here");
    await ada.arrived(conversationId, 1);
  });

  test("binary is refused, not fatal", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const bytes = Buffer.from([0, 1, 2, 255]);
    for (const args of [
      [bytes],
      [{ conversationId, content: bytes }],
      [{ conversationId: bytes, content: "x" }],
      [{ conversationId, content: "x", clientMessageId: bytes }],
      [{ conversationId, content: { deep: [bytes, bytes] } }],
    ]) {
      assertRefused(await ada.ask("message:send", ...args), "invalid");
    }
    assertRefused(await ada.ask("no:such", bytes), ["not_found", "invalid"]);
    ada.socket.emit("message:send", { conversationId, content: bytes });
    await ada.send(conversationId, "still here");
    const heard = await bo.arrived(conversationId, 1);
    assert.deepEqual(heard.map((message) => message.content), ["still here"]);
  });

  test("a large message is delivered whole or refused by name", async () => {
    const { ada, bo, conversationId } = await pair(options);
    for (const size of [16_000, 64_000, 300_000]) {
      const content = "é".repeat(size / 2);
      const ack = await ada.ask("message:send", { conversationId, content });
      if (!ack.ok) {
        assertRefused(ack, ["too_large", "invalid"], `${size} bytes`);
        continue;
      }
      const find = (message) => message.id === ack.id;
      const { args: [message] } = await bo.saw("message:new", find);
      assert.equal(message.content, content);
    }
    await ada.send(conversationId, "still here");
  });

  test("a packet over the limit ends that connection and no other", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const gone = once(ada.socket, "disconnect");
    ada.socket.emit("message:send", { conversationId, content: "x".repeat(2 * MAX_PAYLOAD_BYTES) });
    const reason = await gone;
    assert.ok(["transport close", "transport error"].includes(reason), reason);
    const again = await Peer.connect(ada.user, options);
    await again.join(conversationId);
    await again.send(conversationId, "back");
    const heard = await bo.arrived(conversationId, 1);
    assert.deepEqual(heard.map((message) => message.content), ["back"]);
  });

  test("deeply nested input is survived", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const deep = "[".repeat(200_000) + "]".repeat(200_000);
    const content = `{"conversationId":${JSON.stringify(conversationId)},"content":${deep}}`;
    // Past the client's own encoder, which would give up first.
    ada.socket.io.engine.write(`21["message:send",${content}]`);
    ada.socket.io.engine.write(`22["no:such",${deep}]`);
    const again = await Peer.connect(unique("cy"), options);
    await again.send(conversationId, "still here");
    await bo.arrived(conversationId, 1);
  });

  test("hundreds of mistakes in a row are all answered", async () => {
    const { ada, conversationId } = await pair(options);
    const acks = await Promise.all(
      Array.from({ length: 300 }, (_, i) => ada.ask(i % 2 ? "no:such" : "message:send", i)),
    );
    for (const ack of acks) assertRefused(ack, ["not_found", "invalid", "rate_limited"]);
    await ada.send(conversationId, "still here");
  });
});
