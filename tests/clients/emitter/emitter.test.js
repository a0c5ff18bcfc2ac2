// `@socket.io/redis-emitter` emits to the sockets of a node that hears it.
//
// VESTIBULE_REDIS_PORT  the Redis that both use

import assert from "node:assert/strict";
import { after, afterEach, describe, test } from "node:test";
import { Emitter } from "@socket.io/redis-emitter";
import { Redis } from "ioredis";
import { unique } from "../lib/node.js";
import { closePeers, eventually, once, onEachTransport, pause, Peer } from "../lib/peer.js";

const redis = new Redis({ port: Number(process.env.VESTIBULE_REDIS_PORT) });
const emitter = new Emitter(redis);

afterEach(closePeers);
after(() => redis.disconnect());

/** A peer in a conversation of its own; answers its room too. */
async function inRoom(options) {
  const peer = await Peer.connect(unique("ada"), options);
  const conversation = unique("talk");
  await peer.join(conversation);
  return { peer, conversation, room: `conversation:${conversation}` };
}

onEachTransport(describe, (options) => {
  test("an event reaches the members of its rooms, once, as it was emitted", async () => {
    const [one, two, other] = await Promise.all([inRoom(options), inRoom(options), inRoom(options)]);
    await two.peer.join(one.conversation);
    const at = new Date(1_700_000_000_123);
    const args = [{ n: -1.5, list: [1, "zwei", null, true], at }, Buffer.from([0, 255, 7]), "end"];
    emitter.to([one.room, two.room]).emit("news", ...args);
    for (const { peer } of [one, two]) {
      const { args: [object, data, end] } = await peer.saw("news");
      assert.deepEqual(object, { n: -1.5, list: [1, "zwei", null, true], at: at.toISOString() });
      assert.deepEqual([...new Uint8Array(data)], [0, 255, 7]);
      assert.equal(end, "end");
    }
    emitter.to(one.room).except(two.room).emit("for-one");
    await one.peer.saw("for-one");
    emitter.emit("all", 1);
    await other.peer.saw("all");
    await two.peer.saw("all");
    assert.deepEqual(two.peer.all("for-one"), []);
    assert.deepEqual(other.peer.all("news"), []);
    assert.equal(two.peer.all("news").length, 1, "a member of both rooms gets it once");
  });

  test("one socket is reached by its id, volatile or not", async () => {
    const { peer } = await inRoom(options);
    emitter.to(peer.socket.id).emit("private", 1);
    await peer.saw("private");
    await pause(50);
    emitter.volatile.to(peer.socket.id).emit("volatile", 1);
    await peer.saw("volatile");
  });
});

test("sockets join and leave rooms and are disconnected", async () => {
  const { peer } = await inRoom();
  const room = `course:${unique("bio")}`;
  emitter.in(peer.socket.id).socketsJoin([room, "token:x"]);
  // Events to the room arrive as soon as it has joined.
  await eventually("joined", async () => {
    emitter.to(room).emit("hello");
    await pause(20);
    return peer.all("hello").length > 0;
  });
  emitter.in(room).socketsLeave(room);
  await eventually("left", async () => {
    const before = peer.all("hello").length;
    emitter.to(room).emit("hello");
    await pause(100);
    return peer.all("hello").length === before;
  });
  const left = once(peer.socket, "disconnect");
  emitter.in(peer.socket.id).disconnectSockets();
  assert.equal(await left, "io server disconnect");
});

test("what makes no sense is passed over", async () => {
  const { peer, room } = await inRoom();
  for (const message of ["", "noise", "\u0093", '{"type":2}', "x".repeat(2_000_000)]) {
    await redis.publish("socket.io#/#", message);
    await redis.publish("socket.io-request#/#", message);
  }
  emitter.serverSideEmit("hello", "nodes");
  emitter.of("/admin").emit("hidden");
  new Emitter(redis, { key: "other" }).emit("hidden");
  emitter.to("").emit("hidden");
  emitter.to(room).emit("shown", 1);
  await peer.saw("shown");
  assert.deepEqual(peer.all("hidden"), []);
});
