// What the words do that the program handles or tells by itself, without a row of the catalogue.

import assert from "node:assert/strict";
import { refused, TIMESTAMP } from "./stage.js";

/** Event → what it does, at a stage. */
export const words = {};

words["join:conversation"] = async (stage) => {
  const { ada, bo, talk } = await stage.pair();
  await ada.send(talk, "one");
  const seen = await bo.saw("message:new");
  await bo.disconnect();
  await ada.send(talk, "two");
  await ada.send(talk, "three");
  await ada.saw("message:new", ({ content }) => content === "three");
  await bo.connect();
  const { epoch, seq } = seen;
  const joined = await bo.join(talk, { after: { epoch, seq } });
  assert.equal(joined.room, `conversation:${talk}`);
  assert.equal(joined.complete, true);
  assert.ok(joined.epoch >= 1 && joined.seq >= seq + 2);
  const missed = joined.missed.filter(({ event }) => event === "message:new");
  assert.deepEqual(missed.map(({ data }) => data.content), ["two", "three"]);
  const fresh = await bo.join(talk);
  assert.deepEqual([fresh.missed, fresh.complete], [[], true]);
};

words["leave:conversation"] = async (stage) => {
  const { ada, bo, talk } = await stage.pair();
  await bo.ok("leave:conversation", { conversationId: talk });
  await ada.send(talk, "without you");
  await ada.saw("message:new");
  assert.equal(bo.count("message:new"), 0);
  await bo.ok("leave:conversation", { conversationId: talk });
  await bo.join(talk);
};

words["private-message"] = async (stage) => {
  const [ada, bo] = [await stage.visitor("ada"), await stage.visitor("bo")];
  const first = await ada.ok("private-message", { toUserId: bo.id, message: "psst" });
  const answer = await bo.ok("private-message", { toUserId: ada.id, message: "what?" });
  assert.equal(answer.conversationId, first.conversationId, "there is one for the two");
  assert.equal(first.room, `conversation:${first.conversationId}`);
  const again = { toUserId: bo.id, message: "once", clientMessageId: "m1" };
  const [one, two] = [await ada.ok("private-message", again), await ada.ok("private-message", again)];
  assert.equal(one.id, two.id);
  refused(await ada.ask("private-message", { toUserId: ada.id, message: "me" }), "invalid", "toUserId");
};

words.register = async (stage) => {
  const ada = await stage.visitor("ada");
  for (const name of [ada.id, { userId: ada.id }]) {
    const { userId, online } = await ada.ok("register", name);
    assert.deepEqual([userId, online], [ada.id, true]);
  }
};

words["presence:query"] = async (stage) => {
  const { ada, bo } = await stage.pair();
  const state = await ada.ok("presence:query", { userId: bo.id });
  assert.deepEqual([state.userId, state.online], [bo.id, true]);
  await bo.disconnect();
  await stage.eventually("he is offline", async () => {
    const { online, lastSeen } = await ada.ok("presence:query", { userId: bo.id });
    return !online && TIMESTAMP.test(lastSeen);
  });
};

words["presence:state"] = async (stage) => {
  const { ada, bo } = await stage.pair();
  await ada.ok("presence:query", { userId: bo.id });
  const { userId, online } = await ada.saw("presence:state");
  assert.deepEqual([userId, online], [bo.id, true]);
};

words["presence:subscribe"] = async (stage) => {
  const { ada, bo } = await stage.pair();
  const eve = await stage.visitor("eve");
  const { presence, refused: others } = await ada.ok("presence:subscribe", { userIds: [bo.id, eve.id] });
  assert.deepEqual(presence.map(({ userId, online }) => [userId, online]), [[bo.id, true]]);
  assert.deepEqual(others, [eve.id], "who shares nothing is not visible");
  await bo.disconnect();
  await ada.saw("user:offline", ({ userId }) => userId === bo.id);
};

words["presence:unsubscribe"] = async (stage) => {
  const { ada, bo } = await stage.pair();
  await ada.ok("presence:subscribe", { userIds: [bo.id] });
  await ada.ok("presence:unsubscribe", { userIds: [bo.id] });
  await bo.disconnect();
  await stage.logged("USER_OFFLINE", ({ userId }) => userId === bo.id);
  await stage.pause(300);
  assert.equal(ada.count("user:offline", ({ userId }) => userId === bo.id), 0);
};

words.degraded = async (stage) => {
  const { ada, talk } = await stage.pair();
  const release = await stage.node.hold();
  let began;
  try {
    began = await ada.saw("degraded");
    assert.deepEqual(Object.keys(began), ["what", "since"]);
    assert.equal(began.what, "log");
    assert.match(began.since, TIMESTAMP);
    const late = await stage.visitor("late");
    assert.deepEqual(await late.saw("degraded"), began, "who comes meanwhile is told too");
    const ack = await ada.ask("message:send", { conversationId: talk, content: "held", clientMessageId: "1" });
    refused(ack, "unavailable");
    assert.ok(ack.error.retryAfterMs > 0);
  } finally {
    await release();
  }
  const ended = await ada.saw("degraded", ({ until }) => until);
  assert.deepEqual(ended, { ...began, until: ended.until });
  assert.ok(ended.until > ended.since);
  await ada.send(talk, "held", { clientMessageId: "1" });
  await ada.saw("message:new", ({ content }) => content === "held");
};

words["recovery:failed"] = async (stage) => {
  const ada = stage.person("ada");
  await ada.connect({ auth: { token: ada.token, pid: "p".repeat(20), offset: "AQ" } });
  assert.deepEqual(await ada.saw("recovery:failed"), { reason: "unknown" });
};
