// What is measured: the servers and the cases. Everything else is in run.mjs.
//
// A server is a command, the lines by which it says where it listens, and the words it knows.

import { join } from "node:path";

/** @param {{binaries: string, data: string}} at where the programs are, and a fresh folder */
export const servers = ({ binaries, data }) => ({
  vestibule: {
    title: "Vestibule (relay)",
    dialect: "relay",
    command: [join(binaries, "examples", "relay"), "--listen", "127.0.0.1:0"],
    ready: { address: /listening (?<value>\S+:\d+)/ },
  },
  node: {
    title: "Node socket.io",
    dialect: "relay",
    command: [process.execPath, join(import.meta.dirname, "node", "server.mjs")],
    ready: { address: /listening (?<value>\S+:\d+)/ },
  },
  gateway: {
    title: "Vestibule (gateway)",
    dialect: "vestibule",
    command: [
      join(binaries, "vestibule"),
      ...["serve", "--listen", "127.0.0.1:0", "--operations", "127.0.0.1:0", "--data", data],
    ],
    // What is measured is what it can do, not what it allows.
    env: { VESTIBULE__LIMITS__ENABLED: "false" },
    ready: {
      address: /open http:\/\/(?<value>127\.0\.0\.1:\d+)/,
      operations: /listening name=operations address=(?<value>\S+)/,
    },
    token: [
      join(binaries, "vestibule"),
      ...["token", "--user", "load", "--rooms", "conversation:*", "--ttl", "1h", "--data", data],
    ],
  },
});

const relays = ["vestibule", "node"];
const f1k = ["--connections", "1000", "--rooms", "1", "--publishers", "4"];
const f10k = ["--connections", "10000", "--rooms", "100", "--publishers", "1"];

export const cases = [
  {
    name: "idle-10k",
    what: "10,000 sockets in 100 rooms, silent",
    servers: relays,
    load: ["idle", "--connections", "10000", "--rooms", "100"],
    duration: "5s",
  },
  {
    name: "f1k-max",
    what: "1,000 sockets in 1 room, 4 publishers with 4 events on their way each",
    servers: relays,
    load: ["fanout", ...f1k, "--window", "16"],
    duration: "10s",
  },
  {
    name: "f10k-max",
    what: "10,000 sockets in 100 rooms, 2 events on their way per room",
    servers: relays,
    load: ["fanout", ...f10k, "--window", "2"],
    duration: "10s",
  },
  {
    name: "f1k-50k",
    what: "1,000 sockets in 1 room, 50,000 deliveries/s in an open loop",
    servers: relays,
    load: ["fanout", ...f1k, "--rate", "50000"],
    duration: "10s",
  },
  {
    name: "echo",
    what: "100 sockets, 1 question of 64 bytes on its way each",
    servers: relays,
    load: ["echo", "--connections", "100", "--payload", "64"],
    duration: "10s",
  },
  {
    name: "durable-1k",
    what: "1,000 sockets in 1 conversation, 4 publishers with 4 messages on their way each",
    servers: ["gateway"],
    load: ["durable", ...f1k, "--window", "16"],
    duration: "10s",
  },
  {
    name: "durable-small",
    what: "1,000 sockets in 100 conversations, 2 messages on their way per conversation",
    servers: ["gateway"],
    load: ["durable", "--connections", "1000", "--rooms", "100", "--publishers", "1", "--window", "2"],
    duration: "10s",
  },
  {
    name: "reads",
    what:
      "1,000 reads/s in an open loop over 32 connections that are kept: 60 % session checks (`GET /api/profile`), " +
      "25 % newest pages of history (50 messages), 10 % conversation lists, 5 % presence of 10 users; " +
      "1,000 signed-up users and 100 conversations of 30 drawn by Zipf; 10 messages/s are sent meanwhile",
    servers: ["gateway"],
    load: ["reads"],
    duration: "20s",
  },
];
