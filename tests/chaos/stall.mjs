// How long events stay away from their rooms after a node was killed.
//
//   VESTIBULE_NODES=… VESTIBULE_SECRET=… node ../chaos/stall.mjs --victim 0 --senders 48 --seconds 25
//
// The victim is the place of the node that is killed; the senders are at the others, so that nothing of it is
// their own connection. There are enough of them that every node pumps the events of some. `started` is printed
// when the sending begins, and at the end one line of JSON: how long each message took from its
// acknowledgement until its sender saw it in its room, in milliseconds. The exit code is 1 if a message is
// missing, came twice or left a hole.

import { parseArgs } from "node:util";
import { signed } from "../clients/lib/claims.js";
import { Member } from "./member.js";

const { values } = parseArgs({
  options: {
    victim: { type: "string", default: "0" },
    senders: { type: "string", default: "48" },
    seconds: { type: "string", default: "25" },
    // Between two messages of one sender, in milliseconds.
    pace: { type: "string", default: "200" },
    // How long the last messages may take.
    settle: { type: "string", default: "60" },
  },
});
const [senders, seconds, pace, settle] = ["senders", "seconds", "pace", "settle"].map((name) => Number(values[name]));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const others = process.env.VESTIBULE_NODES.split(",").filter((_, n) => n !== Number(values.victim));
const token = (user) => signed({ sub: user, rooms: ["*"] });

const run = `stall-${Date.now().toString(36)}`;
const members = Array.from({ length: senders }, (_, n) => {
  const plan = { url: others[n % others.length], token };
  return new Member(plan, `${run}-user-${n}`, [`${run}-${n}`], { transports: ["websocket"] });
});
await Promise.all(members.map((one) => one.connect()));
// Until every partition has its reader: the nodes share them out for seconds after they started.
await Promise.all(members.map(async (one) => {
  const [room] = one.places.keys();
  await one.send(room, Date.now() + 60_000);
  while (!one.sends[0].seenAt) await pause(20);
}));
console.log("started");

const stop = Date.now() + seconds * 1000;
await Promise.all(members.map(async (one, n) => {
  const [room] = one.places.keys();
  const open = [];
  await pause((pace * n) / senders);
  for (let due = Date.now(); due < stop; due += pace) {
    await pause(Math.max(0, due - Date.now()));
    open.push(one.send(room, stop + settle * 1000));
  }
  await Promise.all(open);
}));
console.log("sent");
const end = Date.now() + settle * 1000;
const isSeen = (send) => send.seenAt !== undefined;
while (!members.every((one) => one.sends.every(isSeen)) && Date.now() < end) await pause(50);
await pause(1_000);

const sends = members.flatMap((one) => one.sends.slice(1));
const waits = sends.filter(isSeen).map((send) => Math.max(0, send.seenAt - send.ackedAt)).sort((a, b) => a - b);
const at = (share) => waits[Math.min(waits.length - 1, Math.floor(waits.length * share))];
// A sender whose events waited for over a second had them pumped by the node that was killed.
const longest = members.map((one) => Math.max(0, ...one.sends.slice(1).filter(isSeen).map((s) => s.seenAt - s.ackedAt)));
const wrongs = members.flatMap((one) => one.wrongs);
const missing = sends.length - waits.length;
for (const one of members) one.close();
console.log(JSON.stringify({
  sent: sends.length,
  missing,
  wrongs: wrongs.slice(0, 10),
  waitMs: { p50: at(0.5), p99: at(0.99), max: waits.at(-1) },
  stalled: { senders: longest.filter((ms) => ms > 1_000).length, of: senders, messages: waits.filter((ms) => ms > 1_000).length },
}));
process.exit(missing === 0 && wrongs.length === 0 ? 0 : 1);
