// A TCP link that can be made bad: cut, closed to newcomers, stalled, slow, half open, or losing events.

import { connect, createServer } from "node:net";
import { isEvent, isMessage, Sieve } from "./resp.js";

const END = Symbol("the end of a direction");

/**
 * Ends a connection at once. Node 20 does not reset one whose own end is still on its way: it takes it for closed,
 * leaves it open and waits for it for ever when the process is to end.
 */
function reset(socket) {
  if (socket.writableEnded || socket.connecting) socket.destroy();
  else socket.resetAndDestroy();
}

export class Proxy {
  #server;
  #pairs = new Set();
  #delayMs = 0;
  #isStalled = false;
  #isRefusing = false;
  #drop = () => false;

  /** `isRedis`: what the server says is cut into frames, so that `lossy` can leave some out. */
  constructor(name, { isRedis = false } = {}) {
    Object.assign(this, { name, isRedis, dropped: 0 });
  }

  /** Listens; where it leads is told with `to`. */
  async listen() {
    this.#server = createServer({ pauseOnConnect: true }, (client) => this.#accept(client));
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.port = this.#server.address().port;
    return this;
  }

  to(port) {
    this.target = port;
  }

  /** Connections that lead through it now. */
  get open() {
    return this.#pairs.size;
  }

  /** Ends all connections, as a broken cable that was noticed; new ones are taken. */
  cut() {
    for (const { client, server } of this.#pairs) {
      reset(client);
      reset(server);
    }
  }

  /** Nobody comes through, and nobody new is let in. */
  refuse() {
    this.#isRefusing = true;
    this.cut();
  }

  /** What is open stays open and nothing moves on it; new connections hang as well. */
  stall() {
    this.#isStalled = true;
    for (const pair of this.#pairs) this.#hold(pair);
  }

  /** What is open now is never heard of again by either end; new connections work. */
  forget() {
    for (const pair of this.#pairs) {
      pair.isForgotten = true;
      this.#hold(pair);
    }
  }

  /** The client reads nothing; what it says still goes through. */
  deafen() {
    for (const pair of this.#pairs) {
      pair.isDeaf = true;
      pair.server.pause();
    }
  }

  /** Everything takes this long, in each direction. */
  delay(ms) {
    this.#delayMs = ms;
  }

  /** Leaves out events for which `drop()` says so. */
  lossy(drop) {
    this.#drop = drop;
  }

  /** What is open now brings nothing any more that is published, until it is cut. */
  overflow() {
    for (const pair of this.#pairs) pair.hasOverflown = true;
  }

  /** All is well again. What was forgotten stays so. */
  heal() {
    this.#isRefusing = false;
    this.#isStalled = false;
    this.#delayMs = 0;
    this.#drop = () => false;
    for (const pair of this.#pairs) {
      pair.isDeaf = false;
      if (!pair.isForgotten) this.#go(pair);
    }
  }

  close() {
    this.#server.close();
    this.cut();
  }

  #accept(client) {
    if (this.#isRefusing || !this.target) {
      reset(client);
      return;
    }
    const server = connect({ host: "127.0.0.1", port: this.target, noDelay: true });
    client.setNoDelay(true);
    const pair = { client, server, isForgotten: false, isDeaf: false };
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const side of [client, server]) {
      side.on("error", () => {});
      side.on("close", () => {
        // Who waits on the other end of a forgotten link hears nothing of this.
        if (!pair.isForgotten) end();
      });
    }
    const sieve = this.isRedis && new Sieve((frame) => this.#isDropped(frame, pair));
    this.#pipe(client, server);
    this.#pipe(server, client, sieve);
    if (this.#isStalled) this.#hold(pair);
    else this.#go(pair);
  }

  #isDropped(frame, { hasOverflown }) {
    const isLost = hasOverflown ? isMessage(frame) : isEvent(frame) && this.#drop();
    if (isLost) this.dropped += 1;
    return isLost;
  }

  /** In order also when the delay changes: nothing overtakes what waits. */
  #pipe(from, to, sieve) {
    const waiting = [];
    let timer;
    const write = (bytes) => {
      if (bytes === END) to.end();
      else if (!to.destroyed && bytes.length > 0 && !to.write(bytes)) {
        from.pause();
        to.once("drain", () => from.readyForMore?.());
      }
    };
    const flush = () => {
      timer = undefined;
      while (waiting.length > 0 && waiting[0].due <= Date.now()) write(waiting.shift().bytes);
      if (waiting.length > 0) timer = setTimeout(flush, waiting[0].due - Date.now());
    };
    const pass = (bytes) => {
      if (this.#delayMs === 0 && waiting.length === 0) {
        write(bytes);
        return;
      }
      const due = Math.max(Date.now() + this.#delayMs, waiting.at(-1)?.due ?? 0);
      waiting.push({ due, bytes });
      timer ??= setTimeout(flush, due - Date.now());
    };
    from.on("data", (bytes) => pass(sieve ? sieve.take(bytes) : bytes));
    from.on("end", () => pass(END));
  }

  #hold({ client, server }) {
    client.pause();
    server.pause();
  }

  #go(pair) {
    const { client, server } = pair;
    const more = (side) => () => {
      const isHeld = pair.isForgotten || this.#isStalled || (side === server && pair.isDeaf);
      if (!isHeld) side.resume();
    };
    for (const side of [client, server]) {
      side.readyForMore = more(side);
      side.readyForMore();
    }
  }
}
