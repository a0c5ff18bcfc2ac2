// Sends through a balancer for a while and judges what became of it.
//
//   VESTIBULE_URL=… VESTIBULE_SECRET=… node tests/chaos/check.mjs --senders 200 --rooms 50 --seconds 60
//
// Every sender is a stock client in some of the rooms. Each message has a clientMessageId and is sent again
// under it until it is acknowledged. Who comes back catches up from the last place it saw in each room.
// `started` is printed when the sending begins, and at the end one line of JSON with what was counted. What a
// member was shown, what was acknowledged and what history holds must agree: else the exit code is 1.

import { parseArgs } from "node:util";
import { signed } from "../clients/lib/claims.js";
import { Fleet } from "./fleet.js";
import { judge } from "./judge.js";

const { values } = parseArgs({
  options: {
    senders: { type: "string", default: "40" },
    rooms: { type: "string", default: "10" },
    // Rooms that each sender is in and sends to.
    each: { type: "string", default: "2" },
    seconds: { type: "string", default: "15" },
    // Messages per second, of all together.
    rate: { type: "string", default: "100" },
    // How long everything may take to arrive after the last was sent.
    settle: { type: "string", default: "60" },
    // Nodes that are killed: each client may lose its connection so often, and no other time.
    kills: { type: "string", default: "0" },
    // How long after the loss of its connection a client may take until it has caught up.
    back: { type: "string", default: "10" },
    // A server may lose what it had confirmed: then places in history may be of a later epoch.
    lossy: { type: "boolean", default: false },
  },
});
const number = (name) => {
  const value = Number(values[name]);
  if (Number.isFinite(value) && value >= 0) return value;
  console.error(`--${name} ${values[name]}: a number is expected`);
  process.exit(64);
};
const plan = {
  url: process.env.VESTIBULE_URL,
  senders: number("senders"),
  rooms: number("rooms"),
  each: number("each"),
  seconds: number("seconds"),
  rate: number("rate"),
  settleMs: number("settle") * 1000,
  kills: number("kills"),
  backMs: number("back") * 1000,
  isLossy: values.lossy,
  token: (user) => signed({ sub: user, rooms: ["*"] }),
};

const fleet = new Fleet(plan);
await fleet.connect();
console.log("started");
await fleet.send();
console.log("sent");
const isSettled = await fleet.settle();
const report = judge(await fleet.record(isSettled), plan);
fleet.close();
console.log(JSON.stringify(report));
process.exit(report.violations.count === 0 ? 0 : 1);
