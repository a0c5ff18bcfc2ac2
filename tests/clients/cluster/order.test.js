// One order for everybody, wherever they are.

import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { assertInOrder, onEachTransport } from "../lib/peer.js";
import { unique } from "../vocabulary/stage.js";
import { anywhere, leave, nodes } from "./deployment.js";

const PEOPLE = 6;
const MESSAGES = 40;

afterEach(leave);

const messages = (person, talk) => person.received
  .filter(({ event, args }) => event === "message:new" && args[0].conversationId === talk)
  .map(({ args }) => args[0]);

/** People in one room who all talk at once; what each of them saw. */
async function crowd(options, rooms) {
  const talk = unique("talk");
  const people = await Promise.all(Array.from({ length: PEOPLE }, (_, n) =>
    rooms(n).person(`user-${n}`, { rooms: ["*"] }).connect({ ...options, rememberUpgrade: false })));
  const sids = people.map((one) => one.socket.io.engine.id.slice(1, 5));
  assert.ok(new Set(sids).size > 1, "they are on several nodes");
  await Promise.all(people.map((one) => one.join(talk)));
  await Promise.all(people.map(async (one) => {
    const acks = Array.from({ length: MESSAGES }, (_, n) => one.send(talk, `${one.id} ${n}`));
    await Promise.all(acks);
  }));
  const total = PEOPLE * MESSAGES;
  for (const one of people) {
    await anywhere.eventually(`${one.id} saw all`, () => messages(one, talk).length >= total);
  }
  return { talk, people };
}

onEachTransport(describe, (options) => {
  test("all members see one order, and each sender's own in it", async () => {
    const { talk, people } = await crowd(options, () => anywhere);
    const [first, ...others] = people.map((one) => messages(one, talk));
    assertInOrder(first);
    for (const other of others) assert.deepEqual(other, first);
    for (const { id } of people) {
      const own = first.filter(({ userId }) => userId === id).map(({ content }) => content);
      assert.deepEqual(own, Array.from({ length: MESSAGES }, (_, n) => `${id} ${n}`));
    }
  });
});

test("pages of history are the same by every node, and what was shown", async () => {
  const { talk, people } = await crowd({}, (n) => nodes[n % nodes.length]);
  const shown = messages(people[0], talk);
  for (const stage of nodes) {
    const reader = stage.person("reader", { rooms: ["*"] });
    const path = `/api/conversations/${talk}/messages?limit=70`;
    const forth = [];
    for (let next = "0"; next;) {
      const page = await reader.restOk("GET", `${path}&after=${next}`);
      forth.push(...page.messages);
      next = page.next;
    }
    assert.deepEqual(forth, shown);
    const back = [];
    let page = await reader.restOk("GET", path);
    for (;;) {
      back.unshift(...page.messages);
      if (!page.previous) break;
      page = await reader.restOk("GET", `${path}&before=${page.previous}`);
    }
    assert.deepEqual(back, shown);
  }
});

test("a retry by another node is the same message", async () => {
  const id = unique("ada");
  const talk = unique("talk");
  const ada = await Promise.all(nodes.map((stage) => stage.visitor("ada", { sub: id, rooms: ["*"] })));
  await ada[0].join(talk);
  for (let n = 0; n < 10; n += 1) {
    const more = { clientMessageId: unique("m") };
    // At once, and later.
    const acks = await Promise.all(ada.map((one) => one.send(talk, `message ${n}`, more)));
    acks.push(await ada[n % nodes.length].send(talk, `message ${n}`, more));
    assert.equal(new Set(acks.map((ack) => ack.id)).size, 1, JSON.stringify(acks));
  }
  await ada[1].send(talk, "the last");
  await ada[0].saw("message:new", ({ content }) => content === "the last");
  const contents = messages(ada[0], talk).map(({ content }) => content);
  assert.deepEqual(contents, [...Array.from({ length: 10 }, (_, n) => `message ${n}`), "the last"]);
});

test("who comes back to another node gets what was missed", async () => {
  const talk = unique("talk");
  const id = unique("bo");
  const ada = await nodes[0].visitor("ada", { rooms: ["*"] });
  await ada.join(talk);
  const seen = [];
  let after;
  for (let n = 0; n < 9; n += 1) {
    const bo = await nodes[n % nodes.length].visitor("bo", { sub: id, rooms: ["*"] });
    const { missed, complete } = await bo.join(talk, after && { after });
    assert.equal(complete, true);
    seen.push(...missed.map(({ data }) => data));
    const live = await ada.send(talk, `live ${n}`);
    await bo.saw("message:new", (message) => message.id === live.id);
    seen.push(...messages(bo, talk));
    await bo.disconnect();
    const { epoch, seq } = seen.at(-1);
    after = { epoch, seq };
    await ada.send(talk, `missed ${n}`);
  }
  assertInOrder(seen);
  assert.equal(seen.length, 17);
});
