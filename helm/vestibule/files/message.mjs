// Sends a message through the gateway and receives it on another connection: the script of `helm test`.
//
// Needs Node.js 22 and nothing else. VESTIBULE_URL says where, VESTIBULE_TOKEN or VESTIBULE_AUTH_SECRET (then it
// signs a token of its own) as whom. One client polls, the other has a WebSocket, so that both ways are tried; without
// stickiness their requests reach any node.

import { createHmac, randomUUID } from "node:crypto";

const url = (process.env.VESTIBULE_URL ?? "http://127.0.0.1:8080").replace(/\/$/, "");
const patience = Number(process.env.VESTIBULE_PATIENCE_SECONDS ?? 60) * 1000;
const conversationId = `helm-test-${randomUUID()}`;

setTimeout(() => fail(`not within ${patience / 1000} s`), patience).unref();

function fail(text) {
  console.error(`failed: ${text}`);
  process.exit(1);
}

/** A token as the gateway wants it, valid for five minutes. */
function signed(secret) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const head = `${part({ alg: "HS256", typ: "JWT" })}.${part({
    sub: "helm-test",
    iat: now,
    exp: now + 300,
    rooms: ["conversation:helm-test-*"],
    ...JSON.parse(process.env.VESTIBULE_CLAIMS ?? "{}"),
  })}`;
  return `${head}.${createHmac("sha256", secret.trimEnd()).update(head).digest("base64url")}`;
}

const token =
  process.env.VESTIBULE_TOKEN ??
  (process.env.VESTIBULE_AUTH_SECRET ? signed(process.env.VESTIBULE_AUTH_SECRET) : fail("no token and no secret to sign one with"));

/** What a client of either kind does with packets; `say` carries them. */
class Client {
  #answers = new Map();
  #events = [];
  #waiting = [];
  #next = 0;

  /** A packet of Engine.IO arrived. */
  hear(packet) {
    if (packet === "2") return this.say("3");
    if (packet.startsWith("44")) fail(`refused: ${packet.slice(2)}`);
    if (packet.startsWith("40")) this.#wake("connected", JSON.parse(packet.slice(2) || "{}"));
    const [, kind, id, data] = packet.match(/^4([23])(\d*)(\[.*)$/s) ?? [];
    if (kind === "3") this.#answers.get(Number(id))?.(JSON.parse(data)[0]);
    if (kind === "2") this.#wake(...JSON.parse(data));
  }

  #wake(name, value) {
    const index = this.#waiting.findIndex((one) => one.name === name && one.fits(value));
    if (index < 0) this.#events.push({ name, value });
    else this.#waiting.splice(index, 1)[0].resolve(value);
  }

  /** The next event of that name. */
  event(name, fits = () => true) {
    const index = this.#events.findIndex((one) => one.name === name && fits(one.value));
    if (index >= 0) return Promise.resolve(this.#events.splice(index, 1)[0].value);
    return new Promise((resolve) => this.#waiting.push({ name, fits, resolve }));
  }

  async join() {
    this.say(`40${JSON.stringify({ token })}`);
    await this.event("connected");
    return this.ask("join:conversation", { conversationId });
  }

  /** Asks, and again while the gateway says that it may work later. */
  async ask(name, body) {
    for (;;) {
      const id = this.#next++;
      const answer = new Promise((resolve) => this.#answers.set(id, resolve));
      this.say(`42${id}${JSON.stringify([name, body])}`);
      const told = await answer;
      if (told.ok) return told;
      if (!told.error.retryAfterMs) fail(`${name}: ${JSON.stringify(told.error)}`);
      await new Promise((resolve) => setTimeout(resolve, told.error.retryAfterMs));
    }
  }
}

async function polling() {
  const client = new Client();
  const open = await fetch(`${url}/socket.io/?EIO=4&transport=polling`);
  const { sid } = JSON.parse((await open.text()).slice(1));
  const at = `${url}/socket.io/?EIO=4&transport=polling&sid=${sid}`;
  let sending = Promise.resolve();
  client.say = (packet) => {
    sending = sending.then(() => fetch(at, { method: "POST", body: packet })).then((answer) => answer.text());
  };
  (async () => {
    for (;;) {
      const answer = await fetch(at);
      const text = await answer.text();
      if (!answer.ok) fail(`a poll was answered ${answer.status}: ${text}`);
      text.split("\x1e").forEach((packet) => client.hear(packet));
    }
  })().catch((error) => fail(`polling: ${error.message}`));
  await client.join();
  return client;
}

async function webSocket() {
  const client = new Client();
  const link = new WebSocket(`${url.replace(/^http/, "ws")}/socket.io/?EIO=4&transport=websocket`);
  await new Promise((resolve) => {
    link.onmessage = ({ data }) => (data.startsWith("0") ? resolve() : client.hear(data));
    link.onerror = ({ message }) => fail(`the WebSocket: ${message ?? "cannot be opened"}`);
    link.onclose = () => fail("the WebSocket was closed");
  });
  client.say = (packet) => link.send(packet);
  await client.join();
  return client;
}

const receiver = await webSocket().catch((error) => fail(error.message));
const sender = await polling().catch((error) => fail(error.message));
const content = `a message of helm test at ${new Date().toISOString()}`;
const began = performance.now();
const { id } = await sender.ask("message:send", { conversationId, content, clientMessageId: randomUUID() });
const message = await receiver.event("message:new", (one) => one.id === id);
if (message.content !== content) fail(`it arrived as ${JSON.stringify(message)}`);
console.log(`ok: sent by polling, received by WebSocket after ${Math.round(performance.now() - began)} ms, in order (${message.epoch}, ${message.seq})`);
process.exit(0);
