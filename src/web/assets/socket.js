// One socket to the gateway: the official client with the `vestibule` helper on it, which reconnects, joins again,
// and repeats sends. Here is what the page hears of it.

import { io } from "./socket.io.esm.min.js";
import { Vestibule } from "./vestibule.js";

const ACK_TIMEOUT_MS = 8000;
// What one person types is sent at once; its order is kept unless something has to be repeated.
const SENDS_AT_ONCE = 32;

/** Server events that the page hears, beside those of conversations. */
const EVENTS = [
  "typing:start", "typing:stop", "private-message", "user:online", "user:offline", "presence", "presence:state",
  "notification:new", "connection:request", "connection:accepted", "connection:rejected", "conversation:changed",
  "degraded",
];

export class Link {
  #gateway;

  /**
   * Callbacks: `connected(isResumed)`, `lost()`, `refused(refusal)` for good, `heard(event, data)`, `missed(event,
   * data)`, `reload({conversationId, reason})` answers the place up to which history was read, `delayed({
   * clientMessageId, refusal, waitMs})`. Without a token the browser's cookie says who this is.
   */
  constructor(token, callbacks) {
    const socket = io({
      ...(token && { auth: { token } }),
      autoConnect: false,
      forceNew: true,
      withCredentials: !token,
      transports: ["websocket", "polling"],
      tryAllTransports: true,
    });
    // Which rooms are joined, and in which order, says the list.
    this.#gateway = new Vestibule(socket, {
      ackMs: ACK_TIMEOUT_MS,
      inFlight: SENDS_AT_ONCE,
      autoJoin: false,
      reload: (what) => callbacks.reload(what),
    });
    this.#gateway
      .on("connected", ({ isRecovered }) => callbacks.connected(isRecovered))
      .on("lost", () => callbacks.lost())
      .on("refused", (refusal) => callbacks.refused(refusal))
      .on("delayed", (what) => callbacks.delayed(what))
      .on("event", (event, data, { isMissed }) => {
        if (isMissed) callbacks.missed(event, data);
        else callbacks.heard(event, data);
      });
    socket.on("connect_error", () => callbacks.lost());
    for (const event of EVENTS) socket.on(event, (data) => callbacks.heard(event, data));
  }

  get isConnected() {
    return this.#gateway.isConnected;
  }

  /** Tries again now. */
  reconnect() {
    this.#gateway.reconnect();
  }

  close() {
    this.#gateway.close();
  }

  /** Says something that needs no answer; nothing when not connected. */
  tell(event, data) {
    if (this.isConnected) this.#gateway.socket.emit(event, data);
  }

  /** Asks, and gives the answer. @throws {Refusal} */
  ask(event, data) {
    return this.#gateway.ask(event, data);
  }

  /** Sends until it is acknowledged. @throws {Refusal} for good */
  deliver(event, data, clientMessageId) {
    return this.#gateway.deliver(event, data, clientMessageId);
  }

  /** Into a conversation, with everything after a place: `{epoch, seq}` of now. @throws {Refusal} for good */
  join(id, after) {
    return this.#gateway.join(id, { after });
  }

  isIn(id) {
    return this.#gateway.isIn(id);
  }

  leave(id) {
    this.#gateway.leave(id);
  }
}
