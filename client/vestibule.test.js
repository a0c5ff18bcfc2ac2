// What the helper decides by itself, on a socket that does as it is told. Against real nodes:
// ../tests/clients/helper and ../tests/chaos.

import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { beforeEach, mock, test } from "node:test";
import { compare, newId, Refusal, Vestibule } from "./vestibule.js";

/** As much of a stock socket as the helper touches; answers are given by the test. */
class Socket extends EventEmitter {
  connected = false;
  active = true;
  recovered = false;
  connects = 0;
  asked = [];
  told = [];
  io = Object.assign(new EventEmitter(), { reconnection: (value) => { this.reconnection = value; } });
  #any = new Set();

  connect() {
    this.active = true;
    this.connects += 1;
  }

  disconnect() {
    this.active = false;
    if (this.connected) this.lose("io client disconnect");
    return this;
  }

  come(isRecovered = false) {
    this.connected = true;
    this.recovered = isRecovered;
    this.emit("connect");
  }

  lose(reason = "transport close") {
    this.connected = false;
    for (const { reject } of this.asked.splice(0)) reject(new Error("socket has been disconnected"));
    this.emit("disconnect", reason);
  }

  timeout() {
    return {
      emitWithAck: (event, data) => new Promise((resolve, reject) => this.asked.push({ event, data, resolve, reject })),
    };
  }

  onAny(listener) {
    this.#any.add(listener);
  }

  offAny(listener) {
    this.#any.delete(listener);
  }

  hear(event, data) {
    for (const listener of this.#any) listener(event, data);
  }

  /** Answers the oldest question. */
  async answer(ack) {
    this.asked.shift().resolve(ack);
    await settled();
  }
}

const settled = async () => { for (let n = 0; n < 20; n += 1) await Promise.resolve(); };
const message = (seq, epoch = 1) => ({ conversationId: "r", epoch, seq, id: `m${epoch}-${seq}` });
const missed = (seq) => ({ event: "message:new", data: message(seq) });
const joined = (seq, more) => ({ ok: true, room: "conversation:r", epoch: 1, seq, missed: [], complete: true, ...more });
const refusal = (code, retryAfterMs) => ({ ok: false, error: { code, message: code, retryAfterMs } });

let socket;
let helper;
let seen;
let told;

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  open();
});

function open(options) {
  socket = new Socket();
  helper = new Vestibule(socket, { random: () => 0.5, ...options });
  seen = [];
  told = [];
  helper.on("event", (_, data) => seen.push(data.seq));
  for (const name of ["reload", "joined", "connected", "lost", "recovered", "refused", "degraded"]) {
    helper.on(name, (what) => told.push([name, what]));
  }
}

const heard = (name) => told.filter(([one]) => one === name).map(([, what]) => what);

test("the manager's own reconnecting is off", () => {
  assert.equal(socket.reconnection, false);
  assert.equal(socket.connects, 1);
});

for (const isIn of [true, false]) {
  test(`a WebSocket that breaks between probe and upgrade is a lost connection (${isIn ? "after" : "before"} CONNECT)`, async () => {
    const engine = Object.assign(new EventEmitter(), { readyState: "open" });
    socket.io.engine = engine;
    socket.io.emit("open");
    if (isIn) socket.come();
    engine.emit("upgradeError", new Error("no probe"));
    mock.timers.tick(60_000);
    assert.deepEqual([heard("lost"), socket.connects], [[], 1], "it polls on");
    engine.emit("upgrading");
    engine.emit("upgradeError", new Error("transport closed"));
    mock.timers.tick(60_000);
    assert.deepEqual([heard("lost"), socket.connects], [isIn ? ["upgrade error"] : [], 2]);
    // What an engine says that is not in use any more is of no concern.
    socket.io.engine = undefined;
    engine.emit("upgradeError", new Error("socket closed"));
    mock.timers.tick(60_000);
    assert.equal(socket.connects, 2);
  });
}

test("who reconnects as soon as a loss is told connects once", () => {
  socket.io.engine = Object.assign(new EventEmitter(), { readyState: "open" });
  socket.io.emit("open");
  socket.come();
  helper.on("lost", () => helper.reconnect());
  for (const lose of [
    () => socket.lose(),
    () => { socket.io.engine.emit("upgrading"); socket.io.engine.emit("upgradeError", new Error("closed")); },
  ]) {
    const before = socket.connects;
    lose();
    mock.timers.tick(60_000);
    assert.equal(socket.connects, before + 1);
    socket.come();
  }
});

test("pauses double up to a bound and begin anew only after a stable connection", async () => {
  const pauses = [];
  const pauseUntilConnect = () => {
    const before = socket.connects;
    let ms = 0;
    for (; socket.connects === before; ms += 50) mock.timers.tick(50);
    return ms;
  };
  for (let n = 0; n < 7; n += 1) {
    socket.emit("connect_error", new Error("xhr poll error"));
    pauses.push(pauseUntilConnect());
  }
  assert.deepEqual(pauses, [250, 500, 1000, 2000, 4000, 5000, 5000]);
  // Short connections change nothing.
  socket.come();
  mock.timers.tick(9_000);
  socket.lose();
  assert.equal(pauseUntilConnect(), 5000);
  socket.come();
  mock.timers.tick(10_000);
  socket.lose();
  assert.equal(pauseUntilConnect(), 250);
});

test("a refusal that is for good is told and not tried again; another waits as long as it says", () => {
  socket.active = false;
  socket.emit("connect_error", Object.assign(new Error("no"), { data: { code: "unauthenticated", message: "no" } }));
  mock.timers.tick(60_000);
  assert.equal(socket.connects, 1);
  assert.equal(heard("refused")[0].code, "unauthenticated");
  const busy = { data: { code: "overloaded", message: "busy", retryAfterMs: 3_000 } };
  socket.emit("connect_error", Object.assign(new Error("busy"), busy));
  mock.timers.tick(3_000);
  assert.equal(socket.connects, 1);
  mock.timers.tick(250);
  assert.equal(socket.connects, 2);
});

test("trying now does not wait for the pause, and begins with the shortest again", () => {
  for (let n = 0; n < 5; n += 1) {
    socket.emit("connect_error", new Error("xhr poll error"));
    mock.timers.tick(10_000);
  }
  socket.emit("connect_error", new Error("xhr poll error"));
  helper.reconnect();
  assert.equal(socket.connects, 7);
  socket.emit("connect_error", new Error("xhr poll error"));
  mock.timers.tick(250);
  assert.equal(socket.connects, 8);
});

test("who leaves on purpose is not brought back", () => {
  socket.come();
  helper.close();
  mock.timers.tick(60_000);
  assert.equal(socket.connects, 1);
});

test("a join hands on what was missed, page by page, then what came meanwhile, each once", async () => {
  socket.come();
  const joining = helper.join("r", { after: { epoch: 1, seq: 1 } });
  await settled();
  assert.deepEqual(socket.asked[0].data, { conversationId: "r", after: { epoch: 1, seq: 1 } });
  socket.hear("message:new", message(5));
  await socket.answer(joined(4, { missed: [missed(2), missed(3)], next: { epoch: 1, seq: 3 } }));
  assert.deepEqual(socket.asked[0].data.after, { epoch: 1, seq: 3 });
  await socket.answer(joined(5, { missed: [missed(4), missed(5)] }));
  socket.hear("message:new", message(6));
  socket.hear("message:new", message(6));
  socket.hear("message:new", message(3));
  assert.deepEqual(seen, [2, 3, 4, 5, 6]);
  assert.deepEqual(await joining, { epoch: 1, seq: 5, missed: 4, reloaded: "" });
  assert.deepEqual(helper.place("r"), { epoch: 1, seq: 6 });
  assert.equal(helper.isIn("r"), true);
});

test("after a lost connection it joins again after its place, and tells when all is well", async () => {
  socket.come();
  helper.join("r");
  await settled();
  await socket.answer(joined(7));
  socket.hear("message:new", message(8));
  socket.lose();
  assert.equal(helper.isIn("r"), false);
  socket.come();
  await settled();
  assert.deepEqual(socket.asked[0].data.after, { epoch: 1, seq: 8 });
  assert.deepEqual(heard("recovered"), []);
  await socket.answer(joined(9, { missed: [missed(9)] }));
  assert.deepEqual(heard("recovered"), [{ isRecovered: false, missed: 1, reloaded: [] }]);
  assert.deepEqual(seen, [8, 9]);
});

test("a session that the gateway recovered needs no join", async () => {
  socket.come();
  helper.join("r");
  await settled();
  await socket.answer(joined(7));
  socket.lose();
  socket.come(true);
  await settled();
  socket.hear("message:new", message(8));
  assert.deepEqual([socket.asked, seen, helper.isIn("r")], [[], [8], true]);
  assert.equal(heard("recovered")[0].isRecovered, true);
});

test("a join that was under way when the connection was lost is repeated", async () => {
  socket.come();
  const joining = helper.join("r");
  await settled();
  socket.lose();
  await settled();
  socket.come(true);
  mock.timers.tick(1_000);
  await settled();
  await socket.answer(joined(3));
  assert.equal((await joining).seq, 3);
});

test("a gap that cannot be told: the application reads history, live events wait for it", async () => {
  let read;
  open({ reload: () => new Promise((resolve) => { read = resolve; }) });
  socket.come();
  const joining = helper.join("r", { after: { epoch: 1, seq: 1 } });
  await settled();
  await socket.answer(joined(50, { complete: false, reason: "trimmed" }));
  assert.deepEqual(heard("reload"), [{ conversationId: "r", reason: "trimmed", epoch: 1, seq: 50 }]);
  socket.hear("message:new", message(51));
  assert.deepEqual(seen, []);
  // History ended before the join: what lies between comes as missed.
  read(message(49));
  await settled();
  assert.deepEqual(socket.asked[0].data.after, { epoch: 1, seq: 49 });
  await socket.answer(joined(51, { missed: [missed(50), missed(51)] }));
  assert.deepEqual(seen, [50, 51]);
  assert.equal((await joining).reloaded, "trimmed");
});

test("without a reload function the place of the join counts", async () => {
  socket.come();
  helper.join("r", { after: { epoch: 1, seq: 1 } });
  await settled();
  await socket.answer(joined(50, { epoch: 2, complete: false, reason: "epoch_changed" }));
  assert.deepEqual(helper.place("r"), { epoch: 2, seq: 50 });
  socket.hear("message:new", message(51, 2));
  assert.deepEqual(seen, [51]);
});

test("a join is repeated when the gateway says later, and rejects when it says no", async () => {
  socket.come();
  const joining = helper.join("r");
  await settled();
  await socket.answer(refusal("unavailable", 700));
  mock.timers.tick(699);
  await settled();
  assert.equal(socket.asked.length, 0);
  mock.timers.tick(1);
  await settled();
  await socket.answer(refusal("forbidden"));
  await assert.rejects(joining, { code: "forbidden" });
  assert.equal(helper.place("r"), undefined);
});

test("who left a room hears nothing more of its join", async () => {
  socket.come();
  const joining = helper.join("r");
  await settled();
  helper.leave("r");
  await socket.answer(refusal("unavailable"));
  mock.timers.tick(1_000);
  await assert.rejects(joining, { code: "conflict" });
});

test("sends go one after the other, and what has to be repeated keeps its turn and its id", async () => {
  socket.come();
  const acks = [1, 2, 3].map((n) => helper.send("r", { content: `${n}` }));
  await settled();
  assert.equal(socket.asked.length, 1);
  const { clientMessageId } = socket.asked[0].data;
  await socket.answer(refusal("unavailable", 500));
  assert.equal(socket.asked.length, 0);
  mock.timers.tick(500);
  await settled();
  assert.deepEqual([socket.asked.length, socket.asked[0].data.clientMessageId], [1, clientMessageId]);
  await socket.answer({ ok: true, id: "a" });
  assert.equal(socket.asked[0].data.content, "2");
  await socket.answer(refusal("invalid"));
  assert.equal(socket.asked[0].data.content, "3");
  await socket.answer({ ok: true, id: "c" });
  assert.equal((await acks[0]).id, "a");
  await assert.rejects(acks[1], { code: "invalid" });
  assert.equal((await acks[2]).id, "c");
  assert.equal(helper.pending, 0);
});

test("what was not acknowledged before the connection was lost is sent again, in order, with its ids", async () => {
  open({ inFlight: 3 });
  socket.come();
  for (const n of [1, 2, 3, 4]) helper.send("r", { content: `${n}` }, `id-${n}`);
  await settled();
  assert.deepEqual(socket.asked.map(({ data }) => data.content), ["1", "2", "3"]);
  await socket.answer({ ok: true, id: "a" });
  socket.lose();
  await settled();
  assert.equal(socket.asked.length, 0);
  socket.come();
  await settled();
  assert.deepEqual(socket.asked.map(({ data }) => data.clientMessageId), ["id-2", "id-3", "id-4"]);
});

test("what is degraded is known until its end, or until the next connection tells anew", () => {
  socket.come();
  socket.emit("degraded", { what: "log", since: "t1" });
  socket.emit("degraded", { what: "rooms", since: "t2" });
  assert.deepEqual([...helper.degraded], [["log", "t1"], ["rooms", "t2"]]);
  socket.emit("degraded", { what: "log", since: "t1", until: "t3" });
  assert.deepEqual([...helper.degraded.keys()], ["rooms"]);
  assert.equal(heard("degraded").length, 3);
  socket.lose();
  socket.come();
  assert.equal(helper.degraded.size, 0);
});

test("closing ends what waits", async () => {
  const sending = helper.send("r", { content: "x" });
  const joining = helper.join("r");
  helper.close();
  await assert.rejects(sending, Refusal);
  await assert.rejects(joining, Refusal);
});

test("places are ordered by epoch first; ids differ", () => {
  assert.ok(compare({ epoch: 1, seq: 9 }, { epoch: 2, seq: 1 }) < 0);
  assert.ok(compare({ epoch: 1, seq: 9 }, { epoch: 1, seq: 10 }) < 0);
  assert.notEqual(newId(), newId());
});
