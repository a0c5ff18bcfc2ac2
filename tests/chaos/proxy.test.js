// That a bad link is bad in the way it is said to be.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, Socket } from "node:net";
import { afterEach, beforeEach, test } from "node:test";
import { Proxy } from "./proxy.js";
import { frameEnd, isEvent, isMessage, Sieve } from "./resp.js";

const SOON_MS = 300;
/** Its end, also by an error. */
const closed = (socket) => socket.destroyed || new Promise((resolve) => socket.on("close", resolve));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let server;
let proxy;
let served;
const open = [];

beforeEach(async () => {
  served = [];
  // Says everything again.
  server = createServer((socket) => {
    served.push(socket);
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  proxy = await new Proxy("link").listen();
  proxy.to(server.address().port);
});

afterEach(() => {
  for (const one of [...open.splice(0), ...served]) one.destroy();
  proxy.close();
  server.close();
});

async function client() {
  const socket = connect({ port: proxy.port, host: "127.0.0.1" });
  socket.on("error", () => {});
  open.push(socket);
  await once(socket, "connect");
  let text = "";
  socket.on("data", (bytes) => { text += bytes; });
  return { socket, say: (what) => socket.write(what), heard: () => text };
}

async function hears(one, text) {
  for (let n = 0; n < 200 && one.heard() !== text; n += 1) await pause(10);
  assert.equal(one.heard(), text);
}

test("a good link carries everything in both directions, and its end", async () => {
  const one = await client();
  one.say("hello");
  await hears(one, "hello");
  one.socket.end();
  await closed(one.socket);
});

test("a cut ends what is open and lets newcomers in; a closed link does not", async () => {
  const one = await client();
  one.say("x");
  await hears(one, "x");
  proxy.cut();
  await closed(one.socket);
  const two = await client();
  two.say("y");
  await hears(two, "y");
  proxy.refuse();
  await closed(two.socket);
  const three = connect({ port: proxy.port, host: "127.0.0.1" }).on("error", () => {});
  await closed(three);
  proxy.heal();
  const four = await client();
  four.say("z");
  await hears(four, "z");
});

test("on a stalled link nothing moves until it is well; then nothing is missing", async () => {
  const one = await client();
  one.say("a");
  await hears(one, "a");
  proxy.stall();
  one.say("b");
  const two = await client();
  two.say("c");
  await pause(SOON_MS);
  assert.deepEqual([one.heard(), two.heard()], ["a", ""]);
  proxy.heal();
  await hears(one, "ab");
  await hears(two, "c");
});

test("a forgotten link stays silent for both, a new one works", async () => {
  const one = await client();
  one.say("a");
  await hears(one, "a");
  proxy.forget();
  one.say("b");
  proxy.heal();
  const two = await client();
  two.say("c");
  await hears(two, "c");
  assert.equal(one.heard(), "a");
  one.socket.destroy();
  await pause(SOON_MS);
  assert.equal(served[0].destroyed, false);
});

test("who is deaf still speaks", async () => {
  const one = await client();
  one.say("a");
  await hears(one, "a");
  const received = [];
  served[0].on("data", (bytes) => received.push(String(bytes)));
  proxy.deafen();
  one.say("b");
  await pause(SOON_MS);
  assert.deepEqual([one.heard(), received.join("")], ["a", "b"]);
  proxy.heal();
  await hears(one, "ab");
});

test("a slow link takes its time, and keeps the order when it is quick again", async () => {
  const one = await client();
  proxy.delay(SOON_MS);
  const start = Date.now();
  one.say("a");
  await pause(20);
  proxy.delay(0);
  one.say("b");
  await hears(one, "ab");
  assert.ok(Date.now() - start >= SOON_MS);
});

const bulk = (text) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
const push = (kind, payload) => `>3\r\n${bulk(kind)}${bulk("channel")}${bulk(payload)}`;
const FRAMES = [
  "+OK\r\n", ":12\r\n", "$-1\r\n", "$0\r\n\r\n", "*0\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", bulk("a\r\nb"),
  `*2\r\n*2\r\n:1\r\n${bulk("x")}+y\r\n`, `%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n+c\r\n`, `|1\r\n+k\r\n+v\r\n:7\r\n`,
  push("message", "E\n1-2\nrest"), push("smessage", "E\nö"), push("message", "T\n1"), push("subscribe", "E\n"),
];

test("frames are found whatever the pieces in which they come", () => {
  const all = Buffer.from(FRAMES.join(""));
  for (const size of [1, 2, 3, 7, 64, all.length]) {
    const found = [];
    const sieve = new Sieve((frame) => {
      found.push(String(frame));
      return false;
    });
    const kept = [];
    for (let at = 0; at < all.length; at += size) kept.push(sieve.take(all.subarray(at, at + size)));
    assert.deepEqual(found, FRAMES, `in pieces of ${size}`);
    assert.equal(String(Buffer.concat(kept)), String(all));
  }
  assert.equal(frameEnd(Buffer.from("$5\r\nab"), 0), -1);
});

test("only events of rooms are left out", () => {
  assert.deepEqual(FRAMES.filter((frame) => isEvent(Buffer.from(frame))), FRAMES.slice(12, 14));
  const published = FRAMES.filter((frame) => isMessage(Buffer.from(frame)));
  assert.ok(published.length > 2 && published.every((frame) => frame.includes("message\r\n")), published.join(""));
  const sieve = new Sieve(isEvent);
  assert.equal(String(sieve.take(Buffer.from(FRAMES.join("")))), FRAMES.toSpliced(12, 2).join(""));
});

test("a cut ends a connection that is just being ended", async (t) => {
  const one = await client();
  one.say("hello");
  await hears(one, "hello");
  const end = Socket.prototype.end;
  // Between the moment in which the link passes the end on and the one in which it has left.
  t.mock.method(Socket.prototype, "end", function endAndCut(...args) {
    if (this !== served[0]) process.nextTick(() => process.nextTick(() => proxy.cut()));
    return end.apply(this, args);
  });
  served[0].end();
  await closed(one.socket);
  for (let n = 0; n < 200 && proxy.open > 0; n += 1) await pause(10);
  assert.equal(proxy.open, 0);
});
