// Clients in several rooms, on both transports, while one of the nodes is killed: all come back to their
// sockets elsewhere, and what each was shown is every room's order, whole and once.
//
// Whoever starts this kills a node some seconds after it has said "ready", and starts none in its place.

import assert from "node:assert/strict";
import { unique } from "../lib/node.js";
import { eventually, pause } from "../lib/peer.js";
import { Traveller } from "../lib/traveller.js";

const CLIENTS = Number(process.env.CLIENTS ?? 60);
const ROOMS = Number(process.env.ROOMS ?? 8);
const EACH = 5;
const SECONDS = Number(process.env.SECONDS ?? 15);
const PAUSE_MS = Number(process.env.PAUSE_MS ?? 5);

const rooms = Array.from({ length: ROOMS }, () => unique("talk"));
const transports = [["websocket"], ["polling", "websocket"], ["polling"]];

/** Sends for as long as it takes, with the same id until it is acknowledged. */
async function insist(sender, room, text) {
  for (;;) {
    try {
      const request = { conversationId: room, content: text, clientMessageId: text };
      const ack = await sender.socket.timeout(3_000).emitWithAck("message:send", request);
      if (ack.ok) return;
    } catch {
      // Not in time, or the connection went: the same again.
    }
    await pause(50);
  }
}

async function join(traveller, room) {
  for (;;) {
    const ack = await traveller.ask("join:conversation", { conversationId: room }).catch(() => ({}));
    if (ack.ok) return;
    await pause(50);
  }
}

/** What went over a client's connections around its first loss, to be shown when something is wrong with it. */
function traced(traveller) {
  const trace = [];
  let isLost = false;
  const add = (line) => {
    if (isLost && trace.length > 8 * TRACE) return;
    trace.push(`${Date.now() % 1e6} ${line}`);
    if (!isLost && trace.length > TRACE) trace.shift();
  };
  const note = (way) => ({ type, data }) => add(`${way} ${type} ${typeof data === "string" ? data.slice(0, 160) : ""}`);
  const watch = () => {
    const { engine } = traveller.socket.io;
    add(`opened ${engine.id}`);
    engine.on("packet", note("<"));
    engine.on("packetCreate", note(">"));
    engine.on("close", (reason, why) => {
      isLost = true;
      add(`closed ${engine.id} ${reason} ${why?.context?.status ?? ""} ${why?.context?.responseText ?? ""}`);
    });
  };
  watch();
  traveller.socket.io.on("open", watch);
  traveller.trace = trace;
}

const TRACE = 50;
const travellers = [];
for (let n = 0; n < CLIENTS; n += 1) {
  const traveller = await Traveller.start(unique("bo"), { transports: transports[n % 3] });
  traveller.rooms = Array.from({ length: EACH }, (_, i) => rooms[(n + i) % ROOMS]);
  await Promise.all(traveller.rooms.map((room) => join(traveller, room)));
  traveller.returns = [];
  traced(traveller);
  traveller.socket.on("connect", () => traveller.returns.push(traveller.socket.recovered));
  travellers.push(traveller);
}
const senders = await Promise.all(rooms.map(async () => {
  const sender = await Traveller.start(unique("ada"), { transports: ["websocket"] });
  return sender;
}));

const sent = new Map(rooms.map((room) => [room, []]));
let isOver = false;
const sending = rooms.map(async (room, n) => {
  for (let i = 0; !isOver; i += 1) {
    const text = `${n}-${i}`;
    await insist(senders[n], room, text);
    sent.get(room).push(text);
    await pause(PAUSE_MS);
  }
});
console.log("ready");
await pause(SECONDS * 1_000);
isOver = true;
await Promise.all(sending);

const problems = [];
let returns = 0;
for (const [n, traveller] of travellers.entries()) {
  returns += traveller.returns.length;
  if (traveller.returns.includes(false)) {
    problems.push(`client ${n} was not given its socket back: ${JSON.stringify(traveller.all("recovery:failed"))}`);
  }
  for (const room of traveller.rooms) {
    const expected = sent.get(room);
    await eventually(`all of ${room}`, () => traveller.messages(room).length >= expected.length, 20_000)
      .catch((error) => problems.push(`client ${n}: ${error.message}`));
    const seen = traveller.messages(room);
    const texts = seen.map((message) => message.content);
    for (const [i, message] of seen.entries()) {
      const before = seen[i - 1];
      if (before && (message.epoch < before.epoch || message.seq !== before.seq + 1)) {
        problems.push(`client ${n}: ${room}: ${before.epoch}-${before.seq} then ${message.epoch}-${message.seq}`);
      }
    }
    if (new Set(texts).size !== texts.length) {
      if (problems.every((problem) => !problem.includes("twice"))) console.log(traveller.trace.join("\n"));
      problems.push(`client ${n}: ${room}: something twice`);
    }
    const missing = expected.filter((text) => !texts.includes(text));
    if (missing.length > 0) problems.push(`client ${n}: ${room}: ${missing.length} missing`);
  }
}
const count = [...sent.values()].reduce((sum, texts) => sum + texts.length, 0);
console.log(`${CLIENTS} clients came back ${returns} times, ${count} messages, ${problems.length} problems`);
for (const problem of problems.slice(0, 20)) console.log(problem);
assert.ok(returns > 0, "nobody lost a connection: no node was killed");
assert.deepEqual(problems, []);
process.exit(0);
