// Somebody with devices on two nodes is one person.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { unique } from "../vocabulary/stage.js";
import { anywhere, leave, nodes, withoutLog } from "./deployment.js";

/** Longer than it takes until a loss is told. */
const QUIET_MS = 2_500;

afterEach(leave);

test("two devices on two nodes are online once, and offline once after the last", async () => {
  const sub = unique("ada");
  const watchers = await Promise.all(nodes.map((stage) => stage.visitor("watcher")));
  for (const one of watchers) {
    await one.stage.talk(one, { id: sub });
    await one.ok("presence:subscribe", { userIds: [sub] });
  }
  const told = (event) => watchers.map((one) => one.count(event, ({ userId }) => userId === sub));
  const all = (count) => watchers.map(() => count);

  const first = await nodes[0].visitor("ada", { sub });
  for (const one of watchers) await one.saw("user:online", ({ userId }) => userId === sub);
  const second = await nodes[1].visitor("ada", { sub });
  await anywhere.pause(QUIET_MS);
  assert.deepEqual(told("user:online"), all(1));

  await first.disconnect();
  await anywhere.pause(QUIET_MS);
  assert.deepEqual(told("user:offline"), all(0));
  for (const one of watchers) assert.equal((await one.ok("presence:query", { userId: sub })).online, true);

  await second.disconnect();
  for (const one of watchers) await one.saw("user:offline", ({ userId }) => userId === sub);
  await anywhere.pause(QUIET_MS);
  assert.deepEqual([told("user:online"), told("user:offline")], [all(1), all(1)]);
  for (const one of watchers) assert.equal((await one.ok("presence:query", { userId: sub })).online, false);
  if (withoutLog) return;
  const records = await anywhere.node.records();
  const types = records.filter(({ topic, event }) => topic === "user-activity" && event?.userId === sub);
  assert.deepEqual(types.map(({ event }) => event.type), ["USER_ONLINE", "USER_OFFLINE"]);
});

test("who polls through all nodes is one person too", async () => {
  const sub = unique("ada");
  const watcher = await nodes[0].visitor("watcher");
  await watcher.stage.talk(watcher, { id: sub });
  await watcher.ok("presence:subscribe", { userIds: [sub] });
  const ada = await anywhere.person("ada", { sub }).connect({ transports: ["polling"] });
  await watcher.saw("user:online", ({ userId }) => userId === sub);
  await ada.disconnect();
  await watcher.saw("user:offline", ({ userId }) => userId === sub);
  assert.equal(watcher.count("user:online", ({ userId }) => userId === sub), 1);
});
