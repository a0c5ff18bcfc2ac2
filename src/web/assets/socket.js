// One socket to the gateway, on the official client: connected, lost, refused; asking and hearing.
//
// The client reconnects by itself after a lost connection. Where the gateway itself has ended it, or
// has said no, this decides: retry what may be retried, else hand the refusal on.

import { io } from "./socket.io.esm.min.js";
import { Refusal } from "./api.js";

const ACK_TIMEOUT_MS = 8000;
const RETRY_MS = 1000;
// The gateway ended it: a revoked device, an ended token, or a restart. Asking again tells which.
const ENDED_RETRY_MS = 400;

/** Server events that the page hears. */
const EVENTS = [
  "message:new", "message:edited", "message:deleted", "message:read", "reaction:added",
  "reaction:removed", "typing:start", "typing:stop", "private-message", "user:online",
  "user:offline", "presence", "presence:state", "notification:new", "connection:request",
  "connection:accepted", "connection:rejected", "conversation:changed", "degraded",
];

export class Link {
  #socket;
  #callbacks;
  #timer;

  /**
   * Callbacks: `connected(isResumed)`, `lost()`, `refused(refusal)` for good, `heard(event, data)`.
   * Without a token the browser's cookie says who this is.
   */
  constructor(token, callbacks) {
    this.#callbacks = callbacks;
    this.#socket = io({
      ...(token && { auth: { token } }),
      forceNew: true,
      withCredentials: !token,
      transports: ["websocket", "polling"],
      tryAllTransports: true,
      reconnectionDelay: 500,
      reconnectionDelayMax: 5000,
    });
    this.#listen();
  }

  get isConnected() {
    return this.#socket.connected;
  }

  /** Tries again now. */
  reconnect() {
    clearTimeout(this.#timer);
    // A reconnection that waits for its turn is started anew.
    this.#socket.disconnect().connect();
  }

  close() {
    clearTimeout(this.#timer);
    this.#socket.off();
    this.#socket.disconnect();
  }

  /** Says something that needs no answer; nothing when not connected. */
  tell(event, data) {
    if (this.isConnected) this.#socket.emit(event, data);
  }

  /** Asks, and gives the answer. @throws {Refusal} */
  async ask(event, data) {
    let answer;
    try {
      answer = await this.#socket.timeout(ACK_TIMEOUT_MS).emitWithAck(event, data);
    } catch {
      throw new Refusal({ code: "unavailable", message: "The node does not answer." });
    }
    if (answer?.ok) return answer;
    throw new Refusal(answer?.error);
  }

  #listen() {
    const socket = this.#socket;
    socket.on("connect", () => this.#callbacks.connected(socket.recovered));
    socket.on("disconnect", (reason) => {
      this.#callbacks.lost();
      if (reason === "io server disconnect") this.#later(ENDED_RETRY_MS);
    });
    socket.on("connect_error", (error) => {
      this.#callbacks.lost();
      if (socket.active) return;
      // The gateway said no; the client does not try again by itself.
      const refusal = new Refusal(error.data ?? { code: "unauthenticated", message: error.message });
      if (refusal.isRetryable) this.#later(refusal.retryAfterMs ?? RETRY_MS);
      else this.#callbacks.refused(refusal);
    });
    for (const event of EVENTS) socket.on(event, (data) => this.#callbacks.heard(event, data));
  }

  #later(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#socket.connect(), ms);
  }
}
