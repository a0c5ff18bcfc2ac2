// All members of a check.

import { randomBytes } from "node:crypto";
import { Member, readHistory } from "./member.js";

const TRANSPORTS = [
  ["websocket"], ["polling", "websocket"], ["websocket"], ["websocket"], ["polling"],
  ["websocket"], ["polling", "websocket"], ["websocket"], ["websocket"], ["polling", "websocket"],
];
const AT_ONCE = 20;
/** After everything came: for what comes twice. */
const AFTERWARDS_MS = 2_000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Fleet {
  /** `more(n)`: what is special about a member. */
  constructor(plan, more = () => ({})) {
    this.plan = plan;
    const run = randomBytes(4).toString("hex");
    this.rooms = Array.from({ length: plan.rooms }, (_, n) => `check-${run}-${n}`);
    this.members = Array.from({ length: plan.senders }, (_, n) => {
      const first = n % plan.rooms;
      const step = 1 + Math.floor(n / plan.rooms);
      const own = new Set(Array.from({ length: plan.each }, (_, k) => this.rooms[(first + k * step) % plan.rooms]));
      const transports = TRANSPORTS[n % TRANSPORTS.length];
      return new Member(plan, `${run}-user-${n}`, [...own], { transports, ...more(n) });
    });
  }

  async connect() {
    for (let from = 0; from < this.members.length; from += AT_ONCE) {
      await Promise.all(this.members.slice(from, from + AT_ONCE).map((one) => one.connect()));
    }
  }

  /** Everybody sends at an even pace; half of them wait for each answer, as the client's `retries` does. */
  async send() {
    const { seconds, rate, settleMs } = this.plan;
    const period = (1000 * this.members.length) / rate;
    const start = Date.now();
    const stop = start + seconds * 1000;
    const end = stop + settleMs;
    await Promise.all(this.members.map(async (one, n) => {
      const rooms = [...one.places.keys()];
      const open = [];
      one.isPatient = n % 2 === 0;
      let due = start + (period * n) / this.members.length;
      for (let k = 0; due < stop; k += 1, due += period) {
        await pause(Math.max(0, due - Date.now()));
        const sending = one.send(rooms[k % rooms.length], end);
        if (one.isPatient) await sending;
        else open.push(sending);
        if (Date.now() > stop) break;
      }
      await Promise.all(open);
    }));
  }

  /** Waits until every member has all that was acknowledged in its rooms; whether that came. */
  async settle() {
    const end = Date.now() + this.plan.settleMs;
    const acked = new Map(this.rooms.map((room) => [room, []]));
    for (const one of this.members) {
      for (const { id, room } of one.sends) if (id) acked.get(room).push(id);
    }
    const isDone = (one) => one.socket.connected && [...one.places.values()]
      .every(({ room, ids, isIn }) => isIn && acked.get(room).every((id) => ids.has(id)));
    let left = this.members;
    for (;;) {
      left = left.filter((one) => !isDone(one));
      if (left.length === 0 || Date.now() > end) break;
      await pause(100);
    }
    await pause(AFTERWARDS_MS);
    return left.length === 0;
  }

  /** What the judge is given, with history as it is now. */
  async record(isSettled) {
    const { rooms, plan } = this;
    const histories = {};
    for (const room of rooms) histories[room] = await readHistory(plan, this.members[0].name, room);
    return { rooms, isSettled, histories, members: this.members.map((one) => one.record()) };
  }

  close() {
    for (const one of this.members) one.close();
  }
}
