// What has to agree at the end of a check: what was acknowledged, what each member was shown, and history.

import { compare } from "./member.js";

const NOTES_MAX = 30;
const PAGE = 200;

class Violations {
  constructor() {
    this.count = 0;
    this.notes = [];
  }

  add(what) {
    this.count += 1;
    if (this.notes.length < NOTES_MAX) this.notes.push(what);
  }
}

/** The report of a check. */
export async function judge(fleet, plan, isSettled) {
  const { members } = fleet;
  const violations = new Violations();
  for (const one of members) for (const wrong of one.wrongs) violations.add(wrong);
  const rooms = byRoom(fleet);
  for (const room of rooms.values()) {
    judgeMembers(room, violations);
    judgeSenders(room, violations);
    const history = await read(room.name, members[0], plan);
    judgeHistory(room, history, { plan, violations });
  }
  judgeConnections(members, { plan, violations });
  const sends = members.flatMap((one) => one.sends);
  const acked = sends.filter((send) => send.id);
  for (const { client } of sends.filter((send) => !send.id)) violations.add(`${client} was never acknowledged`);
  if (acked.length === 0) violations.add("nothing was sent");
  if (!isSettled) violations.add("not everything arrived in time");
  const shown = [...rooms.values()].flatMap(({ seen }) => seen.map(({ shown }) => shown.length));
  return {
    senders: members.length,
    rooms: rooms.size,
    nodesPerRoom: spread(rooms),
    sent: sends.length,
    acked: acked.length,
    sentAgain: sends.filter((send) => send.attempts > 1).length,
    shown: shown.reduce((sum, count) => sum + count, 0),
    ...summed(members),
    ackMs: percentiles(acked.map((send) => send.ackedAt - send.at)),
    receiptMs: percentiles(acked.filter((send) => send.seenAt).map((send) => send.seenAt - send.at)),
    backMs: percentiles(members.flatMap((one) => one.backs)),
    violations,
  };
}

function byRoom({ rooms, members }) {
  const found = new Map(rooms.map((name) => [name, { name, acked: new Map(), tried: new Set(), sends: [], seen: [] }]));
  for (const one of members) {
    for (const send of one.sends) {
      const room = found.get(send.room);
      room.sends.push({ ...send, user: one.name, isPatient: one.isPatient });
      room.tried.add(send.client);
      if (send.id) room.acked.set(send.id, send);
    }
    for (const [name, { shown, ids }] of one.places) found.get(name).seen.push({ one, shown, ids });
  }
  for (const [name, { seen }] of found) if (seen.length === 0) found.delete(name);
  return found;
}

/** Every member was shown everything that was acknowledged, and all of them the same in one order. */
function judgeMembers({ name, acked, seen }, violations) {
  const longest = seen.reduce((a, b) => (b.shown.length > a.shown.length ? b : a));
  for (const { one, shown, ids } of seen) {
    for (const id of acked.keys()) {
      if (!ids.has(id)) violations.add(`${one.name} was never shown ${id} of ${name}`);
    }
    if (shown.length !== longest.shown.length) {
      violations.add(`${one.name} was shown ${shown.length} of ${name}, ${longest.one.name} ${longest.shown.length}`);
    }
    const at = shown.findIndex(({ id }, n) => id !== longest.shown[n].id);
    if (at >= 0) violations.add(`${one.name} and ${longest.one.name} see ${name} in two orders from ${at}`);
    const other = shown.findIndex((event, n) => at < 0 && compare(event, longest.shown[n]) !== 0);
    if (other >= 0) violations.add(`${one.name} and ${longest.one.name} see two places of ${shown[other].id}`);
  }
}

/**
 * Each sender's messages are in the order in which it sent them: all of those who waited for each answer; of the
 * others those that one connection sent once. What is sent again may come after what was sent later.
 */
function judgeSenders({ name, sends, seen }, violations) {
  const places = new Map(seen[0].shown.map(({ id }, n) => [id, n]));
  const last = new Map();
  for (const send of sends) {
    if (!send.id || !places.has(send.id)) continue;
    if (!send.isPatient && send.attempts > 1) continue;
    const key = send.isPatient ? send.user : `${send.user} ${send.session}`;
    const place = places.get(send.id);
    const before = last.get(key);
    if (before && place <= before.place) {
      violations.add(`${send.client} is before ${before.client} in ${name}`);
    }
    last.set(key, { place, client: send.client });
  }
}

/** All of a room from history, asked of whichever node the balancer takes. */
async function read(name, reader, { url, token, settleMs }) {
  const authorization = `Bearer ${token(reader.name)}`;
  const end = Date.now() + settleMs;
  const all = [];
  let after = "0";
  for (;;) {
    const path = `/api/conversations/${name}/messages?after=${after}&limit=${PAGE}`;
    const answer = await fetch(url + path, { headers: { authorization } }).catch((error) => error);
    const page = answer.ok ? await answer.json() : undefined;
    // While the archive is down old pages are marked; it has to come back.
    if (!page || page.stale) {
      if (Date.now() > end) return { all, problem: page ? "stale" : `${answer.status ?? answer}` };
      await new Promise((resolve) => setTimeout(resolve, 500));
      continue;
    }
    if (page.messages.length === 0) return { all };
    all.push(...page.messages);
    const { epoch, seq } = all.at(-1);
    after = `${epoch}-${seq}`;
  }
}

/** History holds what was shown, at the places where it was shown, and nothing that nobody sent. */
function judgeHistory({ name, acked, tried, seen }, { all, problem }, { plan, violations }) {
  if (problem) violations.add(`the history of ${name} cannot be read: ${problem}`);
  const held = new Map();
  for (const message of all) {
    if (held.has(message.id)) violations.add(`${message.id} is twice in the history of ${name}`);
    held.set(message.id, message);
    if (!tried.has(message.content)) violations.add(`${message.id} in the history of ${name} was sent by nobody`);
  }
  for (const id of acked.keys()) if (!held.has(id)) violations.add(`${id} is not in the history of ${name}`);
  for (let n = 1; n < all.length; n += 1) {
    if (compare(all[n - 1], all[n]) >= 0) violations.add(`the history of ${name} is out of order at ${n}`);
  }
  for (const shown of seen[0].shown) {
    const message = held.get(shown.id);
    if (!message) continue;
    const places = `${shown.epoch}-${shown.seq} and ${message.epoch}-${message.seq}`;
    if (compare(shown, message) === 0 || (plan.isLossy && message.epoch > shown.epoch)) continue;
    violations.add(`${shown.id} of ${name} was shown and is held at two places: ${places}`);
  }
  if (!problem && all.length !== seen[0].shown.length) {
    violations.add(`${name}: ${all.length} in history, ${seen[0].shown.length} shown`);
  }
}

/** Connections are lost with a node, never with a server behind it. */
function judgeConnections(members, { plan, violations }) {
  for (const { name, losses, backs } of members) {
    if (losses.length > plan.kills) {
      violations.add(`${name} was disconnected: ${losses.map(({ reason }) => reason).join(", ")}`);
    }
    for (const ms of backs) if (ms > plan.backMs) violations.add(`${name} was back after ${ms} ms`);
  }
}

function spread(rooms) {
  const counts = [...rooms.values()].map(({ seen }) => {
    return new Set(seen.flatMap(({ one }) => [...one.nodes])).size;
  });
  return { least: Math.min(...counts), most: Math.max(...counts) };
}

function summed(members) {
  const add = (into, from) => {
    for (const [name, value] of Object.entries(from)) {
      if (typeof value === "number") into[name] = (into[name] ?? 0) + value;
      else into[name] = add(into[name] ?? {}, value);
    }
    return into;
  };
  const total = { disconnects: {}, degraded: {} };
  for (const { counts, losses, degraded } of members) {
    add(total, counts);
    add(total.degraded, degraded);
    for (const { reason } of losses) add(total.disconnects, { [reason]: 1 });
  }
  return total;
}

function percentiles(values) {
  if (values.length === 0) return null;
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: sorted.at(-1) };
}
