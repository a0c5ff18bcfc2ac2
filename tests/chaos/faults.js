// What can go wrong. Each takes the stage, its own numbers, and the members, and ends when all is well again.

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Until a client that hears nothing has noticed and has come back. */
const NOTICED_MS = 20_000;

const node = (random, { nodes }) => ({ node: random.whole(0, nodes) });
const shard = (random, { redis }) => ({ shard: random.whole(0, redis.length) });
const span = (least, most) => (random) => ({ ms: random.whole(least, most) });
const all = (...parts) => (random, stage) => Object.assign({}, ...parts.map((part) => part(random, stage)));
const nothing = () => ({});

/** One link, or that of every node to the same server. */
const link = (random, stage) => {
  const kinds = ["redis", stage.kafka.length > 0 ? "kafka" : "redis", "postgres"];
  const kind = random.of(kinds);
  const shard = kind === "redis" ? random.whole(0, stage.redis.length) : undefined;
  return { kind, shard, node: random.of([undefined, ...stage.tags.keys()]) };
};
const links = (stage, { kind, shard, node }) => {
  const found = kind === "redis" ? stage.redis[shard] : stage[kind];
  return node === undefined ? found : [found[node]];
};
/** Some of the members that have a way of their own. */
const members = (random, stage) => ({ members: random.shuffled([...stage.ways.keys()]).slice(0, 3) });

async function onMembers(stage, { members, ms }, act) {
  const ways = members.map((n) => stage.ways[n]);
  const from = Date.now();
  for (const { name } of ways) stage.excuse({ member: name, from, to: from + ms + NOTICED_MS });
  for (const way of ways) act(way);
  await pause(ms);
  for (const way of ways) way.heal();
}

async function onLinks(stage, fault, act) {
  const found = links(stage, fault);
  for (const one of found) act(one);
  await pause(fault.ms);
  for (const one of found) one.heal();
}

async function restart(stage, what, n, ms) {
  await stage.servers.ask("kill", what, n);
  await pause(ms);
  await stage.servers.ask("start", what, n);
}

async function hold(stage, what, n, ms) {
  await stage.servers.ask("pause", what, n);
  await pause(ms);
  await stage.servers.ask("resume", what, n);
}

const drain = (stage, n) => stage.away(n, async () => {
  await stage.servers.ask("part", "node", n);
  while (await isRunning(stage, n)) await pause(100);
  await stage.servers.ask("start", "node", n);
});

const isRunning = async (stage, n) => (await stage.servers.ask("running")).running[n];

/**
 * By name: `plan` chooses its numbers, `act` lets it happen. `isLossy`: a server may lose what it had confirmed.
 */
export const FAULTS = {
  "kill a node": {
    plan: all(node, span(0, 3_000)),
    act: (stage, { node, ms }) => stage.away(node, () => restart(stage, "node", node, ms)),
  },
  "stop a node and let it go on": {
    plan: all(node, span(500, 12_000)),
    act: (stage, { node, ms }) => stage.away(node, () => hold(stage, "node", node, ms)),
  },
  "drain every node in turn": {
    plan: nothing,
    act: async (stage) => {
      for (let n = 0; n < stage.nodes; n += 1) await drain(stage, n);
    },
  },
  "drain a node": { plan: node, act: (stage, { node }) => drain(stage, node) },
  "a node joins and leaves": {
    plan: span(3_000, 6_000),
    act: async (stage, { ms }) => {
      const extra = stage.nodes;
      await stage.servers.ask("start", "node", extra);
      await stage.servers.ready(extra);
      await pause(ms);
      await stage.servers.ask("part", "node", extra);
      while (await isRunning(stage, extra)) await pause(100);
    },
  },
  "kill a shard": {
    isLossy: true,
    plan: all(shard, span(0, 4_000)),
    act: (stage, { shard, ms }) => restart(stage, "shard", shard, ms),
  },
  "stop a shard and let it go on": {
    plan: all(shard, span(500, 6_000)),
    act: (stage, { shard, ms }) => hold(stage, "shard", shard, ms),
  },
  "a shard comes back empty": {
    isLossy: true,
    plan: shard,
    act: (stage, { shard }) => stage.servers.ask("lose", "shard", shard),
  },
  "a primary fails over": {
    isLossy: true,
    plan: span(6_000, 9_000),
    act: (stage, { ms }) => restart(stage, "primary", 0, ms),
  },
  "kill the broker": {
    plan: span(0, 3_000),
    act: (stage, { ms }) => restart(stage, "broker", 0, ms),
  },
  // Longer than a sender is left to wait.
  "the broker is away": {
    plan: span(9_000, 14_000),
    act: (stage, { ms }) => restart(stage, "broker", 0, ms),
  },
  "stop the broker and let it go on": {
    plan: span(500, 6_000),
    act: (stage, { ms }) => hold(stage, "broker", 0, ms),
  },
  "kill one of three brokers": {
    plan: all((random) => ({ broker: random.whole(0, 3) }), span(1_000, 8_000)),
    act: (stage, { broker, ms }) => restart(stage, "broker", broker, ms),
  },
  "kill PostgreSQL": {
    plan: span(0, 8_000),
    act: (stage, { ms }) => restart(stage, "postgres", 0, ms),
  },
  "cut a link": { plan: all(link, span(1, 100)), act: (stage, fault) => onLinks(stage, fault, (one) => one.cut()) },
  "close a link": {
    plan: all(link, span(500, 6_000)),
    act: (stage, fault) => onLinks(stage, fault, (one) => one.refuse()),
  },
  "stall a link": {
    plan: all(link, span(500, 8_000)),
    act: (stage, fault) => onLinks(stage, fault, (one) => one.stall()),
  },
  "slow a link down": {
    plan: all(link, span(2_000, 8_000), (random) => ({ by: random.whole(20, 400) })),
    act: (stage, fault) => onLinks(stage, fault, (one) => one.delay(fault.by)),
  },
  // As Redis does when a subscriber's output buffer is full: what is in it is gone, and then the connection.
  "the bus overflows": {
    plan: all(shard, span(100, 1_500), (random, { tags }) => ({ node: random.of([undefined, ...tags.keys()]) })),
    act: async (stage, { shard, ms, node }) => {
      const found = links(stage, { kind: "redis", shard, node });
      for (const one of found) one.overflow();
      await pause(ms);
      for (const one of found) one.cut();
    },
  },
  "lose events on the bus": {
    plan: all(shard, span(3_000, 8_000), (random) => ({ share: random.between(0.05, 0.5) })),
    act: async (stage, { shard, ms, share }) => {
      for (const one of stage.redis[shard]) one.lossy(() => Math.random() < share);
      await pause(ms);
      for (const one of stage.redis[shard]) one.heal();
    },
  },
  "cut clients": {
    plan: all(members, span(1, 100)),
    act: (stage, fault) => onMembers(stage, fault, (way) => way.cut()),
  },
  "cut clients ten times in a row": {
    plan: all(members, span(1, 100)),
    act: async (stage, fault) => {
      for (let n = 0; n < 10; n += 1) {
        await onMembers(stage, fault, (way) => way.cut());
        await pause(400);
      }
    },
  },
  "half-open clients": {
    plan: all(members, span(1, 100)),
    act: (stage, fault) => onMembers(stage, fault, (way) => way.forget()),
  },
  "clients without a network": {
    plan: all(members, span(500, 10_000)),
    act: (stage, fault) => onMembers(stage, fault, (way) => way.refuse()),
  },
  "slow readers": {
    plan: all(members, span(1_000, 8_000)),
    act: (stage, fault) => onMembers(stage, fault, (way) => way.deafen()),
  },
  "slow clients down": {
    plan: all(members, span(2_000, 8_000), (random) => ({ by: random.whole(50, 800) })),
    act: (stage, fault) => onMembers(stage, fault, (way) => way.delay(fault.by)),
  },
};
