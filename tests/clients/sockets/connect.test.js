// Who gets in, who does not, and how a connection ends.

import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { token, unique } from "../lib/node.js";
import { closePeers, eventually, once, onEachTransport, Peer, socketFor } from "../lib/peer.js";

afterEach(closePeers);

async function refusalOf(options) {
  const socket = await socketFor("nobody", options);
  const refused = once(socket, "connect_error");
  socket.connect();
  try {
    return { error: await refused, isActive: socket.active };
  } finally {
    socket.disconnect();
  }
}

onEachTransport(describe, (options) => {
  test("a user with a token gets in, under an id that is not the session's", async () => {
    const ada = await Peer.connect(unique("ada"), options);
    assert.match(ada.socket.id, /^[\w-]{20}$/);
    assert.match(ada.socket.io.engine.id, /^[\w-]{20}$/);
    assert.notEqual(ada.socket.id, ada.socket.io.engine.id);
  });

  test("refused tokens are answered with a typed connect_error", async () => {
    const good = await token(unique("mallory"));
    const [head, claims, signature] = good.split(".");
    const flipped = (signature[0] === "A" ? "B" : "A") + signature.slice(1);
    const json = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const none = json({ alg: "none", typ: "JWT" });
    const root = json({ sub: "root", rooms: ["*"], exp: 4_000_000_000, iat: 1, jti: "x" });
    const table = {
      "no auth": {},
      "an empty token": { token: "" },
      "not a token": { token: "let me in" },
      "a number": { token: 7 },
      "an object": { token: { sub: "ada" } },
      "a long text": { token: "x".repeat(100_000) },
      "a broken signature": { token: `${head}.${claims}.${flipped}` },
      "no signature": { token: `${head}.${claims}.` },
      "the algorithm none": { token: `${none}.${claims}.` },
      "claims of somebody else": { token: `${head}.${root}.${signature}` },
    };
    for (const [what, auth] of Object.entries(table)) {
      const { error, isActive } = await refusalOf({ ...options, auth });
      assert.equal(error.data?.code, "unauthenticated", `${what}: ${error.message}`);
      assert.equal(typeof error.data.message, "string", what);
      assert.ok(!JSON.stringify(error.data).includes(signature), `${what}: token told`);
      assert.equal(isActive, false, `${what}: a client must not try the same token for ever`);
    }
  });

  test("a bearer token in the request's header does as well", async () => {
    const user = unique("ada");
    const extraHeaders = { authorization: `Bearer ${await token(user)}` };
    const ada = await Peer.connect(user, { ...options, auth: {}, extraHeaders });
    const room = unique("talk");
    await ada.join(room);
    await ada.send(room, "hello");
    const [message] = await ada.arrived(room, 1);
    assert.equal(message.userId, user);
  });

  test("a namespace that does not exist is refused", async () => {
    const ada = await Peer.connect(unique("ada"), options);
    const other = ada.socket.io.socket(`/${unique("nowhere")}`, { auth: {} });
    const refused = once(other, "connect_error");
    other.connect();
    assert.equal((await refused).message, "Invalid namespace");
    assert.ok(ada.socket.connected, "the other namespace's refusal ends nothing here");
    other.disconnect();
  });

  test("a user may come in twice, leave, and come back under a new id", async () => {
    const user = unique("ada");
    const [one, two] = await Promise.all([
      Peer.connect(user, options),
      Peer.connect(user, options),
    ]);
    assert.notEqual(one.socket.id, two.socket.id);
    const before = one.socket.id;
    const gone = once(one.socket, "disconnect");
    one.socket.disconnect();
    assert.equal(await gone, "io client disconnect");
    const back = once(one.socket, "connect");
    one.socket.connect();
    await back;
    assert.notEqual(one.socket.id, before);
    assert.ok(two.socket.connected);
  });

  test("a lost connection comes back by itself and sends what was written meanwhile", async () => {
    const room = unique("talk");
    const [ada, bo] = await Promise.all([
      Peer.connect(unique("ada"), { ...options, reconnection: true, reconnectionDelay: 200 }),
      Peer.connect(unique("bo"), options),
    ]);
    await Promise.all([ada.join(room), bo.join(room)]);
    const before = ada.socket.id;
    const gone = once(ada.socket, "disconnect");
    ada.socket.io.engine.close();
    await gone;
    const acks = ["one", "two", "three"].map((text) => ada.send(room, text));
    await Promise.all(acks);
    assert.deepEqual([ada.socket.id, ada.socket.recovered], [before, true]);
    const contents = (await bo.arrived(room, 3)).map((message) => message.content);
    assert.deepEqual(contents, ["one", "two", "three"]);
  });

  test("fifty sockets connect at once", async () => {
    const user = unique("crowd");
    const peers = await Promise.all(
      Array.from({ length: 50 }, () => Peer.connect(user, options)),
    );
    assert.equal(new Set(peers.map((peer) => peer.socket.id)).size, 50);
    const room = unique("talk");
    await Promise.all(peers.map((peer) => peer.join(room)));
    await peers[0].send(room, "all here?");
    await Promise.all(peers.map((peer) => peer.arrived(room, 1)));
    closePeers();
    await eventually("all closed", () => peers.every((peer) => !peer.socket.connected));
  });
});
