// The helper of client/ on the official client, over a link that breaks.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { compare, Vestibule } from "../../../client/vestibule.js";
import { Proxy } from "../../chaos/proxy.js";
import { history, unique, url } from "../lib/node.js";
import { assertInOrder, closePeers, eventually, Peer, pause, socketFor } from "../lib/peer.js";

const DROPS = 12;
const open = [];

afterEach(() => {
  for (const one of open.splice(0)) one.close();
  closePeers();
});

/** Somebody on the helper, whose connection can be cut. */
async function visitor(name, options = {}) {
  const link = await new Proxy(name).listen();
  link.to(Number(new URL(url).port));
  const socket = await socketFor(unique(name), {}, `http://127.0.0.1:${link.port}`);
  const gateway = new Vestibule(socket, { backoffMs: 100, backoffMaxMs: 300, retryMs: 100, ...options });
  const events = [];
  gateway.on("event", (event, data) => events.push({ event, ...data }));
  open.push(gateway, link);
  return { gateway, link, events };
}

const said = (events) => events.filter(({ event }) => event === "message:new").map(({ content }) => content);
const numbers = (count) => Array.from({ length: count }, (_, n) => `${n}`);

test("whoever loses the connection again and again sees everything, once and in order", async () => {
  const talk = unique("talk");
  const ada = await Peer.connect(unique("ada"));
  await ada.join(talk);
  const { gateway, link, events } = await visitor("bo");
  await gateway.join(talk);
  let sent = 0;
  let recovered = 0;
  gateway.on("recovered", () => { recovered += 1; });
  for (let drop = 0; drop < DROPS; drop += 1) {
    for (let n = 0; n < 5; n += 1, sent += 1) await ada.send(talk, `${sent}`);
    // Between two polls there is nothing to cut.
    link.cut();
    for (let n = 0; n < 5; n += 1, sent += 1) await ada.send(talk, `${sent}`);
    // Every other time it is not waited for.
    if (drop % 2 === 0) await eventually("it is back", () => gateway.isConnected && gateway.isIn(talk));
  }
  await eventually("all came", () => events.length >= sent);
  assert.ok(recovered > 0);
  assert.deepEqual(said(events), numbers(sent));
  assertInOrder(events);
  assert.equal(compare(gateway.place(talk), events.at(-1)), 0);
});

test("what is sent over a link that breaks is in the room once, in the order in which it was sent", async () => {
  const talk = unique("talk");
  const bo = await Peer.connect(unique("bo"));
  await bo.join(talk);
  const { gateway, link } = await visitor("ada");
  await gateway.join(talk);
  const acks = numbers(80).map((content) => gateway.send(talk, { content }));
  for (let drop = 0; drop < DROPS; drop += 1) {
    await pause(40);
    link.cut();
  }
  const ids = (await Promise.all(acks)).map(({ id }) => id);
  const messages = await bo.arrived(talk, acks.length);
  assert.deepEqual(messages.map(({ content }) => content), numbers(80));
  assert.deepEqual(messages.map(({ id }) => id), ids);
  assert.equal(gateway.pending, 0);
});

test("acks that never come bring a retry under the same id", async () => {
  const talk = unique("talk");
  const { gateway, link, events } = await visitor("ada", { ackMs: 300 });
  await gateway.join(talk);
  link.deafen();
  const sending = gateway.send(talk, { content: "once" });
  await pause(900);
  link.heal();
  await sending;
  await gateway.send(talk, { content: "then" });
  await eventually("both came", () => events.length >= 2);
  assert.deepEqual(said(events), ["once", "then"]);
});

test("a place that the gateway does not know makes the application read history, and nothing comes twice", async () => {
  const talk = unique("talk");
  const ada = await Peer.connect(unique("ada"));
  await ada.join(talk);
  for (const text of ["one", "two"]) await ada.send(talk, text);
  await ada.arrived(talk, 2);
  const shown = [];
  const reload = async ({ conversationId, reason }) => {
    assert.equal(typeof reason, "string");
    const { body } = await history(conversationId, ada.user);
    shown.push(...body.messages.map(({ content }) => content));
    return body.messages.at(-1);
  };
  const { gateway, events } = await visitor("bo", { reload });
  const { reloaded } = await gateway.join(talk, { after: { epoch: 1_000_000, seq: 1 } });
  assert.notEqual(reloaded, "");
  await ada.send(talk, "three");
  await eventually("it came", () => events.length > 0);
  assert.deepEqual([shown, said(events)], [["one", "two"], ["three"]]);
});

test("what is refused for good is told at once", async () => {
  const { gateway } = await visitor("ada");
  await assert.rejects(gateway.send(unique("talk"), { content: "" }), { code: "invalid" });
  await assert.rejects(gateway.join(""), { code: "invalid" });
});
