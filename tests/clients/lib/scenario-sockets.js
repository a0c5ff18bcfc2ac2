// The socket half of scenario.js: writers and readers that outlive their connections.

import assert from "node:assert/strict";
import { history, unique } from "./node.js";
import { assertInOrder, eventually, pause, socketFor } from "./peer.js";

const ACK_MS = 3000;
const RETRY_MS = 100;
const PATIENCE_MS = 60_000;
const PAGE = 200;
const IN_FLIGHT_MAX = 20;
const TRANSPORTS = {
  websocket: ["websocket"],
  polling: ["polling"],
  upgrade: ["polling", "websocket"],
};

/** A user who stays in a conversation across connections, as an application would. */
class Client {
  constructor(user, conversationId, socket) {
    Object.assign(this, { user, conversationId, socket });
    this.isIn = false;
    this.entered = 0;
    this.epoch = 0;
    this.seen = null;
    this.messages = new Map();
    this.reloads = [];
    this.doubled = 0;
    this.acked = [];
    this.wanted = 0;
    socket.on("connect", () => this.#enter());
    socket.on("disconnect", () => { this.isIn = false; });
    socket.on("connect_error", (error) => {
      // A refused CONNECT does not reconnect by itself; a lost transport does.
      if (!socket.active) setTimeout(() => socket.connect(), RETRY_MS);
      this.lastError = error;
    });
    socket.on("message:new", (message) => {
      // Pages of what was missed may overlap with what came meanwhile; what is live is always new.
      if (this.messages.has(message.id)) this.doubled += 1;
      this.#see(message, this.isIn);
    });
  }

  #see(message, advances) {
    if (message.conversationId !== this.conversationId) return;
    const known = this.messages.get(message.id);
    if (known) assert.deepEqual([message.epoch, message.seq], [known.epoch, known.seq]);
    this.messages.set(message.id, message);
    if (advances) this.seen = { epoch: message.epoch, seq: message.seq };
  }

  async ask(event, data) {
    const ack = await this.socket.timeout(ACK_MS).emitWithAck(event, data);
    if (ack.ok) return ack;
    throw Object.assign(new Error(ack.error.message), ack.error);
  }

  async #enter() {
    const attempt = ++this.entered;
    const { conversationId } = this;
    while (attempt === this.entered && this.socket.connected) {
      try {
        const after = this.seen && { after: this.seen };
        const ack = await this.ask("join:conversation", { conversationId, ...after });
        if (!ack.complete) this.reloads.push(ack.reason);
        for (const { data } of ack.missed) this.#see(data, true);
        if (ack.next) continue;
        const last = [...this.messages.values()].sort((a, b) => a.seq - b.seq).at(-1);
        this.seen = last ? { epoch: last.epoch, seq: last.seq } : { epoch: ack.epoch, seq: ack.seq };
        this.isIn = true;
        return;
      } catch {
        await pause(RETRY_MS);
      }
    }
  }

  async write(count, prefix) {
    this.wanted += count;
    // A window, in order: what is sent again may come after later ones, so the window is small and
    // a failure is retried before anything new is sent.
    for (let from = 1; from <= count; from += IN_FLIGHT_MAX) {
      const to = Math.min(count, from + IN_FLIGHT_MAX - 1);
      const window = [];
      for (let i = from; i <= to; i += 1) window.push(this.#sendUntilAcked(`${prefix} ${i}`));
      await Promise.all(window);
    }
  }

  async #sendUntilAcked(content) {
    const { conversationId } = this;
    const message = { conversationId, content, clientMessageId: unique("m") };
    for (;;) {
      try {
        if (this.isIn) {
          const { id } = await this.ask("message:send", message);
          this.acked.push({ id, content });
          return;
        }
      } catch {
        // Lost, refused for now or late: the same again, under the same id.
      }
      await pause(RETRY_MS);
    }
  }
}

/** All of a conversation, from the beginning, page by page. */
async function wholeHistory(conversationId, user) {
  const messages = [];
  let place = "0";
  for (;;) {
    const answer = await history(conversationId, user, `after=${place}&limit=${PAGE}`);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    messages.push(...answer.body.messages);
    if (answer.body.messages.length === 0) return messages;
    const { epoch, seq } = messages.at(-1);
    place = `${epoch}-${seq}`;
  }
}

export async function socketCommands() {
  const clients = new Map();
  const writing = new Map();
  const find = (name) => clients.get(name) ?? assert.fail(`nobody is called ${name}`);
  const inConversation = (id) => [...clients.values()].filter((one) => one.conversationId === id);

  async function check(conversationId) {
    const members = inConversation(conversationId);
    assert.ok(members.length > 0, "nobody is in that conversation");
    const acked = members.flatMap((one) => one.acked);
    let stored = [];
    await eventually("all that was acknowledged in history", async () => {
      stored = await wholeHistory(conversationId, members[0].user);
      const ids = new Set(stored.map((message) => message.id));
      return acked.every(({ id }) => ids.has(id));
    }, PATIENCE_MS);
    const ids = stored.map((message) => message.id);
    assert.equal(new Set(ids).size, ids.length, "something is in history twice");
    const contents = stored.map((message) => `${message.userId} ${message.content}`);
    assert.equal(new Set(contents).size, contents.length, "something was said twice");
    assertInOrder(stored);
    for (const member of members) {
      const missing = () => stored.filter((message) => !member.messages.has(message.id)).length;
      await eventually(`${member.user} to see all`, () => missing() === 0, PATIENCE_MS);
      assert.deepEqual(member.reloads, [], `${member.user} had to reload`);
      assert.equal(member.doubled, 0, `${member.user} was shown something twice`);
      for (const message of stored) assert.deepEqual(member.messages.get(message.id), message);
    }
    const { epoch, seq } = stored.at(-1) ?? { epoch: 0, seq: 0 };
    return { messages: stored.length, acknowledged: acked.length, epoch, seq };
  }

  return {
    async connect(name, conversationId, way = "websocket") {
      const socket = await socketFor(name, {
        transports: TRANSPORTS[way] ?? assert.fail(`no such way: ${way}`),
        reconnection: true,
        reconnectionDelay: 100,
        reconnectionDelayMax: 500,
      });
      const client = new Client(name, conversationId, socket);
      clients.set(name, client);
      socket.connect();
      await eventually(`${name} to be in`, () => client.isIn, PATIENCE_MS);
    },
    write(name, count, ...prefix) {
      writing.set(name, find(name).write(Number(count), prefix.join(" ")));
    },
    async written(name) {
      await writing.get(name);
      return { acknowledged: find(name).acked.length };
    },
    async acknowledged(name, count) {
      const client = find(name);
      await eventually(`${count} acks`, () => client.acked.length >= Number(count), PATIENCE_MS);
      return { acknowledged: client.acked.length };
    },
    async up(name) {
      await eventually(`${name} to be in`, () => find(name).isIn, PATIENCE_MS);
    },
    async down(name) {
      await eventually(`${name} to be out`, () => !find(name).socket.connected, PATIENCE_MS);
    },
    check,
    disconnect(name) {
      find(name).socket.disconnect();
      clients.delete(name);
    },
    close() {
      for (const { socket } of clients.values()) socket.disconnect();
    },
  };
}
