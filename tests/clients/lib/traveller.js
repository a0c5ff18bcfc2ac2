// A peer that loses its connection and comes back by itself, as the stock client does.

import assert from "node:assert/strict";
import { io } from "socket.io-client";
import { token, url } from "./node.js";
import { eventually, once, Peer } from "./peer.js";

/** What the client sends when it comes back. The names are the stock client's own. */
export function memory(socket) {
  return { pid: socket._pid, offset: socket._lastOffset };
}

export class Traveller extends Peer {
  /** Connects; `to`: another address than the node under test. */
  static async start(user, { to = url, rooms, ...options } = {}) {
    const socket = io(to, {
      forceNew: true,
      autoConnect: false,
      reconnectionDelay: 20,
      reconnectionDelayMax: 200,
      auth: { token: await token(user, rooms) },
      ...options,
    });
    const traveller = new Traveller(user, socket);
    const connected = once(socket, "connect");
    socket.connect();
    await connected;
    assert.equal(typeof socket._pid, "string", "no private id");
    return traveller;
  }

  /** What the node that it is connected to is called in session ids. */
  node() {
    return this.socket.io.engine.id.slice(1, 5);
  }

  /** Loses the connection; the client comes back by itself. */
  drop() {
    const { engine } = this.socket.io;
    // In the middle of an upgrade `close` waits for its end, which comes with a last poll's answer: what is in
    // that the client keeps for after the disconnect, and does not count as seen.
    if (engine.upgrading) engine.once("upgrade", () => setTimeout(() => engine.close()));
    else engine.close();
  }

  /** Resolves when it is connected again. */
  back() {
    return once(this.socket, "connect", 20_000);
  }

  /** Loses the connection and comes back. */
  async dropAndBack() {
    const back = this.back();
    this.drop();
    await back;
  }

  /** Another client with this one's memory, somewhere else perhaps; this one stays as it is. */
  async twin({ to = url, claims, ...options } = {}) {
    const socket = io(to, {
      forceNew: true,
      autoConnect: false,
      reconnection: false,
      auth: { token: await token(claims ?? this.user) },
      ...options,
    });
    const { pid, offset } = memory(this.socket);
    socket._pid = pid;
    socket._lastOffset = offset;
    return new Traveller(this.user, socket);
  }

  /** Connects a twin. */
  async arrive() {
    const connected = once(this.socket, "connect");
    this.socket.connect();
    await connected;
    return this;
  }

  /** The texts of a conversation's messages, in the order in which they came. */
  texts(conversationId) {
    return this.messages(conversationId).map((message) => message.content);
  }

  /** Waits until a conversation has brought exactly these texts. */
  async hasExactly(conversationId, texts, ms = 15_000) {
    await eventually(`${texts.length} texts`, () => this.texts(conversationId).length >= texts.length, ms)
      .catch(() => {});
    const seen = this.texts(conversationId);
    const at = texts.findIndex((text, i) => seen[i] !== text);
    const near = `${seen.length} of ${texts.length}; first other at ${at}: ${seen.slice(Math.max(0, at - 2), at + 6)}`;
    assert.ok(at === -1 && seen.length === texts.length, near);
  }
}

/** `from` to `to` as texts. */
export function numbers(from, to) {
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`);
}
