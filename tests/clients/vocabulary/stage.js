// People at a node, on the official client and fetch.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { io } from "socket.io-client";

export const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A name that nothing else uses. */
export const unique = (prefix) => `${prefix}-${randomBytes(5).toString("hex")}`;

/** Somebody with a token, and at most one connection. */
export class Person {
  constructor(stage, id, token) {
    Object.assign(this, { stage, id, token });
    this.received = [];
  }

  /** Connects. `more` goes to the client. */
  async connect(more = {}) {
    this.socket = io(this.stage.node.url, {
      auth: { token: this.token },
      forceNew: true,
      reconnection: false,
      transports: ["websocket"],
      ...more,
    });
    this.stage.sockets.add(this.socket);
    this.socket.onAny((event, ...args) => this.received.push({ event, args }));
    await new Promise((resolve, reject) => {
      this.socket.once("connect", resolve);
      this.socket.once("connect_error", reject);
    });
    return this;
  }

  async disconnect() {
    this.socket.disconnect();
  }

  /** Emits and answers the ack. */
  ask(event, ...args) {
    return this.socket.timeout(this.stage.patience).emitWithAck(event, ...args);
  }

  /** The same, for what has to succeed. */
  async ok(event, ...args) {
    const ack = await this.ask(event, ...args);
    assert.equal(ack?.ok, true, `${event}: ${JSON.stringify(ack)}`);
    return ack;
  }

  join(conversationId, more = {}) {
    return this.ok("join:conversation", { conversationId, ...more });
  }

  send(conversationId, content, more = {}) {
    return this.ok("message:send", { conversationId, content, ...more });
  }

  /** Waits for an event of this name that `matches`; answers its first argument. */
  async saw(event, matches = () => true) {
    return this.stage.eventually(`${this.id} sees ${event}`, () => {
      const found = this.received.find((one) => one.event === event && matches(one.args[0]));
      return found && { data: found.args[0] };
    }).then(({ data }) => data, (error) => {
      const seen = this.received.map((one) => `${one.event} ${JSON.stringify(one.args[0])}`);
      throw new Error(`${error.message}; seen: ${seen.slice(-8).join(", ") || "nothing"}`);
    });
  }

  /** How many events of this name came so far. */
  count(event, matches = () => true) {
    return this.received.filter((one) => one.event === event && matches(one.args[0])).length;
  }

  /** A REST request. Answers `{status, headers, body}`. */
  async rest(method, path, json, headers = {}) {
    return this.stage.rest(method, path, json, {
      ...(this.token && { authorization: `Bearer ${this.token}` }),
      ...headers,
    });
  }

  /** The same, for what has to succeed; answers the body. */
  async restOk(method, path, json, headers) {
    const answer = await this.rest(method, path, json, headers);
    const shown = `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`;
    assert.ok(answer.status >= 200 && answer.status < 300, shown);
    return answer.body;
  }
}

export class Stage {
  /** `patience`: how long anything may take, in milliseconds. */
  constructor(node, patience = 10_000) {
    Object.assign(this, { node, patience });
    this.sockets = new Set();
  }

  /** Somebody without any claim but the name. */
  person(name, claims = {}) {
    const id = claims.sub ?? unique(name);
    return new Person(this, id, this.node.token({ sub: id, ...claims }));
  }

  /** The same, connected. */
  visitor(name, claims) {
    return this.person(name, claims).connect();
  }

  /** Another program, with these scopes. */
  service(...scopes) {
    return this.person("service", { scope: scopes.join(" ") });
  }

  /** Somebody with an account. */
  async member(name, more = {}) {
    const nobody = new Person(this, "nobody", undefined);
    const email = `${unique(name)}@example.com`;
    const account = { email, password: "correct horse battery", name };
    const login = await nobody.restOk("POST", "/api/signup", { ...account, ...more });
    const person = new Person(this, login.user.id, login.token);
    return Object.assign(person, { email: account.email, password: account.password });
  }

  /** Two connected people in a conversation of their own. */
  async pair() {
    const [ada, bo] = await Promise.all([this.visitor("ada"), this.visitor("bo")]);
    const talk = await this.talk(ada, bo);
    await Promise.all([ada.join(talk), bo.join(talk)]);
    return { ada, bo, talk };
  }

  /** A conversation of these; the first one makes it. */
  async talk(owner, ...others) {
    const members = others.map((one) => one.id);
    const made = await owner.restOk("POST", "/api/conversations", { title: "Talk", members });
    assert.equal(made.members, others.length + 1);
    return made.id;
  }

  async rest(method, path, json, headers = {}) {
    const response = await fetch(this.node.url + path, {
      method,
      headers: { ...(json !== undefined && { "content-type": "application/json" }), ...headers },
      body: json === undefined ? undefined : JSON.stringify(json),
    });
    const text = await response.text();
    const isJson = /json/.test(response.headers.get("content-type") ?? "");
    const body = isJson && text ? JSON.parse(text) : text;
    return { status: response.status, headers: response.headers, body };
  }

  /** Waits until the log holds a record whose event is of this type and `matches`. */
  async logged(type, matches = () => true) {
    return this.eventually(`${type} is in the log`, async () => {
      const records = await this.node.records();
      return records.find(({ event }) => event?.type === type && matches(event));
    });
  }

  async eventually(what, probe) {
    const end = Date.now() + this.patience;
    for (;;) {
      const found = await probe();
      if (found) return found;
      if (Date.now() > end) throw new Error(`not within ${this.patience} ms: ${what}`);
      await pause(25);
    }
  }

  pause(ms) {
    return pause(ms);
  }

  close() {
    for (const socket of this.sockets) socket.disconnect();
    this.sockets.clear();
  }
}

/** Fails unless an ack is a refusal with this code. */
export function refused(ack, code, field) {
  const shown = JSON.stringify(ack);
  assert.equal(ack?.ok, false, shown);
  assert.equal(ack.error?.code, code, shown);
  assert.ok(ack.error.message?.length > 0, shown);
  if (field) assert.equal(ack.error.field, field, shown);
  if (code === "rate_limited") assert.ok(ack.error.retryAfterMs > 0, shown);
}

const STATUS = {
  unauthenticated: 401, forbidden: 403, not_found: 404, invalid: 400, too_large: 413,
  rate_limited: 429, conflict: 409,
};

/** The same for an answer over REST. */
export function problem(answer, code, field) {
  const shown = `${answer.status} ${JSON.stringify(answer.body)}`;
  assert.equal(answer.status, STATUS[code], shown);
  assert.match(answer.headers.get("content-type"), /^application\/problem\+json/, shown);
  assert.equal(answer.body.code, code, shown);
  assert.ok(answer.body.detail?.length > 0, shown);
  if (field) assert.equal(answer.body.field, field, shown);
  if (code === "rate_limited") {
    assert.ok(answer.body.retryAfterMs > 0, shown);
    assert.ok(Number(answer.headers.get("retry-after")) > 0, shown);
  }
}
