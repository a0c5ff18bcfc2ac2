// The stock client comes back to its socket: with exactly what it missed, or told why it cannot have it.
//
// VESTIBULE_RECOVERY_WINDOW_MS   how long the node under test keeps sockets
// VESTIBULE_RECOVERY_EVENTS_MAX  how many events it gives back, not more than 200
// Without them what is beyond is not tested.

import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { io } from "socket.io-client";
import { rest, token, unique, url } from "../lib/node.js";
import { closePeers, eventually, once, onEachTransport, pause, Peer } from "../lib/peer.js";
import { memory, numbers, Traveller } from "../lib/traveller.js";

const WINDOW_MS = Number(process.env.VESTIBULE_RECOVERY_WINDOW_MS ?? 0);
const withoutWindow = WINDOW_MS ? false : "needs VESTIBULE_RECOVERY_WINDOW_MS";
const withoutEnd = process.env.VESTIBULE_RECOVERY_EVENTS_MAX
  ? false
  : "needs VESTIBULE_RECOVERY_EVENTS_MAX";

afterEach(closePeers);

/** A sender that stays, and a member who travels. */
async function pair(options) {
  const conversationId = unique("talk");
  const ada = await Peer.connect(unique("ada"));
  const bo = await Traveller.start(unique("bo"), options);
  await Promise.all([ada.join(conversationId), bo.join(conversationId)]);
  return { ada, bo, conversationId };
}

async function send(ada, conversationId, texts) {
  for (const text of texts) await ada.send(conversationId, text);
}

onEachTransport(describe, (options) => {
  test("a drop loses nothing and doubles nothing", async () => {
    const { ada, bo, conversationId } = await pair(options);
    await send(ada, conversationId, numbers(1, 3));
    await bo.arrived(conversationId, 3);
    const [id, { pid, offset }] = [bo.socket.id, memory(bo.socket)];
    assert.match(offset, /^AQ[\w-]+$/, "the offset is the worker's position");
    bo.socket.io.reconnection(false);
    bo.drop();
    await send(ada, conversationId, numbers(4, 8));
    bo.socket.connect();
    await bo.back();
    assert.equal(bo.socket.recovered, true);
    assert.deepEqual([bo.socket.id, bo.socket._pid], [id, pid]);
    await send(ada, conversationId, numbers(9, 10));
    await bo.hasExactly(conversationId, numbers(1, 10));
    // It is in its room as before: others hear it too.
    await bo.send(conversationId, "11");
    await ada.arrived(conversationId, 11);
    assert.deepEqual(bo.all("recovery:failed"), []);
  });

  test("a client that has received nothing yet gets what came", async () => {
    const { ada, bo, conversationId } = await pair(options);
    assert.equal(memory(bo.socket).offset, undefined);
    bo.socket.io.reconnection(false);
    bo.drop();
    await send(ada, conversationId, numbers(1, 3));
    bo.socket.connect();
    await bo.back();
    assert.equal(bo.socket.recovered, true);
    await bo.hasExactly(conversationId, numbers(1, 3));
  });

  test("a client that was quiet for longer than the window comes back all the same", { skip: withoutWindow }, async () => {
    const { ada, bo, conversationId } = await pair(options);
    await send(ada, conversationId, ["1"]);
    await bo.arrived(conversationId, 1);
    await pause(WINDOW_MS * 1.5);
    bo.socket.io.reconnection(false);
    bo.drop();
    await send(ada, conversationId, ["2"]);
    bo.socket.connect();
    await bo.back();
    assert.equal(bo.socket.recovered, true);
    await bo.hasExactly(conversationId, ["1", "2"]);
  });

  test("twenty drops in a row in a stream of messages", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const total = 200;
    let isOver = false;
    const sent = send(ada, conversationId, numbers(1, total)).finally(() => (isOver = true));
    for (let drops = 0; drops < 20; drops += 1) {
      await bo.dropAndBack();
      assert.equal(bo.socket.recovered, true, `drop ${drops}`);
      if (!isOver) await pause(10);
    }
    await sent;
    await bo.hasExactly(conversationId, numbers(1, total));
  });

  test("a client comes back while its old connection still looks alive", async () => {
    const { ada, bo, conversationId } = await pair(options);
    await send(ada, conversationId, numbers(1, 2));
    await bo.arrived(conversationId, 2);
    const id = bo.socket.id;
    const twin = await bo.twin(options);
    bo.socket.io.reconnection(false);
    const ended = once(bo.socket, "disconnect");
    await Promise.all([twin.arrive(), send(ada, conversationId, numbers(3, 5))]);
    assert.deepEqual([twin.socket.recovered, twin.socket.id], [true, id]);
    await ended;
    await send(ada, conversationId, numbers(6, 7));
    // What reached the old connection before it ended is in its order, and the new one has all of it.
    const old = bo.texts(conversationId);
    assert.deepEqual(old, numbers(1, old.length));
    await twin.hasExactly(conversationId, numbers(3, 7));
    // The end of the old one has changed nothing of the new one.
    const state = await ada.ask("presence:query", { userId: bo.user });
    assert.ok(state.ok === false || state.online, JSON.stringify(state));
    await twin.send(conversationId, "8");
    await twin.hasExactly(conversationId, numbers(3, 8));
  });

  test("an attempt that is given up midway costs nothing", async () => {
    const { ada, bo, conversationId } = await pair(options);
    await send(ada, conversationId, ["1"]);
    await bo.arrived(conversationId, 1);
    bo.socket.io.reconnection(false);
    bo.drop();
    await send(ada, conversationId, numbers(2, 4));
    for (let attempt = 0; attempt < 5; attempt += 1) {
      const twin = await bo.twin(options);
      twin.socket.connect();
      await once(twin.socket.io, "open");
      await pause(attempt);
      // Before or after the answer: nobody looks at it.
      twin.socket.io.engine.close();
      twin.close();
    }
    bo.socket.connect();
    await bo.back();
    assert.equal(bo.socket.recovered, true);
    await bo.hasExactly(conversationId, numbers(1, 4));
  });

  test("rooms that were joined and left between are as they were last", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const [left, later] = [unique("left"), unique("later")];
    for (const room of [left, later]) await ada.join(room);
    await send(ada, later, ["before"]);
    await bo.join(left);
    await bo.dropAndBack();
    await bo.askOk("leave:conversation", { conversationId: left });
    await bo.join(later);
    bo.socket.io.reconnection(false);
    bo.drop();
    await send(ada, left, ["not for him"]);
    await send(ada, later, numbers(1, 2));
    await send(ada, conversationId, ["here"]);
    bo.socket.connect();
    await bo.back();
    assert.equal(bo.socket.recovered, true);
    await bo.hasExactly(later, numbers(1, 2));
    await bo.hasExactly(conversationId, ["here"]);
    assert.deepEqual(bo.texts(left), []);
  });

  test("what is for the user alone comes back too", async () => {
    const { ada, bo } = await pair(options);
    bo.socket.io.reconnection(false);
    bo.drop();
    await ada.askOk("connection:request", { toUserId: bo.user });
    bo.socket.connect();
    await bo.back();
    assert.equal(bo.socket.recovered, true);
    await bo.saw("connection:request", (one) => one.fromUserId === ada.user);
    assert.equal(bo.all("connection:request").length, 1);
  });

  test("what the timeline does not keep any more comes from the archive", async () => {
    const { ada, bo, conversationId } = await pair(options);
    await send(ada, conversationId, ["1"]);
    await bo.arrived(conversationId, 1);
    bo.socket.io.reconnection(false);
    bo.drop();
    const texts = numbers(2, 150);
    await Promise.all(texts.map((text) => ada.send(conversationId, text)));
    await ada.arrived(conversationId, 150);
    const order = ada.messages(conversationId).map((message) => message.content);
    bo.socket.connect();
    await bo.back();
    assert.equal(bo.socket.recovered, true);
    await bo.hasExactly(conversationId, order);
  });

  test("who missed too much begins anew, and is told so", { skip: withoutEnd }, async () => {
    const { ada, bo, conversationId } = await pair(options);
    await send(ada, conversationId, ["1"]);
    await bo.arrived(conversationId, 1);
    const [id, { pid }] = [bo.socket.id, memory(bo.socket)];
    bo.socket.io.reconnection(false);
    bo.drop();
    await Promise.all(numbers(2, 250).map((text) => ada.send(conversationId, text)));
    await ada.arrived(conversationId, 250);
    bo.socket.connect();
    await bo.back();
    assert.equal(bo.socket.recovered, false);
    assert.notEqual(bo.socket.id, id);
    assert.notEqual(bo.socket._pid, pid);
    const told = await bo.saw("recovery:failed");
    assert.deepEqual(told.args[0], { reason: "too_many" });
    assert.deepEqual(bo.texts(conversationId), ["1"]);
    // It works as any new one.
    const ack = await bo.join(conversationId);
    assert.equal(ack.seq, 250);
    await ada.send(conversationId, "251");
    await bo.arrived(conversationId, 2);
    bo.socket.io.reconnection(true);
    await bo.dropAndBack();
    assert.equal(bo.socket.recovered, true);
  });

  test("who was away for too long begins anew, and is told so", { skip: withoutWindow }, async () => {
    const { ada, bo, conversationId } = await pair(options);
    await send(ada, conversationId, ["1"]);
    await bo.arrived(conversationId, 1);
    bo.socket.io.reconnection(false);
    bo.drop();
    await pause(WINDOW_MS * 2);
    bo.socket.connect();
    await bo.back();
    assert.equal(bo.socket.recovered, false);
    const told = await bo.saw("recovery:failed");
    assert.deepEqual(told.args[0], { reason: "unknown" });
  });

  test("a login that has ended meanwhile is not let in", async () => {
    const name = unique("eve").replaceAll("-", "");
    const signup = await rest("/api/signup", {
      method: "POST",
      json: { email: `${name}@example.org`, name, password: "a long enough password" },
    });
    assert.ok(signup.status < 300, JSON.stringify(signup));
    const login = await rest("/api/login", {
      method: "POST",
      json: { email: `${name}@example.org`, password: "a long enough password" },
    });
    assert.ok(login.status < 300, JSON.stringify(login));
    const eve = await Traveller.start(name, { ...options, auth: { token: login.body.token } });
    eve.socket.io.reconnection(false);
    eve.drop();
    const out = await fetch(`${url}/api/logout`, {
      method: "POST",
      headers: { authorization: `Bearer ${login.body.token}`, "content-type": "application/json" },
      body: "{}",
    });
    assert.ok(out.status < 300, `${out.status}`);
    eve.socket.connect();
    const error = await once(eve.socket, "connect_error");
    assert.equal(error.data.code, "unauthenticated", JSON.stringify(error.data));
    assert.equal(eve.socket.connected, false);
  });

  test("nobody takes another user's socket over", async () => {
    const { ada, bo, conversationId } = await pair(options);
    await send(ada, conversationId, ["1"]);
    await bo.arrived(conversationId, 1);
    const mallory = await bo.twin({ ...options, claims: unique("mallory") });
    await mallory.arrive();
    assert.equal(mallory.socket.recovered, false);
    assert.deepEqual((await mallory.saw("recovery:failed")).args[0], { reason: "unknown" });
    await send(ada, conversationId, ["2"]);
    await bo.hasExactly(conversationId, ["1", "2"]);
    assert.deepEqual(mallory.texts(conversationId), []);
  });

  test("each namespace comes back for itself", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const other = bo.socket.io.socket("/nowhere", { auth: bo.socket.auth });
    const refused = once(other, "connect_error");
    other.connect();
    await refused;
    await bo.dropAndBack();
    assert.equal(bo.socket.recovered, true);
    await send(ada, conversationId, ["1"]);
    await bo.hasExactly(conversationId, ["1"]);
  });

  test("whom it watches it still watches", async () => {
    const { ada, bo, conversationId } = await pair(options);
    const cy = await Peer.connect(unique("cy"));
    await ada.askOk("connection:request", { toUserId: bo.user });
    const asked = await bo.saw("connection:request");
    await bo.askOk("connection:accept", { requestId: asked.args[0].requestId });
    const answer = await eventually("visible", async () => {
      const ack = await bo.ask("presence:subscribe", { userIds: [ada.user] });
      return ack.ok && ack.presence.length === 1 && ack;
    });
    assert.equal(answer.presence[0].online, true);
    bo.socket.io.reconnection(false);
    bo.drop();
    ada.close();
    cy.close();
    bo.socket.connect();
    await bo.back();
    assert.equal(bo.socket.recovered, true);
    await eventually("the news that she is away", () => {
      const last = [...bo.all("presence:state"), ...bo.all("user:offline")];
      return last.some((state) => state.userId === ada.user && state.online !== true);
    }, 30_000);
    assert.deepEqual(bo.texts(conversationId), []);
  });
});

test("what a client claims to have seen must be a place that there is", async () => {
  for (const offset of ["str", "AQABwIQ9", 7]) {
    const { ada, bo, conversationId } = await pair({ transports: ["websocket"] });
    await send(ada, conversationId, ["1"]);
    await bo.arrived(conversationId, 1);
    const twin = await bo.twin({ transports: ["websocket"] });
    twin.socket._lastOffset = offset;
    await twin.arrive();
    assert.equal(twin.socket.recovered, false, `${offset}`);
    assert.deepEqual((await twin.saw("recovery:failed")).args[0], { reason: "position_unknown" });
  }
});

test("a client without a private id is welcomed as ever", async () => {
  const socket = io(url, {
    forceNew: true,
    reconnection: false,
    transports: ["websocket"],
    auth: { token: await token(unique("dee")), offset: "AQABwIQ9" },
  });
  await once(socket, "connect");
  assert.equal(socket.recovered, false);
  socket.disconnect();
});

test("a client that leaves on purpose does not come back to its socket", async () => {
  const { bo } = await pair({ transports: ["websocket"] });
  const id = bo.socket.id;
  bo.socket.disconnect();
  bo.socket.connect();
  await bo.back();
  assert.equal(bo.socket.recovered, false);
  assert.notEqual(bo.socket.id, id);
});
