// What this user does to conversations: send, edit, delete, react, read, type.
//
// A message is sent until the log has it, each time under the same `clientMessageId`, so that it is
// one message however often it takes. A refusal that says how long to wait holds all that is unsent.

import { newId, Refusal } from "./api.js";

// A typing notice expires after 3 s at the gateway; renewing it each 2 s keeps it alive.
const TYPING_RENEW_MS = 2000;
const TYPING_IDLE_MS = 2500;
// Reading is told once for many messages.
const READ_AFTER_MS = 400;

export class Outgoing {
  #store;
  #link;
  #rooms;
  #failed;
  #typingIn = null;
  #typingSince = 0;
  #typingIdle;
  #readTimers = new Map();

  /** `failed(refusal, what)` hears what a person has to be told. */
  constructor({ store, link, rooms, failed }) {
    this.#store = store;
    this.#link = link;
    this.#rooms = rooms;
    this.#failed = failed;
  }

  close() {
    clearTimeout(this.#typingIdle);
    for (const timer of this.#readTimers.values()) clearTimeout(timer);
  }

  send(conversation, content) {
    this.stopTyping();
    conversation.firstUnread = null;
    conversation.compose(content, newId(), new Date().toISOString());
    this.#store.changed("log", "list");
    this.flush(conversation);
  }

  /** Sends a refused message again: as a new one, since the gateway decided about the old. */
  resend(conversation, entry) {
    conversation.discard(entry);
    this.send(conversation, entry.content);
  }

  discard(conversation, entry) {
    conversation.discard(entry);
    this.#store.changed("log", "list");
  }

  /** Sends what is unsent, in order. */
  flush(conversation) {
    if (!this.#rooms.isIn(conversation.id)) return;
    for (const entry of conversation.unsent()) this.#transmit(conversation, entry);
  }

  flushAll() {
    for (const conversation of this.#store.conversations.values()) this.flush(conversation);
  }

  async edit(conversation, message, content) {
    const before = { content: message.content, editedAt: message.editedAt };
    if (content === message.content) return;
    const change = { id: message.id, content, editedAt: new Date().toISOString() };
    conversation.apply("message:edited", change, this.#store.me.id);
    this.#store.changed("log", "list");
    await this.#try("edit", () => this.#link.ask("message:edit", { messageId: message.id, content }), () => {
      conversation.apply("message:edited", { id: message.id, ...before }, this.#store.me.id);
    });
  }

  remove(message) {
    return this.#try("delete", () => this.#link.ask("message:delete", { messageId: message.id }));
  }

  /** Adds this user's reaction, or takes it back. */
  async react(conversation, message, emoji) {
    const { me } = this.#store;
    const { id: messageId } = message;
    const mine = message.reactions?.find((one) => one.emoji === emoji);
    const isOn = Boolean(mine?.users?.includes(me.id));
    const count = (mine?.count ?? 0) + (isOn ? -1 : 1);
    const [on, off] = ["reaction:added", "reaction:removed"];
    const shown = { messageId, userId: me.id, emoji, count };
    conversation.apply(isOn ? off : on, shown, me.id);
    this.#store.changed("log");
    const event = isOn ? "reaction:remove" : "reaction:add";
    await this.#try("react", () => this.#link.ask(event, { messageId, emoji }), () => {
      conversation.apply(isOn ? on : off, { ...shown, count: mine?.count ?? 0 }, me.id);
    });
  }

  /** All that is there has been read. Told a moment later, once for what comes in that moment. */
  read(conversation) {
    const { me } = this.#store;
    const last = conversation.settled.at(-1);
    if (!last || last.seq <= (conversation.cursors.get(me.id) ?? 0)) {
      if (conversation.unread > 0) {
        conversation.unread = 0;
        this.#store.changed("list");
      }
      return;
    }
    const hadUnread = conversation.unread > 0;
    conversation.readUpTo(me.id, last.seq, me.id);
    if (hadUnread) this.#store.changed("list");
    clearTimeout(this.#readTimers.get(conversation.id));
    const timer = setTimeout(() => this.#tellRead(conversation), READ_AFTER_MS);
    this.#readTimers.set(conversation.id, timer);
  }

  /** Call at each key: says so to the others, at most once per renewal. */
  isTyping(conversation) {
    clearTimeout(this.#typingIdle);
    this.#typingIdle = setTimeout(() => this.stopTyping(), TYPING_IDLE_MS);
    const isNew = this.#typingIn !== conversation.id;
    if (isNew) this.stopTyping();
    if (!this.#rooms.isIn(conversation.id)) return;
    if (!isNew && Date.now() - this.#typingSince < TYPING_RENEW_MS) return;
    this.#typingIn = conversation.id;
    this.#typingSince = Date.now();
    this.#typingIdle = setTimeout(() => this.stopTyping(), TYPING_IDLE_MS);
    this.#link.tell("typing:start", { conversationId: conversation.id });
  }

  stopTyping() {
    clearTimeout(this.#typingIdle);
    if (!this.#typingIn) return;
    this.#link.tell("typing:stop", { conversationId: this.#typingIn });
    this.#typingIn = null;
  }

  async #tellRead(conversation) {
    const { id, cursors } = conversation;
    const upTo = cursors.get(this.#store.me.id);
    if (!this.#rooms.isIn(id)) return;
    // What is lost here is told again with the next message.
    await this.#link.ask("message:read", { conversationId: id, upTo }).catch(() => {});
  }

  /** The gateway wants a message later; it is sent again by itself. */
  delayed({ clientMessageId, refusal, waitMs }) {
    for (const { pending } of this.#store.conversations.values()) {
      const entry = pending.find((one) => one.clientMessageId === clientMessageId);
      if (!entry) continue;
      entry.waitUntil = Date.now() + waitMs;
      entry.waitsFor = refusal.code;
    }
    if (refusal.code === "rate_limited") this.#failed(refusal, "send");
    this.#store.changed("log", "list");
  }

  async #transmit(conversation, entry) {
    const { clientMessageId, content } = entry;
    entry.inFlight = true;
    try {
      const sent = { conversationId: conversation.id, content };
      const ack = await this.#link.deliver("message:send", sent, clientMessageId);
      conversation.acknowledge(entry, ack.id);
    } catch (refusal) {
      conversation.refuse(entry, refusal.message);
      this.#failed(refusal, "send");
    }
    entry.inFlight = false;
    this.#store.changed("log", "list");
  }

  async #try(what, ask, undo) {
    try {
      if (!this.#link.isConnected) throw new Refusal({ message: "Not connected. Try again in a moment." });
      await ask();
    } catch (refusal) {
      undo?.();
      this.#failed(refusal, what);
    }
    this.#store.changed("log", "list");
  }
}
