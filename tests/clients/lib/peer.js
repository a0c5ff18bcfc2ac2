// A user on the official Socket.IO client, with everything it received written down in order.

import assert from "node:assert/strict";
import { io } from "socket.io-client";
import { token, unique, url } from "./node.js";

const ACK_MS = 10_000;
const ARRIVAL_MS = 10_000;

/** The three ways in which a client reaches a node. */
export const TRANSPORTS = {
  "websocket only": { transports: ["websocket"] },
  "polling only": { transports: ["polling"] },
  "polling, upgraded to websocket": { transports: ["polling", "websocket"] },
};

/** Every code that a refusal may carry. */
export const CODES = [
  "unauthenticated", "forbidden", "not_found", "invalid", "too_large",
  "rate_limited", "overloaded", "unavailable", "conflict", "internal",
];

const open = new Set();

/** For `after` and `afterEach`: closes what a test left open. */
export function closePeers() {
  for (const peer of open) peer.close();
}

/** Resolves with what the next `event` of an emitter tells first, or rejects when none comes. */
export function once(emitter, event, ms = ARRIVAL_MS) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event} within ${ms} ms`)), ms);
    emitter.once(event, (told) => {
      clearTimeout(timer);
      resolve(told);
    });
  });
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks again until `probe` answers something true. */
export async function eventually(what, probe, ms = ARRIVAL_MS) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await pause(20);
  }
}

/** A socket without a connection yet. `options` go to the client; `to` is another way to the node. */
export async function socketFor(user, { auth, rooms, ...options } = {}, to = url) {
  return io(to, {
    forceNew: true,
    reconnection: false,
    autoConnect: false,
    auth: auth ?? { token: await token(user, rooms) },
    ...options,
  });
}

export class Peer {
  constructor(user, socket) {
    this.user = user;
    this.socket = socket;
    this.received = [];
    this.waiting = new Set();
    socket.onAny((event, ...args) => {
      this.received.push({ event, args, at: Date.now() });
      for (const check of this.waiting) check();
    });
    open.add(this);
  }

  /** Connects, on the transport it will stay on. */
  static async connect(user, options = {}) {
    const peer = await Peer.connectEarly(user, options);
    if (options.transports?.length > 1) await peer.upgraded();
    return peer;
  }

  /** Connects, and does not wait for the upgrade. */
  static async connectEarly(user, options = {}) {
    const peer = new Peer(user, await socketFor(user, options));
    const connected = new Promise((resolve, reject) => {
      peer.socket.once("connect", resolve);
      peer.socket.once("connect_error", reject);
    });
    peer.socket.connect();
    await connected;
    return peer;
  }

  get isOnWebSocket() {
    return this.socket.io.engine?.transport?.name === "websocket";
  }

  /** Resolves once the connection is a WebSocket. */
  upgraded() {
    return eventually("the upgrade", () => this.isOnWebSocket);
  }

  /** Emits and returns the ack. */
  ask(event, ...args) {
    return this.socket.timeout(ACK_MS).emitWithAck(event, ...args);
  }

  /** The same, for what has to succeed. */
  async askOk(event, ...args) {
    const ack = await this.ask(event, ...args);
    assert.equal(ack?.ok, true, `${event}: ${JSON.stringify(ack)}`);
    return ack;
  }

  join(conversationId, after) {
    return this.askOk("join:conversation", { conversationId, ...(after && { after }) });
  }

  send(conversationId, content, clientMessageId) {
    return this.askOk("message:send", {
      conversationId,
      content,
      ...(clientMessageId && { clientMessageId }),
    });
  }

  /** The first arguments of all events of this name so far. */
  all(event) {
    return this.received.filter((one) => one.event === event).map((one) => one.args[0]);
  }

  /** All messages of a conversation so far. */
  messages(conversationId) {
    return this.all("message:new").filter((one) => one.conversationId === conversationId);
  }

  /** Waits until a conversation has brought this many messages; returns them. */
  async arrived(conversationId, count, ms = ARRIVAL_MS) {
    const enough = () => this.messages(conversationId).length >= count;
    await this.#until(enough, ms, () => {
      const had = this.messages(conversationId).length;
      return `${this.user} got ${had} of ${count} messages within ${ms} ms`;
    });
    return this.messages(conversationId);
  }

  /** Waits for an event of this name that `matches`; returns its record. */
  async saw(event, matches = () => true, ms = ARRIVAL_MS) {
    const find = () => this.received.find((one) => one.event === event && matches(one.args[0]));
    await this.#until(find, ms, () => `${this.user} saw no ${event} within ${ms} ms`);
    return find();
  }

  close() {
    open.delete(this);
    this.socket.disconnect();
  }

  #until(isTrue, ms, explain) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(check);
        reject(new Error(explain()));
      }, ms);
      const check = () => {
        if (!isTrue()) return;
        clearTimeout(timer);
        this.waiting.delete(check);
        resolve();
      };
      this.waiting.add(check);
      check();
    });
  }
}

/** Two users, connected and in one conversation that nobody else uses. */
export async function pair(options) {
  const conversationId = unique("talk");
  const [ada, bo] = await Promise.all([
    Peer.connect(unique("ada"), options),
    Peer.connect(unique("bo"), options),
  ]);
  await Promise.all([ada.join(conversationId), bo.join(conversationId)]);
  return { ada, bo, conversationId };
}

/** Fails unless this is `{ok: false, error: {code, message, ...}}`, with one of these codes. */
export function assertRefused(ack, codes, why = "") {
  const shown = `${why} ${JSON.stringify(ack)}`;
  assert.equal(ack?.ok, false, shown);
  assert.ok(CODES.includes(ack.error?.code), shown);
  assert.ok([codes].flat().includes(ack.error.code), `${shown}, expected ${codes}`);
  assert.equal(typeof ack.error.message, "string", shown);
  assert.ok(ack.error.message.length > 0, shown);
  const known = ["code", "message", "field", "retryAfterMs"];
  assert.deepEqual(Object.keys(ack.error).filter((key) => !known.includes(key)), [], shown);
}

/** Fails unless places rise strictly; and by exactly one each, when nothing else is in the room. */
export function assertInOrder(messages, { dense = true } = {}) {
  for (let i = 1; i < messages.length; i += 1) {
    const [before, after] = [messages[i - 1], messages[i]];
    const shown = `${before.epoch}-${before.seq} then ${after.epoch}-${after.seq}`;
    const rises = after.epoch > before.epoch || after.seq > before.seq;
    assert.ok(after.epoch >= before.epoch && rises, shown);
    if (dense && after.epoch === before.epoch) assert.equal(after.seq, before.seq + 1, shown);
  }
}

/** Declares the same tests once for each transport. */
export function onEachTransport(describe, declare) {
  for (const [name, options] of Object.entries(TRANSPORTS)) {
    describe(name, () => declare(options, name));
  }
}
