// Somebody who sends and listens as an application would: sends again until it is acknowledged, keeps its own
// place in every room, and reads history anew when it is told that it must.

import { io } from "./stock.js";

const ACK_MS = 10_000;
/** Refusals that say "try again". */
const AGAIN = new Set(["unavailable", "overloaded", "rate_limited"]);
const AGAIN_AFTER_MS = 250;
const PAGE = 200;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Which of two places comes first. */
export const compare = (a, b) => a.epoch - b.epoch || a.seq - b.seq;

/** The node whose session this is: a session id names it behind its first character. */
export const nodeOf = (sid) => sid.slice(1, 5);

/** A room as one member sees it. */
class Place {
  constructor(room) {
    this.room = room;
    this.last = undefined;
    /** Up to here it was read, and may come live once more. */
    this.read = { epoch: 0, seq: 0 };
    this.isIn = false;
    /** Its session was put into the room, and knows it when it comes back. */
    this.isKept = false;
    /** What came while it was catching up. */
    this.waiting = [];
    /** All it was shown, in the order shown; since the last reload, if it was told to. */
    this.shown = [];
    this.ids = new Set();
    /** When it was told to read everything anew, and why. */
    this.reloads = [];
  }

  /** Forgets what was shown, as an application does that loads a page of history in its place. */
  reset(reason) {
    this.reloads.push({ reason, at: Date.now() });
    Object.assign(this, { last: undefined, shown: [], ids: new Set() });
  }
}

export class Member {
  /**
   * `plan`: `{url, token(user)}`. `link`: its own way to the balancer, a proxy, if it has one. `isDoubting`: it
   * sends everything once more after it was acknowledged.
   */
  constructor(plan, name, rooms, { transports, link, isDoubting = false } = {}) {
    Object.assign(this, { plan, name, transports, link, isDoubting });
    this.url = link ? `http://127.0.0.1:${link.port}` : plan.url;
    this.places = new Map(rooms.map((room) => [room, new Place(room)]));
    this.nodes = new Set();
    /** Counts them: what belongs to an earlier one is over. */
    this.connection = 0;
    this.losses = [];
    this.backs = [];
    this.wrongs = [];
    this.degraded = {};
    this.counts = { recovered: 0, retries: 0, refusals: {}, missed: 0, pages: 0, reloads: {}, overlaps: 0 };
    /** What it sent: `{id, room, client, at, ackedAt, seenAt, attempts, session}`. */
    this.sends = [];
    this.sentBy = new Map();
  }

  /** Connects and enters its rooms. */
  async connect() {
    this.isClosed = false;
    this.socket = io(this.url, {
      auth: { token: this.plan.token(this.name) },
      forceNew: true,
      transports: this.transports,
      reconnectionDelayMax: 2_000,
    });
    const { socket } = this;
    socket.on("disconnect", (reason, details) => this.#lost(reason, details));
    socket.on("connect_error", () => this.#notLetIn(socket));
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
    this.connection += 1;
    this.socket.disconnect();
  }

  /** What the judge needs of it. */
  record() {
    const { name, isPatient, nodes, losses, backs, wrongs, degraded, counts, sends } = this;
    const places = [...this.places.values()].map(({ room, shown, reloads }) => ({ room, shown, reloads }));
    return { name, isPatient, nodes: [...nodes], losses, backs, wrongs, degraded, counts, sends, places };
  }

  #wrong(what) {
    this.wrongs.push(`${this.name}: ${what}${this.socket.recovered ? " (its session was recovered)" : ""}`);
  }

  #lost(reason, details) {
    if (this.isClosed) return;
    this.connection += 1;
    const { node, connectedAt: since } = this;
    const answer = details?.context?.responseText;
    const why = answer ? `${details.context.status} ${answer}` : details?.description?.message;
    this.losses.push({ reason, why, at: Date.now(), since, node, isCarried: this.isCarried });
    this.lostAt ??= Date.now();
    for (const place of this.places.values()) place.isIn = false;
    // The stock client takes the end of its namespace for a wish.
    if (reason === "io server disconnect") this.#notLetIn(this.socket);
  }

  async #notLetIn(socket) {
    if (socket.active && socket.io.reconnection()) return;
    await pause(AGAIN_AFTER_MS);
    if (!this.isClosed && !socket.connected) socket.connect();
  }

  async #enter() {
    const { socket } = this;
    // The id of the socket stays when its session is recovered.
    const connection = this.connection;
    this.node = nodeOf(socket.io.engine.id);
    this.nodes.add(this.node);
    this.connectedAt = Date.now();
    // Polls come by any node, and so does the WebSocket that they become.
    this.isCarried = this.transports.includes("polling");
    // A client that got its session back has all the rooms that it had then, and what it missed comes by itself. One
    // whose join was not answered is none of them: a session of its own may have begun after the one that had it.
    if (socket.recovered) this.counts.recovered += 1;
    for (const place of this.places.values()) {
      place.isKept &&= socket.recovered;
      place.isIn = place.isKept;
    }
    const rooms = [...this.places.values()].filter((place) => !place.isIn);
    await Promise.all(rooms.map((place) => this.#join(place, connection)));
    if (this.connection !== connection) return;
    if (this.lostAt) this.backs.push(Date.now() - this.lostAt);
    this.lostAt = undefined;
    this.resolveEntered();
  }

  /** Into a room, with everything since the last place; again until it succeeds. */
  async #join(place, connection) {
    const conversationId = place.room;
    place.waiting = [];
    for (;;) {
      const after = place.last;
      const ack = await this.#ask("join:conversation", { conversationId, ...(after && { after }) });
      if (this.connection !== connection) return;
      if (!ack.ok) {
        await pause(this.#refused("join", ack));
        if (this.connection !== connection) return;
        continue;
      }
      if (after && !ack.complete) {
        // Told to begin anew: all that there is, is in history.
        this.counts.reloads[ack.reason] = (this.counts.reloads[ack.reason] ?? 0) + 1;
        if (!await this.#reload(place, ack, connection)) return;
        continue;
      }
      this.counts.missed += ack.missed.length;
      for (const { data } of ack.missed) this.#take(place, data, false);
      place.last ??= { epoch: ack.epoch, seq: ack.seq };
      if (!ack.next) break;
      this.counts.pages += 1;
    }
    place.read = place.last;
    place.isIn = true;
    place.isKept = true;
    for (const message of place.waiting.splice(0)) this.#take(place, message, true);
  }

  /** Reads all of a room in place of what was shown. False when the connection was lost meanwhile. */
  async #reload(place, { reason, epoch, seq }, connection) {
    const { all, problem } = await readHistory(this.plan, this.name, place.room, () => this.connection !== connection);
    if (this.connection !== connection) return false;
    if (problem) {
      this.#wrong(`${place.room} is to be read anew and cannot be: ${problem}`);
      return false;
    }
    place.reset(reason);
    for (const message of all) this.#take(place, message, false);
    place.last ??= { epoch, seq };
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
    while (Date.now() < end && !send.id) {
      send.attempts += 1;
      send.session = this.socket.id;
      const ack = await this.#ask("message:send", data);
      if (ack.ok) {
        send.id = ack.id;
        send.ackedAt = Date.now();
      } else {
        this.counts.retries += 1;
        await pause(this.#refused("send", ack));
      }
    }
    if (!send.id || !this.isDoubting) return;
    const again = await this.#ask("message:send", data);
    if (again.ok && again.id !== send.id) this.#wrong(`${client} is ${send.id}, and ${again.id} when sent again`);
  }

  /** Whether it sees somebody online; undefined when it cannot be said. */
  async sees(userId) {
    return (await this.#ask("presence:query", { userId })).online;
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

/**
 * All of a room from history, asked of whichever node the balancer takes: `{all}`, or what was read and a
 * `problem`. While the archive is down pages are refused or marked; that is waited for.
 */
export async function readHistory({ url, token, settleMs }, reader, room, isOver = () => false) {
  const authorization = `Bearer ${token(reader)}`;
  const end = Date.now() + settleMs;
  const all = [];
  let after = "0";
  for (;;) {
    const path = `/api/conversations/${room}/messages?after=${after}&limit=${PAGE}`;
    const answer = await fetch(url + path, { headers: { authorization } }).catch((error) => error);
    const page = answer.ok ? await answer.json().catch(() => undefined) : undefined;
    if (isOver()) return { all, problem: "nobody waits for it" };
    if (!page || page.stale) {
      if (Date.now() > end) return { all, problem: page ? "stale" : `${answer.status ?? answer}` };
      await pause(AGAIN_AFTER_MS);
      continue;
    }
    if (page.messages.length === 0) return { all };
    all.push(...page.messages);
    const { epoch, seq } = all.at(-1);
    after = `${epoch}-${seq}`;
  }
}
