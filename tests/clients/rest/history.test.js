// History and posting over REST, and what their mistakes look like.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { history, rest, unique, url, withoutRoomTokens } from "../lib/node.js";
import { assertInOrder, CODES, closePeers, eventually, Peer } from "../lib/peer.js";

const COUNT = 25;
const STATUS = {
  unauthenticated: 401, forbidden: 403, not_found: 404, invalid: 400, too_large: 413,
};

function assertProblem({ status, type, body }, code, what = "") {
  const shown = `${what} ${status} ${type} ${JSON.stringify(body)}`;
  assert.match(type, /^application\/problem\+json/, shown);
  assert.ok(CODES.includes(body.code), shown);
  assert.ok([code].flat().includes(body.code), shown);
  assert.equal(status, STATUS[body.code], shown);
}

const seqs = (answer) => answer.body.messages.map((message) => message.seq);
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

describe("history", () => {
  const user = unique("ada");
  const talk = unique("talk");
  let epoch;

  before(async () => {
    const ada = await Peer.connect(user, { transports: ["websocket"] });
    epoch = (await ada.join(talk)).epoch;
    for (let i = 1; i <= COUNT; i += 1) await ada.send(talk, `message ${i}`);
    await eventually("all messages in history", async () => {
      const { body } = await history(talk, user, "limit=100");
      return body.messages?.length === COUNT;
    });
  });

  after(closePeers);

  test("the last page comes without being asked for a place", async () => {
    const answer = await history(talk, user, "limit=10");
    assert.equal(answer.status, 200);
    assert.match(answer.type, /^application\/json/);
    assert.equal(answer.body.conversationId, talk);
    assert.equal(answer.body.epoch, epoch);
    assert.deepEqual(seqs(answer), range(16, 25));
    const { id, timestamp, ...first } = answer.body.messages[0];
    assert.deepEqual(first, {
      conversationId: talk, userId: user, content: "message 16", epoch, seq: 16,
    });
    assert.ok(id && timestamp);
  });

  test("pages go back to the beginning and forth to the top", async () => {
    const back = [];
    let answer = await history(talk, user, "limit=7");
    for (;;) {
      back.unshift(...answer.body.messages);
      if (!answer.body.previous) break;
      answer = await history(talk, user, `limit=7&before=${answer.body.previous}`);
    }
    const forth = [];
    answer = await history(talk, user, "limit=7&after=0");
    for (;;) {
      forth.push(...answer.body.messages);
      if (!answer.body.next) break;
      answer = await history(talk, user, `limit=7&after=${answer.body.next}`);
    }
    assert.deepEqual(back.map((message) => message.seq), range(1, COUNT));
    assert.deepEqual(forth, back);
    assertInOrder(back);
  });

  test("a place is a seq, or an epoch and a seq", async () => {
    for (const place of ["10", `${epoch}-10`]) {
      assert.deepEqual(seqs(await history(talk, user, `before=${place}&limit=3`)), [7, 8, 9]);
      assert.deepEqual(seqs(await history(talk, user, `after=${place}&limit=3`)), [11, 12, 13]);
    }
    assert.deepEqual(seqs(await history(talk, user, "before=1")), []);
    assert.deepEqual(seqs(await history(talk, user, `after=${COUNT}`)), []);
  });

  test("without a limit there is one", async () => {
    assert.deepEqual(seqs(await history(talk, user)), range(1, COUNT));
  });

  test("a conversation without a word is empty, not missing", async () => {
    const answer = await history(unique("silence"), user);
    assert.equal(answer.status, 200);
    assert.deepEqual(answer.body.messages, []);
  });

  test("bad places and limits are refused by name", async () => {
    const table = {
      before: ["x", "-1", "1-", "1-2-3", "1.5", "", "99999999999999999999999999"],
      after: ["x", "-1", "%00", "1%202"],
      limit: ["0", "-1", "x", "1.5", "", "1000000000"],
    };
    for (const [field, values] of Object.entries(table)) {
      for (const value of values) {
        const answer = await history(talk, user, `${field}=${value}`);
        assertProblem(answer, "invalid", `${field}=${value}`);
        assert.equal(answer.body.field, field, `${field}=${value}`);
      }
    }
    assertProblem(await history(talk, user, "before=3&after=1"), "invalid", "both directions");
  });

  test("nobody reads without a token, or with a bad one", async () => {
    const path = `/api/conversations/${talk}/messages`;
    assertProblem(await rest(path), "unauthenticated");
    for (const authorization of ["Bearer x", "Bearer", "Basic YTpi", "x".repeat(5000)]) {
      assertProblem(await rest(path, { headers: { authorization } }), "unauthenticated");
    }
  });

  test("a token without the room does not read it", { skip: withoutRoomTokens }, async () => {
    const rooms = `conversation:${unique("own")}`;
    const path = `/api/conversations/${talk}/messages`;
    assertProblem(await rest(path, { user: unique("eve"), rooms }), "forbidden");
    const json = { conversationId: talk, content: "let me in" };
    const posted = await rest("/api/messages", {
      method: "POST", user: unique("eve"), rooms, json,
    });
    assertProblem(posted, "forbidden");
  });
});

describe("posting", () => {
  const user = unique("ada");
  const post = (options) => rest("/api/messages", { method: "POST", user, ...options });

  test("a message is answered like an ack, and is in history", async () => {
    const channelId = unique("talk");
    const answer = await post({ json: { channelId, content: "by post" } });
    assert.ok(answer.status === 200 || answer.status === 201, `${answer.status}`);
    assert.equal(answer.body.room, `conversation:${channelId}`);
    const found = await eventually("it in history", async () => {
      const { body } = await history(channelId, user);
      return body.messages?.[0];
    });
    assert.equal(found.id, answer.body.id);
    assert.equal(found.content, "by post");
  });

  test("mistakes are refused by name", async () => {
    const conversationId = unique("talk");
    const table = {
      "no content": { json: { conversationId } },
      "no conversation": { json: { content: "x" } },
      "a number as content": { json: { conversationId, content: 7 } },
      "a list": { json: [] },
      "null": { json: null },
      "not JSON": { body: "{", headers: { "content-type": "application/json" } },
      "an empty body": { body: "", headers: { "content-type": "application/json" } },
    };
    for (const [what, options] of Object.entries(table)) {
      assertProblem(await post(options), "invalid", what);
    }
    const senderId = unique("somebody-else");
    const posing = await post({ json: { conversationId, content: "x", senderId } });
    assertProblem(posing, "forbidden", "another sender");
    const unknown = { json: { conversationId, content: "x" }, user: undefined };
    assertProblem(await post(unknown), "unauthenticated", "no token");
  });

  test("a body over the limit is refused, by name or by the end of the connection", async () => {
    const body = JSON.stringify({ conversationId: "x", content: "x".repeat(5_000_000) });
    const headers = { "content-type": "application/json" };
    try {
      assertProblem(await post({ body, headers }), ["too_large", "invalid"]);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
    }
    assert.equal((await history(unique("talk"), user)).status, 200);
  });

  test("a path that is nothing is told apart from a method that is not for it", async () => {
    assertProblem(await rest("/api/nothing", { user }), "not_found");
    const answer = await rest("/api/messages", { user, method: "DELETE" });
    assert.ok([404, 405].includes(answer.status), `${answer.status}`);
    assert.equal((await fetch(`${url}/nothing`)).status, 404);
  });
});
