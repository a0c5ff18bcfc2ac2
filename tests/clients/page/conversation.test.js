// The page's own bookkeeping: order, pending messages, what a rejoin asks for, what is unread.

import assert from "node:assert/strict";
import { test } from "node:test";
import { pageModule } from "./modules.js";

const { Conversation } = await pageModule("conversation.js");
const ME = "me";

const message = (epoch, seq, id = `${epoch}-${seq}`, userId = "bo") =>
  ({ id, epoch, seq, userId, content: id, timestamp: `2026-01-01T00:00:${seq}Z` });
const arrives = (talk, one) => talk.apply("message:new", one, ME);
const ids = (conversation) => conversation.settled.map((one) => one.id);

test("messages stand in the order of their places, however they came", () => {
  const talk = new Conversation("talk");
  for (const [epoch, seq] of [[1, 3], [2, 5], [1, 1], [2, 4], [1, 2]]) {
    assert.equal(talk.settle(message(epoch, seq)), true);
  }
  assert.deepEqual(ids(talk), ["1-1", "1-2", "1-3", "2-4", "2-5"]);
  assert.equal(talk.settle(message(1, 2)), false);
  assert.equal(talk.settled.length, 5);
});

test("a message that was ordered again takes its later place", () => {
  const talk = new Conversation("talk");
  for (const one of [message(1, 1, "a"), message(1, 2, "b"), message(2, 3, "a")]) talk.settle(one);
  assert.deepEqual(ids(talk), ["b", "a"]);
  talk.settle(message(1, 1, "a"));
  assert.deepEqual(ids(talk), ["b", "a"]);
});

test("a pending message is replaced by its settled self, whichever is heard of first", () => {
  const talk = new Conversation("talk");
  const first = talk.compose("one", "c1", "now");
  const second = talk.compose("two", "c2", "now");
  talk.acknowledge(first, "a");
  assert.equal(first.state, "logged");
  arrives(talk, message(1, 1, "a"));
  assert.deepEqual(talk.pending, [second]);
  arrives(talk, message(1, 2, "b"));
  assert.deepEqual(talk.pending, [second]);
  talk.acknowledge(second, "b");
  assert.deepEqual(talk.pending, []);
});

test("what is unsent keeps its order and leaves out what is under way or refused", () => {
  const talk = new Conversation("talk");
  const [one, two, three, four] = ["1", "2", "3", "4"].map((id) => talk.compose(id, id, "now"));
  two.inFlight = true;
  talk.refuse(three, "too large");
  assert.deepEqual(talk.unsent(), [one, four]);
  talk.discard(three);
  assert.deepEqual(talk.pending, [one, two, four]);
});

test("messages move the place of a rejoin, and only forward", () => {
  const talk = new Conversation("talk");
  talk.sawUpTo({ epoch: 1, seq: 5 });
  assert.deepEqual(talk.seen, { epoch: 1, seq: 5 });
  arrives(talk, message(1, 21));
  assert.deepEqual(talk.seen, { epoch: 1, seq: 21 });
  talk.sawUpTo({ epoch: 1, seq: 3 });
  assert.deepEqual(talk.seen, { epoch: 1, seq: 21 });
});

test("a reload forgets what was settled and keeps what is still to be sent", () => {
  const talk = new Conversation("talk");
  arrives(talk, message(1, 1));
  const entry = talk.compose("one", "c1", "now");
  talk.reset();
  assert.deepEqual([talk.settled, talk.seen, talk.loaded], [[], null, false]);
  assert.deepEqual(talk.pending, [entry]);
});

test("edits, deletions and reactions change a message in its place, however often they come", () => {
  const talk = new Conversation("talk");
  for (const seq of [1, 2, 3]) arrives(talk, message(1, seq, `m${seq}`));
  const apply = (event, data) => { for (let i = 0; i < 2; i += 1) talk.apply(event, data, ME); };
  apply("message:edited", { id: "m2", content: "better", editedAt: "later", epoch: 1, seq: 4 });
  apply("message:deleted", { id: "m3", epoch: 1, seq: 5 });
  apply("reaction:added", { messageId: "m1", userId: "bo", emoji: "x", count: 1 });
  apply("reaction:added", { messageId: "m1", userId: ME, emoji: "x", count: 2 });
  apply("reaction:removed", { messageId: "m1", userId: "bo", emoji: "x", count: 1 });
  assert.deepEqual(ids(talk), ["m1", "m2", "m3"]);
  assert.deepEqual(talk.settled.map((one) => one.seq), [1, 2, 3], "places stay");
  assert.deepEqual(talk.settled.map((one) => one.content), ["m1", "better", ""]);
  assert.deepEqual(talk.settled[0].reactions, [{ emoji: "x", count: 1, users: [ME] }]);
  assert.deepEqual(talk.seen, { epoch: 1, seq: 5 }, "what changed a message has a place of its own");
  apply("reaction:removed", { messageId: "m1", userId: ME, emoji: "x", count: 0 });
  assert.deepEqual(talk.settled[0].reactions, []);
  apply("message:edited", { id: "unknown", content: "?", epoch: 1, seq: 6 });
  assert.equal(talk.settled.length, 3);
});

test("others' messages are unread until this user has read up to them, on any device", () => {
  const talk = new Conversation("talk");
  talk.describe({ unread: 2, lastMessage: message(1, 2), read: { epoch: 0, seq: 0 } }, ME);
  assert.equal(talk.unread, 2);
  arrives(talk, message(1, 3));
  arrives(talk, message(1, 3));
  arrives(talk, message(1, 4, "own", ME));
  assert.equal(talk.unread, 3);
  // A list that was read before that message arrived does not take it back.
  talk.describe({ unread: 2, lastMessage: message(1, 2), read: { epoch: 0, seq: 0 } }, ME);
  assert.equal(talk.unread, 3);
  talk.apply("message:read", { userId: "bo", upTo: 4 }, ME);
  assert.equal(talk.unread, 3);
  talk.apply("message:read", { userId: ME, upTo: 4 }, ME);
  assert.equal(talk.unread, 0);
  talk.apply("message:read", { userId: ME, upTo: 2 }, ME);
  assert.equal(talk.cursors.get(ME), 4, "cursors only move forward");
});

test("a reader is shown at the last message read, and nowhere once he has answered", () => {
  const talk = new Conversation("talk");
  for (const seq of [1, 2, 3]) arrives(talk, message(1, seq, `m${seq}`, ME));
  talk.apply("message:read", { userId: "bo", upTo: 2 }, ME);
  talk.apply("message:read", { userId: "cleo", upTo: 3 }, ME);
  assert.deepEqual([...talk.readers(ME)], [["m2", ["bo"]], ["m3", ["cleo"]]]);
  arrives(talk, message(1, 4, "m4", "bo"));
  assert.deepEqual([...talk.readers(ME)], [["m3", ["cleo"]]]);
});

test("the unread part begins at the first message of others after the cursor", () => {
  const talk = new Conversation("talk");
  talk.describe({ unread: 1, lastMessage: message(1, 3), read: { epoch: 1, seq: 1 } }, ME);
  talk.addPage({ messages: [message(1, 1), message(1, 2, "own", ME), message(1, 3)] });
  assert.equal(talk.reachedBeginning, true);
  talk.markUnread(ME);
  assert.equal(talk.firstUnread, "1-3");
  talk.readUpTo(ME, 3, ME);
  talk.markUnread(ME);
  assert.equal(talk.firstUnread, null);
});
