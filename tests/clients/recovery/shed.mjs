// Clients of two nodes when a third joins: some are sent to it, none loses or doubles a line, none begins anew.
//
// VESTIBULE_READY  a file that is made when the third node is to be started

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { unique } from "../lib/node.js";
import { eventually, pause } from "../lib/peer.js";
import { Traveller } from "../lib/traveller.js";

const CLIENTS = 150;
const room = unique("talk");

/** Until a node that is about to serve does so. */
async function join(traveller) {
  for (;;) {
    const ack = await traveller.ask("join:conversation", { conversationId: room }).catch(() => ({}));
    if (ack.ok) return;
    await pause(50);
  }
}

const travellers = [];
for (let n = 0; n < CLIENTS; n += 1) {
  const traveller = await Traveller.start(unique("bo"), { transports: [n % 3 === 0 ? "polling" : "websocket"] });
  await join(traveller);
  traveller.first = traveller.node();
  traveller.socket.on("connect", () => {
    traveller.returns = [...(traveller.returns ?? []), traveller.socket.recovered];
  });
  travellers.push(traveller);
}
const sender = travellers[1];
const old = new Set(travellers.map(({ first }) => first));
writeFileSync(process.env.VESTIBULE_READY, "");

const sent = [];
let isOver = false;
const sending = (async () => {
  for (let i = 0; !isOver; i += 1) {
    const text = `${i}`;
    for (;;) {
      const request = { conversationId: room, content: text, clientMessageId: text };
      const ack = await sender.socket.timeout(3_000).emitWithAck("message:send", request).catch(() => ({}));
      if (ack.ok) break;
      await pause(50);
    }
    sent.push(text);
    await pause(20);
  }
})();
const moved = () => travellers.filter((traveller) => traveller.socket.connected && !old.has(traveller.node()));
// A third of them, less what is near enough.
await eventually("the new node has its share", () => moved().length >= CLIENTS / 3 * 0.75, 90_000);
isOver = true;
await sending;
await eventually("all are there", () => travellers.every(({ socket }) => socket.connected), 20_000);

const problems = [];
for (const [n, traveller] of travellers.entries()) {
  if (traveller.returns?.includes(false)) {
    problems.push(`client ${n} began anew: ${JSON.stringify(traveller.all("recovery:failed"))}`);
  }
  await eventually("all of it", () => traveller.messages(room).length >= sent.length, 20_000)
    .catch(() => problems.push(`client ${n} was shown ${traveller.messages(room).length} of ${sent.length}`));
  const texts = traveller.messages(room).map(({ content }) => content);
  if (texts.join() !== sent.join()) problems.push(`client ${n} was shown another order`);
}
console.log(`${moved().length} of ${CLIENTS} clients went to the new node, ${sent.length} messages, ${problems.length} problems`);
for (const problem of problems.slice(0, 10)) console.log(problem);
assert.deepEqual(problems, []);
process.exit(0);
