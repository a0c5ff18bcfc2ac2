// That the judge of a check finds what is wrong.

import assert from "node:assert/strict";
import { test } from "node:test";
import { judge } from "./judge.js";

const ROOM = "room";

/** Two members of a room: the first sent three messages, all is as it should be. */
function scene() {
  const shown = [1, 2, 3].map((seq) => ({ epoch: 1, seq, id: `e${seq}`, userId: "ada" }));
  const member = (name) => ({
    name, isPatient: true, nodes: ["A"], losses: [], backs: [], wrongs: [], degraded: {}, counts: {},
    places: [{ room: ROOM, shown: structuredClone(shown), reloads: [] }], sends: [],
  });
  const [ada, bo] = [member("ada"), member("bo")];
  ada.sends = shown.map(({ id, seq }) => ({
    id, room: ROOM, client: `ada-${seq}`, at: 0, ackedAt: 1, attempts: 1, session: "s",
  }));
  const history = shown.map((one) => ({ ...one, content: `ada-${one.seq}` }));
  const archive = structuredClone(shown);
  const record = {
    rooms: [ROOM], members: [ada, bo], isSettled: true, histories: { [ROOM]: { all: history } },
    archives: { [ROOM]: archive }, presence: [{ watcher: "ada", user: "bo", online: true, expected: true }],
    excuses: [{ node: "A", from: 100_000, to: 110_000 }, { isCarried: true, from: 200_000, to: 210_000 }],
  };
  return { ada, bo, history, archive, record, plan: { backMs: 10 } };
}

const shown = ({ places }) => places[0].shown;
const loss = (more) => ({ reason: "transport close", node: "A", at: 105_000, isCarried: false, ...more });
const lossy = (act) => (all) => {
  all.plan.isLossy = true;
  act(all);
};

for (const [what, spoil, expected] of [
  ["nothing", () => {}, undefined],
  ["a member misses a message", ({ bo }) => shown(bo).pop(), /lost: .*never shown e3/],
  ["a member sees a message twice", ({ bo }) => shown(bo).push(shown(bo)[0]), /doubled/],
  ["a member sees another order", ({ bo }) => shown(bo).reverse(), /order: .*two orders/],
  ["a member sees another place", ({ bo }) => { shown(bo)[1].epoch = 2; }, /two places/],
  ["all see another order than history",
    ({ ada, bo }) => [ada, bo].forEach((one) => shown(one).reverse()), /held in two orders/],
  ["a member is told to reload", ({ bo }) => bo.places[0].reloads.push({ reason: "trimmed" }), /reloaded/],
  ["a sender's order is lost", ({ ada }) => ada.sends.reverse(), /is before/],
  ["a message is never acknowledged", ({ ada }) => { delete ada.sends[2].id; }, /never acknowledged/],
  ["nothing is sent", ({ ada }) => { ada.sends = []; }, /nothing was sent/],
  ["not everything arrives", ({ record }) => { record.isSettled = false; }, /not everything arrived/],
  ["history has lost one", ({ history }) => history.pop(), /e3 is not in the history/],
  ["history cannot be read", ({ record }) => { record.histories[ROOM].problem = "503"; }, /cannot be read/],
  ["history holds one twice", ({ history }) => history.push({ ...history[0], seq: 4 }), /twice in the history/],
  ["history holds one that nobody sent",
    ({ history }) => history.push({ ...history[0], id: "e4", seq: 4, content: "?" }), /sent by nobody/],
  ["history has another place", ({ history }) => { history[2].seq = 5; }, /held at two places/],
  ["the archive has lost one", ({ archive }) => archive.pop(), /e3 of room is not in the archive/],
  ["the archive holds one twice", ({ archive }) => archive.push(archive[0]), /twice in the archive/],
  ["the archive holds one more", ({ archive }) => archive.push({ id: "e4", epoch: 1, seq: 4 }), /4 in the archive/],
  ["the archive has another place", ({ archive }) => { archive[1].epoch = 2; }, /archived at 2-2/],
  ["a connection was lost with its node", ({ bo }) => bo.losses.push(loss()), undefined],
  ["a connection was lost with another node", ({ bo }) => bo.losses.push(loss({ node: "B" })), /disconnected: bo/],
  ["a connection was lost while nothing could be expected",
    ({ bo, record }) => { bo.losses.push(loss({ at: 1 })); record.excuses.push({ from: 0, to: 2 }); }, undefined],
  ["a connection was lost some other time", ({ bo }) => bo.losses.push(loss({ at: 1 })), /disconnected: bo/],
  ["a connection was lost with a node that carried it", ({ bo }) => bo.losses.push(loss({ at: 205_000, isCarried: true })), undefined],
  ["a connection that nobody carried was lost meanwhile", ({ bo }) => bo.losses.push(loss({ at: 205_000 })), /disconnected: bo/],
  ["a node sent somebody away for nothing",
    ({ bo, record }) => { bo.losses.push(loss({ at: 1 })); record.sentAway = 1; }, /disconnected: bo/],
  ["a node sent somebody away for a loss",
    lossy(({ bo, record }) => { bo.losses.push(loss({ at: 1 })); record.sentAway = 1; }), undefined],
  ["somebody reloads after a loss", lossy(({ bo }) => bo.places[0].reloads.push({ reason: "epoch" })), undefined],
  ["a loss gave another epoch", lossy(({ bo }) => { shown(bo)[2].epoch = 2; }), undefined],
  ["a loss gave another order", lossy(({ bo }) => shown(bo).reverse()), /two orders/],
  ["somebody was away for long", ({ bo }) => bo.backs.push(11), /was back after/],
  ["a member complains", ({ bo }) => bo.wrongs.push("right after"), /shown: right after/],
  ["somebody is gone for others", ({ record }) => { record.presence[0].online = false; }, /sees bo offline/],
  ["nobody can say who is here", ({ record }) => { delete record.presence[0].online; }, /sees bo not at all/],
  ["a node ends", ({ record }) => { record.ended = ["a"]; }, /node a ended/],
  ["the nodes' own events arrive", ({ record }) => { record.canaries = { delivered: 9, lost: 0, doubled: 0 }; }, undefined],
  ["a node misses its own event", ({ record }) => { record.canaries = { delivered: 9, lost: 1, doubled: 0 }; }, /canary: .*lost/],
  ["a node hears its own event twice", ({ record }) => { record.canaries = { delivered: 9, lost: 0, doubled: 1 }; }, /canary/],
  ["a node panics", ({ record }) => { record.panics = ["thread panicked"]; }, /panicked/],
]) {
  test(`${what}: ${expected ?? "no violation"}`, () => {
    const all = scene();
    spoil(all);
    const { violations } = judge(all.record, all.plan);
    if (!expected) assert.deepEqual(violations.notes, []);
    else assert.ok(violations.notes.some((note) => expected.test(note)), violations.notes.join("\n"));
  });
}

test("without excuses each may lose its connection as often as nodes are killed", () => {
  const { bo, record, plan } = scene();
  delete record.excuses;
  bo.losses.push(loss({ at: 1 }));
  assert.equal(judge(record, { ...plan, kills: 1 }).violations.count, 0);
  assert.equal(judge(record, { ...plan, kills: 0 }).violations.count, 1);
});
