// The cluster under test, as stages for people: one at the balancer, and one at each node.
//
// VESTIBULE_URL     the balancer
// VESTIBULE_NODES   the nodes, separated by commas
// VESTIBULE_SECRET  what tokens are signed with
// VESTIBULE_LOG     a file that a consumer of all topics writes to, a record on each line; without it
//                   nothing can be asked of the log

import { readFileSync } from "node:fs";
import { signed } from "../lib/claims.js";
import { Stage, unique } from "../vocabulary/stage.js";

function required(name) {
  const value = process.env[name];
  if (value) return value;
  console.error(`${name} is not set`);
  process.exit(64);
}

const LOG = process.env.VESTIBULE_LOG;
required("VESTIBULE_SECRET");

/** What a stage asks of a node. */
class Entrance {
  constructor(url) {
    this.url = url.replace(/\/$/, "");
  }

  token(claims) {
    return signed(claims);
  }

  /** What the log holds: `{topic, key, event}`. */
  async records() {
    const lines = readFileSync(LOG, "utf8").split("\n");
    // The last one may not be whole yet.
    return lines.slice(0, -1).map((line) => JSON.parse(line));
  }
}

/** Enough that all partitions of the log have some. */
const PROBES = 24;

/** Waits until every partition has a reader: the nodes share them out for seconds after they started. */
async function warm(stage) {
  await Promise.all(Array.from({ length: PROBES }, async () => {
    const one = await stage.visitor("probe", { rooms: ["*"] });
    const talk = unique("probe");
    await one.join(talk);
    await one.send(talk, "is anybody there?");
    await one.saw("message:new");
  }));
  stage.close();
}

/** A reason to skip a test that reads the log, or false. */
export const withoutLog = LOG ? false : "needs VESTIBULE_LOG";

/** At the balancer: every connection and request comes to another node. */
export const anywhere = new Stage(new Entrance(required("VESTIBULE_URL")));

/** At each node. */
export const nodes = required("VESTIBULE_NODES").split(",").map((url) => new Stage(new Entrance(url)));

await warm(anywhere);

/** Ends the connections of a test. */
export function leave() {
  for (const stage of [anywhere, ...nodes]) stage.close();
}

/** How many milliseconds something takes until it is true. */
export async function taken(stage, what, probe) {
  const start = performance.now();
  await stage.eventually(what, probe);
  return performance.now() - start;
}
