// Somebody who sends and listens as an application would: sends again until it is acknowledged, and keeps its
// own place in every room.

import { io } from "socket.io-client";

const ACK_MS = 10_000;
/** Refusals that say "try again". */
const AGAIN = new Set(["unavailable", "overloaded", "rate_limited"]);
const AGAIN_AFTER_MS = 250;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Which of two places comes first. */
export const compare = (a, b) => a.epoch - b.epoch || a.seq - b.seq;

/** The node whose session this is: a session id names it behind its first character. */
const nodeOf = (socket) => socket.io.engine.id.slice(1, 5);

/** A room as one member sees it. */
class Place {
  constructor(room) {
    this.room = room;
    this.last = undefined;
    /** Up to here it was read, and may come live once more. */
    this.read = { epoch: 0, seq: 0 };
    this.isIn = false;
    /** What came while it was catching up. */
    this.waiting = [];
    /** All it was shown, in the order shown. */
    this.shown = [];
    this.ids = new Set();
  }
}

export class Member {
  constructor(plan, name, rooms, transports) {
    Object.assign(this, { plan, name, transports });
    this.places = new Map(rooms.map((room) => [room, new Place(room)]));
    this.nodes = new Set();
    this.losses = [];
    this.backs = [];
    this.wrongs = [];
    this.degraded = {};
    this.counts = { retries: 0, refusals: {}, missed: 0, pages: 0, reloads: {}, overlaps: 0 };
    /** What it sent: `{id, room, client, at, ackedAt, seenAt, attempts, isFirst}`. */
    this.sends = [];
    this.sentBy = new Map();
  }

  /** Connects and enters its rooms. */
  async connect() {
    this.socket = io(this.plan.url, {
      auth: { token: this.plan.token(this.name) },
      forceNew: true,
      transports: this.transports,
    });
    const { socket } = this;
    socket.on("disconnect", (reason) => this.#lost(reason));
    socket.on("message:new", (message) => this.#heard(message));
    socket.on("degraded", ({ what, until }) => {
      const name = `${what}${until ? " over" : ""}`;
      this.degraded[name] = (this.degraded[name] ?? 0) + 1;
    });
    const entered = new Promise((resolve) => { this.resolveEntered = resolve; });
    socket.on("connect", () => this.#enter());
    await entered;
  }

  close() {
    this.isClosed = true;
    this.socket.disconnect();
  }

  #wrong(what) {
    this.wrongs.push(`${this.name}: ${what}`);
  }

  #lost(reason) {
    if (this.isClosed) return;
    this.losses.push({ reason, at: Date.now() });
    this.lostAt ??= Date.now();
    for (const place of this.places.values()) place.isIn = false;
  }

  async #enter() {
    const { socket } = this;
    const session = socket.id;
    this.nodes.add(nodeOf(socket));
    // A client that got its session back has all its rooms, and what it missed comes by itself.
    if (socket.recovered) for (const place of this.places.values()) place.isIn = place.last !== undefined;
    const rooms = [...this.places.values()].filter((place) => !place.isIn);
    await Promise.all(rooms.map((place) => this.#join(place, session)));
    if (socket.id !== session) return;
    if (this.lostAt) this.backs.push(Date.now() - this.lostAt);
    this.lostAt = undefined;
    this.resolveEntered();
  }

  /** Into a room, with everything since the last place; again until it succeeds. */
  async #join(place, session) {
    const conversationId = place.room;
    place.waiting = [];
    for (;;) {
      const after = place.last;
      const ack = await this.#ask("join:conversation", { conversationId, ...(after && { after }) });
      if (this.socket.id !== session) return;
      if (!ack.ok) {
        await pause(this.#refused("join", ack));
        if (this.socket.id !== session) return;
        continue;
      }
      if (after && !ack.complete) {
        // Told to begin anew: what it missed is in history.
        this.counts.reloads[ack.reason] = (this.counts.reloads[ack.reason] ?? 0) + 1;
        const top = { epoch: ack.epoch, seq: ack.seq };
        if (!await this.#reload(place, top)) continue;
      }
      this.counts.missed += ack.missed.length;
      for (const { data } of ack.missed) this.#take(place, data, ack.complete === false);
      place.last ??= { epoch: ack.epoch, seq: ack.seq };
      if (!ack.next) break;
      this.counts.pages += 1;
    }
    if (place.last) place.read = place.last;
    place.isIn = true;
    for (const message of place.waiting.splice(0)) this.#take(place, message, true);
  }

  /** Reads what it has not seen yet, up to a place. */
  async #reload(place, top) {
    while (compare(place.last, top) < 0) {
      const { epoch, seq } = place.last;
      const path = `/api/conversations/${place.room}/messages?limit=200&after=${epoch}-${seq}`;
      const authorization = `Bearer ${this.plan.token(this.name)}`;
      const answer = await fetch(this.plan.url + path, { headers: { authorization } }).catch(() => undefined);
      if (!answer?.ok) return false;
      const { messages } = await answer.json();
      if (messages.length === 0) return true;
      for (const message of messages) this.#take(place, message, true);
    }
    return true;
  }

  #heard(message) {
    const place = this.places.get(message.conversationId);
    if (!place) return this.#wrong(`a message of ${message.conversationId}, where it is not`);
    if (!place.isIn) place.waiting.push(message);
    else this.#take(place, message, compare(message, place.read) <= 0);
  }

  /** Shows a message. `mayOverlap`: what was shown before is left out, as every client does that catches up. */
  #take(place, { epoch, seq, id, userId, content }, mayOverlap) {
    const at = { epoch, seq };
    if (place.ids.has(id)) {
      if (mayOverlap) this.counts.overlaps += 1;
      else this.#wrong(`${place.room} ${epoch}-${seq} ${id} twice`);
      return;
    }
    const { last } = place;
    if (last && compare(at, last) <= 0) {
      this.#wrong(`${place.room} ${epoch}-${seq} after ${last.epoch}-${last.seq}`);
    } else if (last && seq !== last.seq + 1) {
      this.#wrong(`${place.room} ${epoch}-${seq} right after ${last.epoch}-${last.seq}`);
    }
    place.last = at;
    place.ids.add(id);
    place.shown.push({ epoch, seq, id, userId });
    if (userId === this.name) {
      const send = this.sentBy.get(content);
      if (send) send.seenAt ??= Date.now();
    }
  }

  /** Sends a message until it is acknowledged, or the time is over. */
  async send(room, end) {
    const client = `${this.name}-${this.sends.length}`;
    const send = { room, client, at: Date.now(), attempts: 0 };
    this.sends.push(send);
    this.sentBy.set(client, send);
    const data = { conversationId: room, content: client, clientMessageId: client };
    while (Date.now() < end) {
      send.attempts += 1;
      send.session = this.socket.id;
      const ack = await this.#ask("message:send", data);
      if (ack.ok) {
        send.id = ack.id;
        send.ackedAt = Date.now();
        return;
      }
      this.counts.retries += 1;
      await pause(this.#refused("send", ack));
    }
  }

  /** The ack, or that there was none. */
  async #ask(event, data) {
    try {
      return await this.socket.timeout(ACK_MS).emitWithAck(event, data);
    } catch (error) {
      return { ok: false, lost: /disconnect/.test(error.message) ? "disconnected" : "no answer" };
    }
  }

  /** Counts a refusal; how long to wait. */
  #refused(what, { error, lost }) {
    const name = `${what}: ${error?.code ?? lost}`;
    this.counts.refusals[name] = (this.counts.refusals[name] ?? 0) + 1;
    if (error && !AGAIN.has(error.code)) this.#wrong(`${what} is refused: ${JSON.stringify(error)}`);
    return error?.retryAfterMs ?? AGAIN_AFTER_MS;
  }
}
