// That the judge of a check finds what is wrong.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { judge } from "./judge.js";

const ROOM = "room";
let server;
let history;

before(async () => {
  server = createServer((request, response) => {
    const [epoch, seq] = new URL(request.url, "http://x").searchParams.get("after").split("-").map(Number);
    const isAfter = (one) => seq === undefined || one.epoch > epoch || (one.epoch === epoch && one.seq > seq);
    response.end(JSON.stringify({ messages: history.filter(isAfter) }));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
});
after(() => server.close());

/** Two members of a room: the first sent three messages, all is as it should be. */
function scene() {
  const shown = [1, 2, 3].map((seq) => ({ epoch: 1, seq, id: `e${seq}`, userId: "ada" }));
  history = shown.map((one) => ({ ...one, content: `ada-${one.seq}` }));
  const member = (name) => {
    const own = structuredClone(shown);
    return {
      name, isPatient: true, nodes: new Set(["A"]), losses: [], backs: [], wrongs: [], degraded: {}, counts: {},
      places: new Map([[ROOM, { room: ROOM, shown: own, ids: new Set(own.map(({ id }) => id)) }]]), sends: [],
    };
  };
  const [ada, bo] = [member("ada"), member("bo")];
  ada.sends = shown.map(({ id, seq }) => ({
    id, room: ROOM, client: `ada-${seq}`, at: 0, ackedAt: 1, attempts: 1, session: "s",
  }));
  const { port } = server.address();
  const plan = { url: `http://127.0.0.1:${port}`, token: () => "t", settleMs: 100, kills: 0, backMs: 10 };
  return { ada, bo, plan, fleet: { rooms: [ROOM], members: [ada, bo] } };
}

const see = (member, change) => {
  const place = member.places.get(ROOM);
  change(place.shown);
  place.ids = new Set(place.shown.map(({ id }) => id));
};

for (const [what, spoil, expected] of [
  ["nothing", () => {}, undefined],
  ["a member misses a message", ({ bo }) => see(bo, (shown) => shown.pop()), /never shown e3/],
  ["a member sees another order", ({ bo }) => see(bo, (shown) => shown.reverse()), /two orders/],
  ["a member sees another place", ({ bo }) => see(bo, (shown) => { shown[1].epoch = 2; }), /two places/],
  ["a sender's order is lost", ({ ada }) => ada.sends.reverse(), /is before/],
  ["a message is never acknowledged", ({ ada }) => { delete ada.sends[2].id; }, /never acknowledged/],
  ["history has lost one", () => { history.pop(); }, /e3 is not in the history/],
  ["history holds one twice", () => history.push({ ...history[0], seq: 4 }), /twice in the history/],
  ["history holds one that nobody sent", () => history.push({ ...history[0], id: "e4", seq: 4, content: "?" }),
    /sent by nobody/],
  ["history has another place", () => { history[2].seq = 5; }, /held at two places/],
  ["a connection was lost", ({ bo }) => bo.losses.push({ reason: "transport close" }), /was disconnected/],
  ["somebody was away for long", ({ bo }) => bo.backs.push(11), /was back after/],
  ["a member complains", ({ bo }) => bo.wrongs.push("twice"), /twice/],
]) {
  test(`${what}: ${expected ?? "no violation"}`, async () => {
    const all = scene();
    spoil(all);
    const { violations } = await judge(all.fleet, all.plan, true);
    if (!expected) assert.deepEqual(violations.notes, []);
    else assert.ok(violations.notes.some((note) => expected.test(note)), violations.notes.join("\n"));
  });
}
