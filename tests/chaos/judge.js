// What has to agree at the end of a check: what was acknowledged, what each member was shown, history, the archive.
//
// No network, no clock: everything is in the record.
//
// A record: `{rooms: [name], members: [Member.record()], histories: {room: {all, problem}}, isSettled}` and, where
// there is more to hold it against: `archives: {room: [{epoch, seq, id}]}`, `presence: [{watcher, user, online,
// expected}]`, `excuses: [{from, to, node?, member?, isCarried?}]` for lost connections (one that names nobody is for all), `sentAway` (how many
// connections the nodes say they closed because a room could not be completed), `ended` (nodes that ended by
// themselves), `panics`, `canaries: {delivered, lost, doubled}` (what the nodes count of their own events).
//
// A plan: `isLossy` (a server may have lost what it had confirmed: rooms may be told to reload, and places may be
// of a later epoch), `backMs`, and without excuses `kills`, how often each may lose its connection.

const NOTES_MAX = 30;
/** A loss may be noticed this much before and after what caused it. */
const SLACK_MS = 1_000;

export const compare = (a, b) => a.epoch - b.epoch || a.seq - b.seq;

class Violations {
  constructor() {
    this.count = 0;
    this.kinds = {};
    this.notes = [];
  }

  add(kind, what) {
    this.count += 1;
    this.kinds[kind] = (this.kinds[kind] ?? 0) + 1;
    if (this.notes.length < NOTES_MAX) this.notes.push(`${kind}: ${what}`);
  }
}

/** The report of a check. */
export function judge(record, plan) {
  const { members } = record;
  const violations = new Violations();
  for (const one of members) for (const wrong of one.wrongs) violations.add("shown", wrong);
  const rooms = byRoom(record);
  for (const room of rooms.values()) {
    judgeReloads(room, { plan, violations });
    judgeMembers(room, { plan, violations });
    judgeSenders(room, violations);
    judgeHistory(room, { plan, violations });
    judgeArchive(room, violations);
  }
  judgeConnections(record, { plan, violations });
  judgePresence(record, violations);
  for (const name of record.ended ?? []) violations.add("ended", `node ${name} ended by itself`);
  for (const line of record.panics ?? []) violations.add("panicked", line);
  for (const what of ["lost", "doubled"]) {
    const count = record.canaries?.[what] ?? 0;
    if (count > 0) violations.add("canary", `the nodes say that ${count} of their own events were ${what}`);
  }
  const sends = members.flatMap((one) => one.sends);
  const acked = sends.filter((send) => send.id);
  for (const { client } of sends.filter((send) => !send.id)) violations.add("unanswered", `${client} was never acknowledged`);
  if (acked.length === 0) violations.add("unanswered", "nothing was sent");
  if (!record.isSettled) violations.add("late", "not everything arrived in time");
  return report({ record, rooms, sends, acked, violations });
}

function report({ record: { members, canaries }, rooms, sends, acked, violations }) {
  const all = [...rooms.values()];
  const shown = all.flatMap(({ seen }) => seen.map((one) => one.shown.length));
  return {
    senders: members.length,
    rooms: rooms.size,
    nodesPerRoom: spread(all),
    sent: sends.length,
    acked: acked.length,
    sentAgain: sends.filter((send) => send.attempts > 1).length,
    shown: shown.reduce((sum, count) => sum + count, 0),
    archived: all.reduce((sum, { archive }) => sum + (archive?.length ?? 0), 0),
    canaries: canaries?.delivered,
    reloadedRooms: all.filter(({ seen }) => seen.some(({ reloads }) => reloads.length > 0)).length,
    ...summed(members),
    ackMs: percentiles(acked.map((send) => send.ackedAt - send.at)),
    receiptMs: percentiles(acked.filter((send) => send.seenAt).map((send) => send.seenAt - send.at)),
    backMs: percentiles(members.flatMap((one) => one.backs)),
    violations,
  };
}

function byRoom({ rooms, members, histories, archives }) {
  const found = new Map(rooms.map((name) => [name, {
    name, acked: new Map(), tried: new Set(), sends: [], seen: [],
    history: histories[name], archive: archives?.[name],
  }]));
  for (const one of members) {
    for (const send of one.sends) {
      const room = found.get(send.room);
      room.sends.push({ ...send, user: one.name, isPatient: one.isPatient });
      room.tried.add(send.client);
      if (send.id) room.acked.set(send.id, send);
    }
    for (const { room, shown, reloads } of one.places) {
      found.get(room).seen.push({ one, shown, reloads: reloads ?? [], ids: new Set(shown.map(({ id }) => id)) });
    }
  }
  for (const [name, { seen }] of found) if (seen.length === 0) found.delete(name);
  return found;
}

/** Nobody is told to read anew unless something was lost. */
function judgeReloads({ name, seen }, { plan, violations }) {
  if (plan.isLossy) return;
  for (const { one, reloads } of seen) {
    for (const { reason } of reloads) violations.add("reloaded", `${one.name} was told to reload ${name}: ${reason}`);
  }
}

/** Where two places of one event may be: the same, or what was lost was put in order again. */
const isSame = (earlier, later, plan) =>
  compare(earlier, later) === 0 || (plan.isLossy && earlier.epoch !== later.epoch);

/** Every member was shown everything that was acknowledged, once, and all of them the same in one order. */
function judgeMembers({ name, acked, seen }, { plan, violations }) {
  const longest = seen.reduce((a, b) => (b.shown.length > a.shown.length ? b : a));
  for (const { one, shown, ids } of seen) {
    for (const id of acked.keys()) {
      if (!ids.has(id)) violations.add("lost", `${one.name} was never shown ${id} of ${name}`);
    }
    if (ids.size !== shown.length) violations.add("doubled", `${one.name} was shown an event of ${name} twice`);
    if (shown.length !== longest.shown.length) {
      violations.add("unequal", `${one.name} was shown ${shown.length} of ${name}, ${longest.one.name} ${longest.shown.length}`);
    }
    const at = shown.findIndex(({ id }, n) => id !== longest.shown[n].id);
    if (at >= 0) violations.add("order", `${one.name} and ${longest.one.name} see ${name} in two orders from ${at}`);
    const other = shown.findIndex((event, n) => at < 0 && !isSame(event, longest.shown[n], plan));
    if (other >= 0) violations.add("order", `${one.name} and ${longest.one.name} see two places of ${shown[other].id}`);
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
      violations.add("sender's order", `${send.client} is before ${before.client} in ${name}`);
    }
    last.set(key, { place, client: send.client });
  }
}

/** History holds what was shown, at the places where it was shown, and nothing that nobody sent. */
function judgeHistory({ name, acked, tried, seen, history }, { plan, violations }) {
  const { all, problem } = history;
  const wrong = (what) => violations.add("history", what);
  if (problem) wrong(`the history of ${name} cannot be read: ${problem}`);
  const held = new Map();
  for (const message of all) {
    if (held.has(message.id)) wrong(`${message.id} is twice in the history of ${name}`);
    held.set(message.id, message);
    if (!tried.has(message.content)) wrong(`${message.id} in the history of ${name} was sent by nobody`);
  }
  for (const id of acked.keys()) if (!held.has(id)) wrong(`${id} is not in the history of ${name}`);
  for (let n = 1; n < all.length; n += 1) {
    if (compare(all[n - 1], all[n]) >= 0) wrong(`the history of ${name} is out of order at ${n}`);
  }
  const { shown } = seen[0];
  for (const event of shown) {
    const message = held.get(event.id);
    if (!message || isSame(event, message, plan)) continue;
    const places = `${event.epoch}-${event.seq} and ${message.epoch}-${message.seq}`;
    wrong(`${event.id} of ${name} was shown and is held at two places: ${places}`);
  }
  if (problem) return;
  if (all.length !== shown.length) wrong(`${name}: ${all.length} in history, ${shown.length} shown`);
  const at = all.findIndex(({ id }, n) => shown[n] && shown[n].id !== id);
  if (at >= 0) wrong(`${name} was shown and is held in two orders from ${at}`);
}

/** The archive holds exactly what history tells. */
function judgeArchive({ name, history, archive }, violations) {
  if (!archive) return;
  const held = new Map(archive.map((row) => [row.id, row]));
  if (held.size !== archive.length) violations.add("archive", `an event of ${name} is twice in the archive`);
  for (const message of history.all) {
    const row = held.get(message.id);
    if (!row) violations.add("archive", `${message.id} of ${name} is not in the archive`);
    else if (compare(row, message) !== 0) {
      violations.add("archive", `${message.id} of ${name} is archived at ${row.epoch}-${row.seq}, told at ${message.epoch}-${message.seq}`);
    }
  }
  if (!history.problem && archive.length !== history.all.length) {
    violations.add("archive", `${name}: ${archive.length} in the archive, ${history.all.length} in history`);
  }
}

/** Connections are lost with a node or on the way to it, never with a server behind it. */
function judgeConnections({ members, excuses, sentAway = 0 }, { plan, violations }) {
  const unexcused = [];
  for (const { name, losses, backs } of members) {
    if (excuses) {
      const mine = losses.filter((loss) => !excuses.some((excuse) => covers(excuse, name, loss)));
      unexcused.push(...mine.map((loss) => ({ name, ...loss })));
    } else if (losses.length > plan.kills) {
      violations.add("disconnected", `${name}: ${losses.map(lossText).join(", ")}`);
    }
    for (const ms of backs) if (ms > plan.backMs) violations.add("late", `${name} was back after ${ms} ms`);
  }
  // What a lost epoch took with it cannot always be brought back; then a room's members begin anew.
  if (unexcused.length <= (plan.isLossy ? sentAway : 0)) return;
  for (const { name, ...loss } of unexcused) violations.add("disconnected", `${name} ${lossText(loss)}`);
}

const lossText = ({ reason, why, at, node }) => `at ${at} from ${node}: ${reason}${why ? ` (${why})` : ""}`;

function covers({ from, to, node, member, isCarried }, name, loss) {
  if (node !== undefined && node !== loss.node) return false;
  if (member !== undefined && member !== name) return false;
  if (isCarried && !loss.isCarried) return false;
  return loss.at >= from - SLACK_MS && loss.at <= to + SLACK_MS;
}

/** In the end everybody who asks sees who is here. */
function judgePresence({ presence = [] }, violations) {
  for (const { watcher, user, online, expected } of presence) {
    if (online === expected) continue;
    violations.add("presence", `${watcher} sees ${user} ${online === undefined ? "not at all" : online ? "online" : "offline"}`);
  }
}

function spread(rooms) {
  const counts = rooms.map(({ seen }) => new Set(seen.flatMap(({ one }) => one.nodes)).size);
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
