// All clients of a node, on the stock client as it comes, when the node is killed: all come back to their sockets,
// and what each was shown is every room's order, whole and once.
//
// Whoever starts this has every client on one node, lets others run after "connected", and kills the first after
// "ready". At the end one line of JSON is printed. The exit code is 1 if a client did not get its socket back, or
// something is missing, came twice or in another order.

import { io } from "socket.io-client";
import { signed } from "../lib/claims.js";
import { unique, url } from "../lib/node.js";
import { eventually, pause } from "../lib/peer.js";

const number = (name, or) => Number(process.env[name] ?? or);
const CLIENTS = number("CLIENTS", 2_000);
const ROOMS = number("ROOMS", 100);
const EACH = 5;
/** Messages per second, of all rooms together. */
const RATE = number("RATE", 100);
/** How long is sent after "ready". */
const SECONDS = number("SECONDS", 14);
/** Connecting at a time. */
const AT_ONCE = 50;
const WITHIN_MS = 30_000;
const AGAIN_MS = 100;

const rooms = Array.from({ length: ROOMS }, () => unique("talk"));
const run = unique("crowd");

class Client {
  constructor(n) {
    this.rooms = new Map(Array.from({ length: EACH }, (_, i) => [rooms[(n + i) % ROOMS], []]));
    this.wrongs = [];
  }

  async enter(n) {
    const auth = { token: signed({ sub: `${run}-${n}`, rooms: ["*"] }) };
    this.socket = io(url, { forceNew: true, transports: ["websocket"], auth });
    const { socket } = this;
    socket.on("message:new", (message) => this.#heard(message));
    await new Promise((resolve) => socket.once("connect", resolve));
    await Promise.all([...this.rooms.keys()].map((conversationId) => this.insist("join:conversation", { conversationId })));
    socket.on("disconnect", () => { this.lostAt ??= Date.now(); });
    socket.on("connect", () => {
      this.backAt = Date.now();
      if (!socket.recovered) this.wrongs.push("it was not given its socket back");
    });
  }

  /** Asks until it is done; what is sent has an id of its own. */
  async insist(event, data) {
    for (;;) {
      const ack = await this.socket.timeout(3_000).emitWithAck(event, data).catch(() => undefined);
      if (ack?.ok) return ack;
      await pause(AGAIN_MS);
    }
  }

  #heard({ conversationId, epoch, seq, id }) {
    const shown = this.rooms.get(conversationId);
    const last = shown.at(-1);
    if (last && (epoch < last.epoch || seq !== last.seq + 1)) {
      this.wrongs.push(`${conversationId}: ${epoch}-${seq} right after ${last.epoch}-${last.seq}`);
    }
    shown.push({ epoch, seq, id });
  }
}

const clients = Array.from({ length: CLIENTS }, (_, n) => new Client(n));
const waiting = [...clients.entries()];
await Promise.all(Array.from({ length: AT_ONCE }, async () => {
  for (let next = waiting.shift(); next; next = waiting.shift()) await next[1].enter(next[0]);
}));
console.log("connected");

const acked = new Map(rooms.map((room) => [room, new Set()]));
let isOver = false;
const sending = rooms.map(async (conversationId, n) => {
  const sender = clients[n % CLIENTS];
  await pause((1_000 * n) / RATE);
  for (let i = 0; !isOver; i += 1) {
    const due = Date.now() + (1_000 * ROOMS) / RATE;
    const content = `${n}-${i}`;
    const { id } = await sender.insist("message:send", { conversationId, content, clientMessageId: `${run}-${content}` });
    acked.get(conversationId).add(id);
    await pause(Math.max(0, due - Date.now()));
  }
});
await pause(2_000);
for (const client of clients) client.lostAt = undefined;
console.log("ready");
await pause(1_000 * SECONDS);
isOver = true;
await Promise.all(sending);

const hasAll = ({ rooms: own }) => [...own].every(([room, shown]) => shown.length >= acked.get(room).size);
const isInTime = await eventually("everything", () => clients.every(hasAll), WITHIN_MS).then(() => true, () => false);
const count = { lost: 0, doubled: 0, order: 0 };
const first = new Map();
for (const { rooms: own } of clients) {
  for (const [room, shown] of own) {
    const ids = shown.map(({ id }) => id);
    const all = new Set(ids);
    count.lost += [...acked.get(room)].filter((id) => !all.has(id)).length;
    count.doubled += ids.length - all.size;
    // Who joined later lacks the first of them.
    const known = first.get(room) ?? first.set(room, ids).get(room);
    if (known.slice(-ids.length).join() !== ids.slice(-known.length).join()) count.order += 1;
  }
}
const came = clients.filter(({ backAt }) => backAt !== undefined);
const killedAt = Math.min(...clients.map(({ lostAt }) => lostAt ?? Infinity));
const backs = came.map(({ backAt }) => backAt - killedAt).sort((a, b) => a - b);
const at = (share) => backs[Math.min(backs.length - 1, Math.floor(backs.length * share))];
const wrongs = clients.flatMap((one) => one.wrongs);
const sent = [...acked.values()].reduce((sum, ids) => sum + ids.size, 0);
console.log(JSON.stringify({
  clients: CLIENTS, back: came.length, recovered: came.filter(({ wrongs: own }) => own.length === 0).length,
  backMs: { p50: at(0.5), p99: at(0.99), max: backs.at(-1) }, sent, ...count, isInTime, wrongs: wrongs.slice(0, 5),
}));
const isRight = isInTime && came.length === CLIENTS && wrongs.length === 0 && Object.values(count).every((n) => n === 0);
process.exit(isRight ? 0 : 1);
