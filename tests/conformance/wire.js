// A client that speaks the wire itself: requests, and WebSockets whose frames wait to be read.
//
// Frames are queued from the first moment, so that two in one read are never lost to a test that
// listens for one at a time.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

// The one installed package here belongs to the client tests.
const require = createRequire(new URL("../clients/package.json", import.meta.url));
const { WebSocket } = require("ws");

const PATIENCE_MS = 3000;
export const PING_INTERVAL_MS = 300;
export const PING_TIMEOUT_MS = 200;
export const SEPARATOR = "\x1e";

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** One WebSocket. Text frames are strings, binary frames Buffers. */
export class Wire {
  #frames = [];
  #readers = [];

  constructor(address) {
    this.socket = new WebSocket(address);
    this.isClosed = false;
    this.opened = new Promise((resolve, reject) => {
      this.socket.once("open", resolve);
      this.socket.once("close", () => reject(new Error("closed before it was open")));
    });
    this.opened.catch(() => {});
    this.socket.on("error", (error) => { this.error = error; });
    this.closed = new Promise((resolve) => {
      this.socket.once("close", (code) => {
        this.isClosed = true;
        for (const { reject } of this.#readers.splice(0)) reject(new Error(`closed (${code})`));
        resolve(code);
      });
    });
    this.socket.on("message", (data, isBinary) => {
      const frame = isBinary ? data : data.toString();
      const reader = this.#readers.shift();
      if (reader) reader.resolve(frame);
      else this.#frames.push(frame);
    });
  }

  open() {
    return within(PATIENCE_MS, "open", this.opened);
  }

  send(...frames) {
    for (const frame of frames) this.socket.send(frame);
    return this;
  }

  /** The next frame, pings too. */
  next() {
    if (this.#frames.length > 0) return Promise.resolve(this.#frames.shift());
    if (this.isClosed) return Promise.reject(new Error("closed"));
    const frame = new Promise((resolve, reject) => this.#readers.push({ resolve, reject }));
    return within(PATIENCE_MS, "a frame", frame);
  }

  /** The next frame that is no ping; pings on the way are answered. */
  async nextPacket() {
    for (;;) {
      const frame = await this.next();
      if (frame !== "2") return frame;
      this.send("3");
    }
  }

  async expect(...packets) {
    for (const packet of packets) assert.deepEqual(await this.nextPacket(), packet);
  }

  /** Resolves once the other side has closed. */
  end() {
    return within(PATIENCE_MS, "the close", this.closed);
  }

  close() {
    this.socket.terminate();
  }
}

/** A server at a base address and path, e.g. `/engine.io/`. */
export class Peer {
  #wires = new Set();

  constructor(base, path) {
    this.base = base + path;
  }

  /** A request with these query parameters; `options` as for fetch. */
  async http(query, options) {
    const response = await fetch(`${this.base}?${new URLSearchParams(query)}`, options);
    const text = await response.text();
    return { status: response.status, headers: response.headers, text };
  }

  wire(query = { EIO: "4", transport: "websocket" }) {
    const address = `${this.base.replace("http", "ws")}?${new URLSearchParams(query)}`;
    const wire = new Wire(address);
    this.#wires.add(wire);
    return wire;
  }

  /** A WebSocket session, its open packet read. */
  async session() {
    const wire = this.wire();
    const open = await wire.next();
    assert.equal(open[0], "0");
    return Object.assign(wire, { handshake: JSON.parse(open.slice(1)) });
  }

  /** A polling session. */
  async polling() {
    const { status, text, headers } = await this.http({ EIO: "4", transport: "polling" });
    assert.equal(status, 200, text);
    assert.equal(text[0], "0");
    const handshake = JSON.parse(text.slice(1));
    const query = { EIO: "4", transport: "polling", sid: handshake.sid };
    return {
      handshake,
      headers,
      sid: handshake.sid,
      get: (more) => this.http({ ...query, ...more }),
      post: (body, more) => this.http(query, { method: "POST", body, ...more }),
    };
  }

  /** A WebSocket that wants to take a polling session over. */
  async probe(sid) {
    const wire = this.wire({ EIO: "4", transport: "websocket", sid });
    await wire.open();
    return wire;
  }

  closeAll() {
    for (const wire of this.#wires) wire.close();
    this.#wires.clear();
  }
}

/** Checks an open packet's content. */
export function assertHandshake(handshake, upgrades) {
  const { sid, ...rest } = handshake;
  assert.match(sid, /^[\w-]{20}$/);
  assert.deepEqual(rest, {
    upgrades,
    pingInterval: PING_INTERVAL_MS,
    pingTimeout: PING_TIMEOUT_MS,
    maxPayload: 1_000_000,
  });
}

/** Checks a refusal's status, code and message. */
export function assertRefusal({ status, text, headers }, code, message) {
  assert.equal(status, 400, text);
  assert.match(headers.get("content-type"), /^application\/json/);
  assert.deepEqual(JSON.parse(text), { code, message });
}
