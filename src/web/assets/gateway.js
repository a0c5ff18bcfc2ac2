// The page's side of the gateway: tokens and history over REST, everything else over one socket.
//
// Keeps a conversation complete: history first, then a join that says what was seen last, so that
// what happened between the two, and during every lost connection, arrives as `missed`. Sends what is
// pending until the log has it, each time under the same `clientMessageId`.
//
// Shows nothing: it calls `changed()` when the conversation changed, and the other callbacks below.

import { io } from "./socket.io.esm.min.js";

const PAGE = 50;
const ACK_TIMEOUT_MS = 8000;
const RETRY_MS = 1000;
// A typing notice expires after 3 s at the gateway; renewing it each 2 s keeps it alive.
const TYPING_RENEW_MS = 2000;
const TYPING_IDLE_MS = 2500;
// A reload that does not close the gap either is not tried for ever.
const RELOADS_MAX = 2;
// Why a join could not tell what was missed, for a person.
const REASONS = {
  trimmed: "the absence was too long to list all that was missed",
  epoch_changed: "the room was put in order again",
  epoch_unknown: "this node does not know the place that was reached",
  position_unknown: "this node does not know the place that was reached",
};
const RETRYABLE = new Set(["overloaded", "unavailable", "rate_limited"]);

/** A refusal, with the gateway's code. */
export class Refusal extends Error {
  constructor({ code = "unavailable", message, retryAfterMs } = {}) {
    super(message || code);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }

  get isRetryable() {
    return RETRYABLE.has(this.code);
  }
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(15_000) });
  } catch {
    throw new Refusal({ code: "unavailable", message: "The node does not answer." });
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const message = body.detail || body.message || `The node answered ${response.status}.`;
  throw new Refusal({ ...body, message });
}

/** A token for a name; only nodes in development mode give one. */
export function developmentToken(user) {
  return request("/api/development/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user }),
  });
}

/** The user a token names. Only for display: the gateway is the one who checks it. */
export function userOf(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(claims), (c) => c.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes));
    return typeof sub === "string" && sub !== "" ? sub : null;
  } catch {
    return null;
  }
}

function newId() {
  // Not crypto.randomUUID: that one is missing where the page is served over plain HTTP.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * One user in one conversation. Callbacks: `changed()`, `state(name)`, `notice(text)`,
 * `message(message)` for each that arrives live, `typing(userId, isTyping)`, and `refused(refusal)`
 * when the gateway will not let this user in.
 */
export class Gateway {
  #callbacks;
  #conversation;
  #socket;
  #token;
  #entering = 0;
  #isIn = false;
  #wasIn = false;
  #typingSince = 0;
  #typingIdle;

  constructor(conversation, token, callbacks) {
    this.#conversation = conversation;
    this.#token = token;
    this.#callbacks = callbacks;
    this.#socket = io({
      auth: { token },
      forceNew: true,
      transports: ["websocket", "polling"],
      tryAllTransports: true,
    });
    this.#listen();
  }

  /** Tries again after the gateway has ended the connection. */
  reconnect() {
    this.#callbacks.state("connecting");
    this.#socket.connect();
  }

  close() {
    this.#entering += 1;
    clearTimeout(this.#typingIdle);
    this.#socket.disconnect();
  }

  send(content) {
    this.stopTyping();
    this.#conversation.compose(content, newId(), new Date().toISOString());
    this.#callbacks.changed();
    this.#flush();
  }

  /** Sends a refused message again: as a new one, since the gateway decided about the old. */
  resend(entry) {
    this.#conversation.discard(entry);
    this.send(entry.content);
  }

  /** Call at each key: says so to the others, at most once per renewal. */
  isTyping() {
    clearTimeout(this.#typingIdle);
    this.#typingIdle = setTimeout(() => this.stopTyping(), TYPING_IDLE_MS);
    if (!this.#isIn || Date.now() - this.#typingSince < TYPING_RENEW_MS) return;
    this.#typingSince = Date.now();
    this.#socket.emit("typing:start", { conversationId: this.#conversation.id });
  }

  stopTyping() {
    clearTimeout(this.#typingIdle);
    if (this.#typingSince === 0) return;
    this.#typingSince = 0;
    if (!this.#isIn) return;
    this.#socket.emit("typing:stop", { conversationId: this.#conversation.id });
  }

  /** The page of history before what is shown. */
  async loadOlder() {
    const conversation = this.#conversation;
    const [oldest] = conversation.settled;
    if (!oldest) return;
    const { messages } = await this.#history(`before=${oldest.epoch}-${oldest.seq}&`);
    conversation.addPage(messages, messages.length === PAGE);
    this.#callbacks.changed();
  }

  #listen() {
    const socket = this.#socket;
    const { id } = this.#conversation;
    socket.on("connect", () => this.#enter());
    socket.on("disconnect", (reason) => {
      this.#entering += 1;
      this.#isIn = false;
      this.#callbacks.state(reason === "io server disconnect" ? "ended" : "reconnecting");
    });
    socket.on("connect_error", (error) => this.#notConnected(error));
    socket.on("message:new", (message) => {
      if (message.conversationId !== id) return;
      if (this.#conversation.arrived(message)) this.#callbacks.message(message);
      this.#callbacks.changed();
    });
    for (const [event, isTyping] of [["typing:start", true], ["typing:stop", false]]) {
      socket.on(event, (data) => {
        if (data.conversationId === id) this.#callbacks.typing(data.userId, isTyping);
      });
    }
  }

  #notConnected(error) {
    this.#isIn = false;
    if (this.#socket.active) {
      this.#callbacks.state("reconnecting");
      return;
    }
    // The gateway itself said no; the client does not try again by itself.
    const refusal = new Refusal(error.data || { code: "unauthenticated", message: error.message });
    if (!refusal.isRetryable) {
      this.#callbacks.refused(refusal);
      return;
    }
    this.#callbacks.state("reconnecting");
    const attempt = ++this.#entering;
    pause(refusal.retryAfterMs ?? RETRY_MS).then(() => {
      if (attempt === this.#entering) this.#socket.connect();
    });
  }

  // Runs at each connect, until it is in, refused, or overtaken by the next connect.
  async #enter() {
    const attempt = ++this.#entering;
    const isCurrent = () => attempt === this.#entering && this.#socket.connected;
    while (isCurrent()) {
      try {
        const told = await this.#catchUp(isCurrent);
        if (!isCurrent()) return;
        this.#isIn = true;
        this.#callbacks.state("connected");
        if (this.#wasIn) this.#callbacks.notice(told);
        this.#wasIn = true;
        this.#callbacks.changed();
        this.#flush();
        return;
      } catch (refusal) {
        if (!isCurrent()) return;
        if (!refusal.isRetryable) {
          this.#callbacks.refused(refusal);
          return;
        }
        await pause(refusal.retryAfterMs ?? RETRY_MS);
      }
    }
  }

  // Joins, and fetches everything after what was seen. Says what happened, for a person.
  async #catchUp(isCurrent) {
    const conversation = this.#conversation;
    let reloaded = "";
    let reloads = 0;
    let missed = 0;
    conversation.catchingUp = true;
    if (!conversation.loaded) await this.#load();
    for (;;) {
      if (!isCurrent()) return "";
      const answer = await this.#ask("join:conversation", {
        conversationId: conversation.id,
        ...(conversation.seen && { after: conversation.seen }),
      });
      if (answer.complete === false && conversation.seen) {
        reloaded = `Reloaded: ${REASONS[answer.reason] ?? "the gap could not be closed"}.`;
        conversation.reset();
        await this.#load();
        // History and join may still have a gap between them: join again from what was loaded.
        reloads += 1;
        if (conversation.seen && reloads <= RELOADS_MAX) continue;
      }
      const events = answer.missed ?? [];
      for (const { event, data } of events) {
        if (event === "message:new") missed += conversation.settle(data) ? 1 : 0;
        if (data && data.epoch !== undefined) conversation.sawUpTo(data);
      }
      if (answer.next && events.length > 0) continue;
      conversation.catchingUp = false;
      conversation.sawUpTo(answer);
      const last = conversation.settled.at(-1);
      if (last) conversation.sawUpTo(last);
      const count = `${missed} ${missed === 1 ? "message" : "messages"}`;
      return reloaded || (missed > 0 ? `Caught up ${count}.` : "Caught up, nothing was missed.");
    }
  }

  async #load() {
    const conversation = this.#conversation;
    const { messages, epoch } = await this.#history("");
    conversation.addPage(messages, messages.length === PAGE);
    conversation.loaded = true;
    if (messages.length > 0) conversation.sawUpTo(messages.at(-1));
    else if (Number.isInteger(epoch)) conversation.sawUpTo({ epoch, seq: 0 });
    this.#callbacks.changed();
  }

  #history(query) {
    const id = encodeURIComponent(this.#conversation.id);
    return request(`/api/conversations/${id}/messages?${query}limit=${PAGE}`, {
      headers: { Authorization: `Bearer ${this.#token}` },
    });
  }

  async #ask(event, data) {
    let answer;
    try {
      answer = await this.#socket.timeout(ACK_TIMEOUT_MS).emitWithAck(event, data);
    } catch {
      throw new Refusal({ code: "unavailable", message: "The node does not answer." });
    }
    if (answer?.ok) return answer;
    throw new Refusal(answer?.error);
  }

  // Sends what is unsent, in order. What stays unanswered is sent again, under the same id.
  #flush() {
    if (!this.#isIn) return;
    for (const entry of this.#conversation.unsent()) this.#transmit(entry);
  }

  async #transmit(entry) {
    const { clientMessageId, content } = entry;
    const conversationId = this.#conversation.id;
    entry.inFlight = true;
    try {
      const ack = await this.#ask("message:send", { conversationId, content, clientMessageId });
      this.#conversation.acknowledge(entry, ack.id);
    } catch (refusal) {
      if (!refusal.isRetryable) this.#conversation.refuse(entry, refusal.message);
      else if (this.#isIn) await pause(refusal.retryAfterMs ?? RETRY_MS);
    }
    entry.inFlight = false;
    this.#callbacks.changed();
    if (entry.state === "sending") this.#flush();
  }
}
