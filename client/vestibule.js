// A client of Vestibule over the official Socket.IO client: nothing lost, nothing twice, and told when not.
//
// It takes a socket of `socket.io-client` and adds what every application would have to write itself: its place in
// each room and rejoining from there, sends that are repeated until they are acknowledged, reconnecting that does
// not come in waves. It knows no DOM and no storage. `README.md` shows how it is used, `vestibule.d.ts` its types.

const ACK_MS = 10_000;
const RETRY_MS = 1_000;
const BACKOFF_MS = 500;
const BACKOFF_MAX_MS = 10_000;
/** Rooms that are joined again at a time. */
const JOINS = 4;
/** A reload that does not close the gap either is not tried for ever. */
const RELOADS_MAX = 2;
/** A connection that lasted so long was good: the next loss begins with the shortest pause again. */
const STABLE_MS = 10_000;
/** Refusals that say "try again". */
const RETRYABLE = new Set(["unavailable", "overloaded", "rate_limited"]);

/** Which of two places comes first: less than 0 if `a` does. */
export const compare = (a, b) => a.epoch - b.epoch || a.seq - b.seq;

/** What the gateway said no to, with its code. */
export class Refusal extends Error {
  constructor({ code = "unavailable", message, field, retryAfterMs } = {}) {
    super(message || code);
    Object.assign(this, { name: "Refusal", code, field, retryAfterMs });
  }

  get isRetryable() {
    return RETRYABLE.has(this.code);
  }
}

/** An id that no other message has. */
export function newId() {
  // Not crypto.randomUUID: browsers have that one only where the page came over TLS.
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const isPlace = (data) => Number.isSafeInteger(data?.epoch) && Number.isSafeInteger(data?.seq);
const placeOf = ({ epoch, seq }) => ({ epoch, seq });

/** What happens in a conversation, with its place there. */
const isOfRoom = (event) => event.startsWith("message:") || event.startsWith("reaction:");

class Room {
  constructor(id, place) {
    this.id = id;
    /** Everything up to here was handed on. */
    this.place = place;
    this.isIn = false;
    /** What came while it was joined. */
    this.held = [];
    /** The join that is under way. */
    this.joining = null;
  }
}

export class Vestibule {
  #listeners = new Map();
  #rooms = new Map();
  #sends = [];
  #inFlight = 0;
  /** Nothing is sent before this time: the gateway said so, or a send has to be repeated first. */
  #resumeAt = 0;
  #timers = new Map();
  #attempts = 0;
  /** Counts connections: what belongs to an earlier one is over. */
  #connection = 0;
  #wasIn = false;
  #isClosed = false;

  constructor(socket, options = {}) {
    this.socket = socket;
    this.options = {
      ackMs: ACK_MS, retryMs: RETRY_MS, backoffMs: BACKOFF_MS, backoffMaxMs: BACKOFF_MAX_MS, stableMs: STABLE_MS,
      inFlight: 1, autoJoin: true, random: Math.random, reload: undefined, ...options,
    };
    /** What does not work at present: what → since. */
    this.degraded = new Map();
    // Its own backoff starts from nothing after each connection, however short.
    socket.io.reconnection(false);
    this.#own("connect", () => this.#connected());
    this.#own("disconnect", (reason) => this.#lost(reason));
    this.#own("connect_error", (error) => this.#notLetIn(error));
    this.#own("degraded", (what) => this.#heardDegraded(what));
    this.#onOpen = () => this.#watch(socket.io.engine);
    socket.io.on("open", this.#onOpen);
    if (socket.io.engine?.readyState === "open") this.#onOpen();
    this.#onAny = (event, data) => this.#heard(event, data);
    socket.onAny(this.#onAny);
    if (socket.connected) this.#connected();
    else socket.connect();
  }

  #onAny;
  #onOpen;
  #owned = [];
  /** Why the socket is being disconnected here. */
  #why;

  /** Listens to `event`, `reload`, `joined`, `connected`, `lost`, `recovered`, `refused`, `degraded`, `delayed`. */
  on(name, listener) {
    const all = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, all.add(listener));
    return this;
  }

  off(name, listener) {
    this.#listeners.get(name)?.delete(listener);
    return this;
  }

  get isConnected() {
    return this.socket.connected;
  }

  /** Sends that were not acknowledged yet. */
  get pending() {
    return this.#sends.length;
  }

  /** Up to where a room's events were handed on; undefined before the first join. */
  place(conversationId) {
    return this.#rooms.get(conversationId)?.place;
  }

  isIn(conversationId) {
    return this.#rooms.get(conversationId)?.isIn ?? false;
  }

  /**
   * Into a room, and to stay: after a lost connection it is joined again from its place. Resolves when nothing up
   * to the answer's place is missing. What was missed comes as `event` before that. @throws {Refusal} for good
   */
  join(conversationId, { after } = {}) {
    let room = this.#rooms.get(conversationId);
    if (!room) {
      room = new Room(conversationId, after && placeOf(after));
      this.#rooms.set(conversationId, room);
    } else if (after && !room.joining) {
      room.place = placeOf(after);
    }
    return this.#enter(room);
  }

  /** Out of a room. */
  leave(conversationId) {
    this.#rooms.delete(conversationId);
    if (this.isConnected) this.socket.emit("leave:conversation", { conversationId });
  }

  /** Sends a message to a conversation until the log has it; resolves with the ack. @throws {Refusal} for good */
  send(conversationId, fields, clientMessageId) {
    return this.deliver("message:send", { conversationId, ...fields }, clientMessageId);
  }

  /**
   * The same for any event that takes a `clientMessageId`. Sends leave in the order of the calls. With `inFlight`
   * 1 that is the order in which the log has them, whatever has to be repeated.
   */
  deliver(event, data, clientMessageId = newId()) {
    return new Promise((resolve, reject) => {
      const sent = { ...data, clientMessageId };
      this.#sends.push({ event, data: sent, attempts: 0, isOut: false, resolve, reject });
      this.#flush();
    });
  }

  /** Asks once. @throws {Refusal} also when there is no answer */
  async ask(event, data) {
    if (!this.isConnected) throw new Refusal({ message: "there is no connection" });
    let answer;
    try {
      answer = await this.socket.timeout(this.options.ackMs).emitWithAck(event, data);
    } catch {
      throw new Refusal({ message: "there is no answer" });
    }
    if (answer?.ok) return answer;
    throw new Refusal(answer?.error);
  }

  /** Tries to connect now instead of after the pause. */
  reconnect() {
    this.#cancel("connect");
    this.#attempts = 0;
    // An attempt that is under way may hang.
    if (!this.isConnected && !this.#isClosed) this.socket.disconnect().connect();
  }

  /** Ends the connection and everything that waits. */
  close() {
    this.#isClosed = true;
    this.#connection += 1;
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
    for (const [event, listener] of this.#owned) this.socket.off(event, listener);
    this.socket.offAny(this.#onAny);
    this.socket.io.off("open", this.#onOpen);
    this.socket.disconnect();
    for (const { reject } of this.#sends.splice(0)) reject(new Refusal({ message: "closed" }));
    this.#tell("closed");
  }

  // The connection.

  #connected() {
    this.#connection += 1;
    this.#cancel("connect");
    this.#later("stable", this.options.stableMs, () => { this.#attempts = 0; });
    // What does not work now is told right after this; an end may have been missed.
    this.degraded.clear();
    const wasRecovered = Boolean(this.socket.recovered);
    if (wasRecovered) {
      // The gateway put it back into its rooms, and what it missed comes as if it were live.
      for (const room of this.#rooms.values()) if (!room.joining && room.place) room.isIn = true;
    }
    this.#tell("connected", { isRecovered: wasRecovered });
    this.#flush();
    this.#enterAll(wasRecovered);
  }

  #lost(reason) {
    this.#connection += 1;
    this.#cancel("stable");
    for (const room of this.#rooms.values()) {
      room.isIn = false;
      room.held = [];
    }
    // Before anybody is told, who may ask to reconnect at once.
    if (reason !== "io client disconnect") this.#connectLater();
    this.#tell("lost", this.#why ?? reason);
  }

  /**
   * When the WebSocket breaks after it was found to work and before it is used, the stock client polls no more and
   * sends nothing: it waits until pings have not come for long enough. There is nothing to wait for.
   */
  #watch(engine) {
    let isUpgrading = false;
    engine.on("upgrading", () => { isUpgrading = true; });
    engine.on("upgrade", () => { isUpgrading = false; });
    engine.on("upgradeError", () => {
      if (!isUpgrading || engine !== this.socket.io.engine || engine.readyState !== "open") return;
      this.#why = "upgrade error";
      this.socket.disconnect();
      this.#why = undefined;
      if (!this.socket.active) this.#connectLater();
    });
  }

  #notLetIn(error) {
    // A socket that is not active any more was told no; else there was no connection.
    const refusal = !this.socket.active && new Refusal(error.data ?? { code: "unauthenticated", message: error.message });
    if (refusal && !refusal.isRetryable) {
      this.#tell("refused", refusal);
      return;
    }
    this.#connectLater(refusal ? refusal.retryAfterMs : 0);
  }

  /** Full jitter: anywhere up to a bound that doubles, so that clients who were lost together come one by one. */
  #connectLater(least = 0) {
    if (this.#isClosed) return;
    const { backoffMs, backoffMaxMs, random } = this.options;
    const bound = Math.min(backoffMaxMs, backoffMs * 2 ** this.#attempts);
    this.#attempts += 1;
    this.#later("connect", least + random() * bound, () => this.socket.connect());
  }

  // Rooms.

  async #enterAll(wasRecovered) {
    const connection = this.#connection;
    const told = { isRecovered: wasRecovered, missed: 0, reloaded: [] };
    const waiting = [...this.#rooms.values()].filter((room) => !room.isIn && (this.options.autoJoin || room.joining));
    const one = async () => {
      for (let room = waiting.shift(); room && connection === this.#connection; room = waiting.shift()) {
        const joined = await this.#enter(room).catch(() => undefined);
        told.missed += joined?.missed ?? 0;
        if (joined?.reloaded) told.reloaded.push(room.id);
      }
    };
    await Promise.all(Array.from({ length: JOINS }, one));
    if (connection !== this.#connection || this.#isClosed) return;
    if (this.#wasIn) this.#tell("recovered", told);
    this.#wasIn = true;
  }

  /** Who asks while a join is under way gets the same answer. */
  #enter(room) {
    room.joining ??= this.#insist(room).finally(() => { room.joining = null; });
    return room.joining;
  }

  /** Until it is in, refused for good, or left. */
  async #insist(room) {
    const told = { missed: 0, reloaded: "" };
    for (;;) {
      if (this.#isClosed || this.#rooms.get(room.id) !== room) throw new Refusal({ code: "conflict", message: "it was left" });
      if (!this.isConnected) {
        await this.#anotherConnection();
        continue;
      }
      try {
        if (await this.#catchUp(room, told)) return { ...placeOf(room.place), ...told };
      } catch (refusal) {
        room.held = [];
        if (!(refusal instanceof Refusal) || !refusal.isRetryable) {
          this.#rooms.delete(room.id);
          throw refusal;
        }
        await this.#pause(refusal.retryAfterMs ?? this.options.retryMs);
      }
    }
  }

  /** One join with all its pages. False when the connection was lost meanwhile. */
  async #catchUp(room, told) {
    const connection = this.#connection;
    const isOver = () => connection !== this.#connection;
    room.held = [];
    room.isIn = false;
    for (let reloads = 0; ;) {
      const after = room.place;
      const answer = await this.ask("join:conversation", { conversationId: room.id, ...(after && { after }) });
      if (isOver()) return false;
      if (after && answer.complete === false) {
        told.reloaded = answer.reason ?? "unknown";
        const again = await this.#reload(room, answer);
        if (isOver()) return false;
        reloads += 1;
        // What it read ends before the join: what lies between is missed.
        if (again && reloads <= RELOADS_MAX) continue;
      }
      for (const { event, data } of answer.missed ?? []) told.missed += this.#hand(room, event, data, true);
      if (!answer.next) {
        if (!room.place || compare(answer, room.place) > 0) room.place = placeOf(answer);
        break;
      }
    }
    room.isIn = true;
    for (const { event, data } of room.held.splice(0)) this.#hand(room, event, data, false);
    this.#tell("joined", { conversationId: room.id, ...placeOf(room.place), ...told });
    return true;
  }

  /**
   * The gateway cannot tell what was missed: the application reads history. Answers whether to join once more from
   * the place up to which it did. Without one the place of the join counts.
   */
  async #reload(room, { reason, epoch, seq }) {
    const what = { conversationId: room.id, reason: reason ?? "unknown", epoch, seq };
    this.#tell("reload", what);
    const read = await this.options.reload?.(what);
    room.place = isPlace(read) ? placeOf(read) : { epoch, seq };
    return compare(room.place, { epoch, seq }) < 0;
  }

  #heard(event, data) {
    if (!isOfRoom(event)) return;
    const room = this.#rooms.get(data?.conversationId);
    if (room && !room.isIn && isPlace(data)) room.held.push({ event, data });
    else this.#hand(room, event, data, false);
  }

  /** Hands on what was not handed on before; how many that are. */
  #hand(room, event, data, isMissed) {
    if (room && isPlace(data)) {
      if (room.place && compare(data, room.place) <= 0) return 0;
      room.place = placeOf(data);
    }
    this.#tell("event", event, data, { isMissed });
    return 1;
  }

  // Sends.

  #flush() {
    const wait = this.#resumeAt - Date.now();
    if (wait > 0) {
      this.#later("flush", wait, () => this.#flush());
      return;
    }
    for (const send of this.#sends) {
      if (!this.isConnected || this.#inFlight >= this.options.inFlight) return;
      if (!send.isOut) this.#transmit(send);
    }
  }

  async #transmit(send) {
    send.isOut = true;
    send.attempts += 1;
    this.#inFlight += 1;
    let ack;
    let refused;
    try {
      ack = await this.ask(send.event, send.data);
    } catch (refusal) {
      refused = refusal;
    }
    this.#inFlight -= 1;
    send.isOut = false;
    if (this.#isClosed) return;
    if (refused?.isRetryable) {
      // It keeps its turn: what is not out yet waits behind it.
      const wait = refused.retryAfterMs ?? (this.isConnected ? this.options.retryMs : 0);
      this.#resumeAt = Math.max(this.#resumeAt, Date.now() + wait);
      this.#tell("delayed", { event: send.event, clientMessageId: send.data.clientMessageId, refusal: refused, waitMs: wait });
    } else {
      this.#sends.splice(this.#sends.indexOf(send), 1);
      if (refused) send.reject(refused);
      else send.resolve(ack);
    }
    this.#flush();
  }

  // What is told.

  #heardDegraded(told) {
    if (told?.until) this.degraded.delete(told.what);
    else if (told) this.degraded.set(told.what, told.since);
    this.#tell("degraded", told);
  }

  #tell(name, ...what) {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) listener(...what);
  }

  #own(event, listener) {
    this.#owned.push([event, listener]);
    this.socket.on(event, listener);
  }

  /** The next connection, or the end. */
  #anotherConnection() {
    return new Promise((resolve) => {
      const once = () => {
        this.off("connected", once).off("closed", once);
        resolve();
      };
      this.on("connected", once).on("closed", once);
    });
  }

  #pause(ms) {
    return new Promise((resolve) => setTimeout(resolve, ms));
  }

  #later(name, ms, run) {
    this.#cancel(name);
    this.#timers.set(name, setTimeout(() => {
      this.#timers.delete(name);
      run();
    }, ms));
  }

  #cancel(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}
