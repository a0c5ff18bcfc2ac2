// A cluster with a way to break every link: nodes reach the servers, and some members the balancer, by proxies.

import { randomBytes } from "node:crypto";
import { execFile } from "node:child_process";
import { copyFile, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { signed } from "../clients/lib/claims.js";
import { nodeOf } from "./member.js";
import { Proxy } from "./proxy.js";
import { Servers } from "./servers.js";

const run = promisify(execFile);
const NODES = ["a", "b", "c"];
/** Its partitions come and go with it; it has no clients. */
const EXTRA = "d";
const SENT_AWAY = "vestibule_bus_reloads_total";
const CANARIES = "vestibule_canary_probes_total";
const LOOK_EVERY_MS = 500;
/** Debian's package `faketime`. */
const FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/** What every node is told. Losses are noticed, and nodes end, within seconds. */
const SETTINGS = {
  mode: "cluster",
  "auth.mode": "token",
  "limits.enabled": "false",
  "presence.grace": "2s",
  "presence.broadcast": "all",
  "transport.ping_interval": "3s",
  "transport.ping_timeout": "7s",
  "kafka.session_timeout": "3s",
  // Sent away for the sake of balance is not lost by a fault, and could be told from it by nobody; recovery/shed.mjs
  // of the clients' tests has it.
  "admission.shed": "false",
  "drain.unready": "1s",
  "drain.parting": "3s",
  "drain.flushing": "5s",
};

export class Stage {
  /** While these last, who they name may lose the connection. */
  excuses = [];
  ended = new Set();
  sentAway = 0;
  #away = new Set();
  #counted = new Map();

  /** `scenario`: `{brokers, sentinels, skewed, settings}`. `programs`: `{node, servers}`. */
  static async start(scenario, programs) {
    const stage = new Stage();
    await stage.#start(scenario, programs);
    return stage;
  }

  async #start({ brokers = 1, sentinels = false, skewed, settings = {} }, programs) {
    const secret = randomBytes(24).toString("hex");
    this.token = (user) => signed({ sub: user, rooms: ["*"] }, secret);
    // With several brokers their own names are used: one that is killed is fault enough.
    const hasKafkaLinks = brokers === 1;
    this.kafka = hasKafkaLinks ? await this.#links("kafka") : [];
    this.servers = await Servers.start(programs.servers, {
      program: programs.node,
      shards: sentinels ? 1 : 2,
      sentinels,
      brokers: hasKafkaLinks ? [this.kafka.map(({ port }) => port)] : Array.from({ length: brokers }, () => []),
    });
    const { ports } = this.servers;
    this.kafka.forEach((link, n) => link.to(ports.vias[0][n]));
    this.postgres = await this.#links("postgres", ports.postgres);
    // One list for each shard.
    this.redis = await Promise.all(ports.shards.map((port, n) => this.#links(`shard ${n}`, port, true)));
    const all = { ...SETTINGS, "auth.secret": secret, "cluster.secret": secret, ...settings };
    const nodes = NODES.map((name, n) => ({ name, settings: { ...all, ...this.#ways(n) }, environment: {} }));
    if (skewed !== undefined) nodes[skewed.node].environment = await skew(skewed.by, ports.folder);
    nodes.push({ name: EXTRA, settings: { ...all, ...this.#ways(undefined) }, extra: true });
    await this.servers.startNodes(nodes);
    // A node that has only just come is not known to all others; polls for its sessions come through them.
    await Promise.all(NODES.map((_, n) => this.#isWhole(n)));
    this.tags = await Promise.all(NODES.map((_, n) => this.#tag(n)));
    this.watch = setInterval(() => this.#look(), LOOK_EVERY_MS);
  }

  get url() {
    return this.servers.url;
  }

  get nodes() {
    return NODES.length;
  }

  /** A member's own way to the balancer. */
  async way(name) {
    const link = await new Proxy(name).listen();
    link.to(Number(new URL(this.url).port));
    return link;
  }

  excuse(excuse) {
    this.excuses.push(excuse);
    return excuse;
  }

  /** What comes to pass with a node: its clients may lose it, and so may those whose bytes it carried to another. */
  async away(n, act) {
    const from = Date.now();
    const own = [this.excuse({ node: this.tags[n], from, to: Infinity }), this.excuse({ isCarried: true, from, to: Infinity })];
    this.#away.add(n);
    try {
      await act();
      await this.servers.ready(n);
    } finally {
      this.#away.delete(n);
      for (const one of own) one.to = Date.now() + LOOK_EVERY_MS;
    }
  }

  async #look() {
    for (let n = 0; n < NODES.length; n += 1) {
      if (this.#away.has(n)) {
        // Its count begins anew.
        this.#counted.delete(n);
        continue;
      }
      const count = await this.servers.metric(n, SENT_AWAY);
      if (count === undefined) continue;
      const before = this.#counted.get(n) ?? 0;
      if (count > before) this.sentAway += count - before;
      this.#counted.set(n, count);
    }
  }

  /** Nodes that are not there although nobody ended them, what they said when they panicked, what their probes found. */
  async misfortunes() {
    const { running, endings } = await this.servers.ask("running");
    const ended = NODES.flatMap((name, n) => (running[n] ? [] : [`${name} (${endings[n]})`]));
    const panics = [];
    for (const { name, log } of this.servers.nodes) {
      const text = await readFile(log, "utf8").catch(() => "");
      panics.push(...text.split("\n").filter((line) => line.includes("panicked")).map((line) => `${name}: ${line}`));
    }
    return { ended, panics, canaries: await this.#canaries() };
  }

  /** What the nodes' own probes found, since each of them was started last. */
  async #canaries() {
    const sum = async (outcome) => {
      const counts = await Promise.all(NODES.map((_, n) => this.servers.metric(n, CANARIES, `outcome="${outcome}"`)));
      return counts.reduce((total, count) => total + (count ?? 0), 0);
    };
    return { delivered: await sum("delivered"), lost: await sum("lost"), doubled: await sum("doubled") };
  }

  /** What the nodes said and what the log holds, to find out what went wrong. Ends the nodes. */
  async keepLogs(folder) {
    await mkdir(folder, { recursive: true });
    for (const { name, log } of this.servers.nodes) await copyFile(log, join(folder, `${name}.log`)).catch(() => {});
    // Whoever reads a topic to its end must not be written to: nodes send canaries.
    for (let n = 0; n < this.servers.nodes.length; n += 1) await this.servers.ask("kill", "node", n);
    for (const topic of ["messages", "timeline"]) {
      const { file } = await this.servers.ask("dump", topic);
      await copyFile(file, join(folder, `${topic}.txt`));
    }
  }

  async close() {
    clearInterval(this.watch);
    await this.servers.close();
    for (const link of [...this.kafka, ...this.postgres, ...this.redis.flat()]) link.close();
  }

  /** A link for each node. */
  #links(name, port, isRedis = false) {
    return Promise.all(NODES.map(async (node) => {
      const link = await new Proxy(`${node} to ${name}`, { isRedis }).listen();
      link.to(port);
      return link;
    }));
  }

  /** The settings that name the servers; straight to them for a node without links. */
  #ways(n) {
    const { ports } = this.servers;
    const own = (links, port) => (n === undefined ? port : links[n].port);
    const shards = ports.shards.map((port, k) => `shard-${k}=redis://127.0.0.1:${own(this.redis[k], port)}`);
    if (ports.sentinels) shards.push(`shard-${shards.length}=${ports.sentinels}`);
    return {
      // As an array: addresses of Sentinels have commas in them.
      "redis.shards": JSON.stringify(shards),
      "kafka.brokers": this.kafka.length > 0 && n !== undefined ? `127.0.0.1:${this.kafka[n].port}` : ports.kafka,
      "postgres.url": `postgres://vestibule@127.0.0.1:${own(this.postgres, ports.postgres)}/vestibule`,
    };
  }

  /** Waits until a node knows all others. */
  async #isWhole(n) {
    for (;;) {
      const answer = await fetch(`${this.servers.nodes[n].operations}/cluster`);
      if ((await answer.json()).nodes?.length === NODES.length) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** How a node's session ids name it. */
  async #tag(n) {
    const answer = await fetch(`${this.servers.nodes[n].url}/socket.io/?EIO=4&transport=polling`);
    return nodeOf(JSON.parse((await answer.text()).slice(1)).sid);
  }
}

/** The wall clock of a process, wrong by some seconds; its monotonic clock stays right. */
async function skew(seconds, folder) {
  const own = join(folder, "skew.so");
  await run("cc", ["-shared", "-fPIC", "-O1", "-o", own, join(import.meta.dirname, "skew.c")]);
  return {
    LD_PRELOAD: `${own}:${FAKETIME}`,
    FAKETIME: `${seconds < 0 ? "" : "+"}${seconds}`,
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
    CHAOS_SKEW_S: String(seconds),
  };
}
