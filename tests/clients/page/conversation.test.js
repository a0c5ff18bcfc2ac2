// The page's own bookkeeping: order, pending messages, what a rejoin asks for.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

// The page's folder is no Node package, so the module is loaded from its text.
const file = new URL("../../../src/web/assets/conversation.js", import.meta.url);
const text = await readFile(file, "utf8");
const { Conversation } = await import(`data:text/javascript,${encodeURIComponent(text)}`);

const message = (epoch, seq, id = `${epoch}-${seq}`) => ({ id, epoch, seq, content: id });
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
  talk.arrived(message(1, 1, "a"));
  assert.deepEqual(talk.pending, [second]);
  talk.arrived(message(1, 2, "b"));
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

test("live messages move the place of a rejoin only when nothing before them is missing", () => {
  const talk = new Conversation("talk");
  talk.sawUpTo({ epoch: 1, seq: 5 });
  talk.catchingUp = true;
  talk.arrived(message(1, 20));
  assert.deepEqual(talk.seen, { epoch: 1, seq: 5 });
  talk.catchingUp = false;
  talk.arrived(message(1, 21));
  assert.deepEqual(talk.seen, { epoch: 1, seq: 21 });
  talk.sawUpTo({ epoch: 1, seq: 3 });
  assert.deepEqual(talk.seen, { epoch: 1, seq: 21 });
});

test("a reload forgets what was settled and keeps what is still to be sent", () => {
  const talk = new Conversation("talk");
  talk.arrived(message(1, 1));
  const entry = talk.compose("one", "c1", "now");
  talk.reset();
  assert.deepEqual([talk.settled, talk.seen, talk.loaded], [[], null, false]);
  assert.deepEqual(talk.pending, [entry]);
});
