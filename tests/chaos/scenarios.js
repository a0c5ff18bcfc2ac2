// Which faults come together, and when.

import { FAULTS } from "./faults.js";

const CLIENTS = [
  "cut clients", "cut clients ten times in a row", "half-open clients", "clients without a network", "slow readers",
  "slow clients down",
];
const LINKS = ["cut a link", "close a link", "stall a link", "slow a link down", "the bus overflows"];
const NODES = ["kill a node", "stop a node and let it go on", "drain a node", "a node joins and leaves"];

export const SCENARIOS = {
  nodes: { faults: [...NODES, "drain every node in turn"], beside: CLIENTS },
  links: { faults: LINKS, beside: CLIENTS },
  // No Redis does this: what it loses, it loses with the connection. Such a loss shows with the room's next event or
  // within seconds; who is cut off before that, and after a later event of another room, cannot know of it.
  bus: { faults: ["lose events on the bus"], beside: [] },
  shards: {
    faults: ["kill a shard", "stop a shard and let it go on", "a shard comes back empty"], beside: [...CLIENTS, ...LINKS],
  },
  log: {
    faults: ["kill the broker", "the broker is away", "stop the broker and let it go on", "kill PostgreSQL", "a node joins and leaves"],
    beside: CLIENTS,
  },
  sentinel: { sentinels: true, faults: ["a primary fails over"], beside: [...CLIENTS, "kill a node"] },
  brokers: { brokers: 3, faults: ["kill one of three brokers"], beside: [...CLIENTS, "kill a node"] },
  skew: {
    skewed: { node: 1, by: 600 }, faults: [...NODES, "stop a shard and let it go on"], beside: CLIENTS,
  },
  everything: {
    faults: [
      ...NODES, "kill a shard", "stop a shard and let it go on", "a shard comes back empty", "kill the broker",
      "kill PostgreSQL", ...LINKS,
    ],
    beside: CLIENTS,
  },
};

/** Between two faults all of them have worked again for a moment, mostly. */
const QUIET_S = [1, 4];
const BESIDE = 0.5;

/**
 * The faults of a run, each once before one comes again: `[{name, quiet, more, beside?}]`. How long one takes shows
 * only when it happens, so it is chosen how long all is well before it.
 */
export function* schedule({ faults, beside }, random, stage) {
  const chosen = (name) => ({ name, more: FAULTS[name].plan(random, stage) });
  for (;;) {
    for (const name of random.shuffled(faults)) {
      const besides = beside.length > 0 && random.next() < BESIDE ? chosen(random.of(beside)) : undefined;
      yield { quiet: 1000 * random.between(...QUIET_S), ...chosen(name), beside: besides };
    }
  }
}

export const isLossy = ({ faults, beside }) => [...faults, ...beside].some((name) => FAULTS[name].isLossy);
