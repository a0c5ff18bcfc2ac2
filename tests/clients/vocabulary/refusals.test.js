// What is refused, and how that is said: who is no member, what is wrong, whose it is not, how often.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { Node } from "../lib/own-node.js";
import { catalogue } from "./catalogue.js";
import { problem, refused, Stage, unique } from "./stage.js";

/** For each client event: data that is right but for what a test changes, and what may be wrong. */
const events = {
  "join:conversation": {
    right: ({ talk }) => ({ conversationId: talk }),
    wrong: { conversationId: [undefined, null, 7, "", "x".repeat(300)], after: ["x", 7, {}] },
  },
  "leave:conversation": {
    right: ({ talk }) => ({ conversationId: talk }),
    wrong: { conversationId: [undefined, 7, ""] },
    isForAnybody: true,
  },
  "message:send": {
    right: ({ talk }) => ({ conversationId: talk, content: "hello" }),
    wrong: {
      conversationId: [undefined, 7, ""],
      content: [undefined, null, 7, {}, ""],
      clientMessageId: [7, ""],
    },
  },
  "message:edit": {
    right: ({ messageId }) => ({ messageId, content: "other" }),
    wrong: { messageId: [undefined, 7, ""], content: [undefined, 7, ""] },
    isOwners: true,
  },
  "message:delete": {
    right: ({ messageId }) => ({ messageId }),
    wrong: { messageId: [undefined, 7, ""] },
    isOwners: true,
  },
  "message:read": {
    right: ({ talk }) => ({ conversationId: talk, upTo: 1 }),
    wrong: { conversationId: [undefined, 7], upTo: [undefined, "x", -1, 1.5] },
  },
  "reaction:add": {
    right: ({ messageId }) => ({ messageId, emoji: "👍" }),
    wrong: { messageId: [undefined, 7], emoji: [undefined, 7, "", "x".repeat(300)] },
  },
  "reaction:remove": {
    right: ({ messageId }) => ({ messageId, emoji: "👍" }),
    wrong: { messageId: [undefined, 7], emoji: [undefined, 7, ""] },
  },
  "typing:start": {
    right: ({ talk }) => ({ conversationId: talk }),
    wrong: { conversationId: [undefined, 7, ""] },
  },
  "typing:stop": {
    right: ({ talk }) => ({ conversationId: talk }),
    wrong: { conversationId: [undefined, 7, ""] },
  },
  "private-message": {
    right: ({ bo }) => ({ toUserId: bo.id, message: "psst" }),
    wrong: { toUserId: [undefined, 7, ""], message: [undefined, 7, ""] },
    isForAnybody: true,
  },
  "presence:query": {
    right: ({ bo }) => ({ userId: bo.id }),
    wrong: { userId: [undefined, 7, ""] },
  },
  "presence:subscribe": {
    right: ({ bo }) => ({ userIds: [bo.id] }),
    wrong: { userIds: [undefined, "x", [7], [""]] },
    isForAnybody: true,
  },
  "connection:request": {
    right: ({ bo }) => ({ toUserId: bo.id }),
    wrong: { toUserId: [undefined, 7, ""] },
    isForAnybody: true,
  },
  "connection:accept": {
    right: ({ requestId }) => ({ requestId }),
    wrong: { requestId: [undefined, 7, ""] },
    others: "not_found",
  },
  "connection:reject": {
    right: ({ requestId }) => ({ requestId }),
    wrong: { requestId: [undefined, 7, ""] },
    others: "not_found",
  },
};

/** Ada and Bo in a conversation with a message of Ada's; for some events a request of hers to Cy. */
async function scene(stage, event) {
  const { ada, bo, talk } = await stage.pair();
  const { id: messageId } = await ada.send(talk, "hello");
  await bo.saw("message:new");
  if (!["connection:accept", "connection:reject"].includes(event)) return { ada, bo, talk, messageId };
  const cy = await stage.visitor("cy");
  const { requestId } = await ada.ok("connection:request", { toUserId: cy.id });
  return { ada, bo, cy, talk, messageId, requestId };
}

test("every client event of the catalogue is tried", () => {
  const missing = catalogue.filter(({ client }) => client && !(client in events));
  assert.deepEqual(missing.map(({ client }) => client), []);
});

describe("refusals", () => {
  let stage;
  before(async () => { stage = new Stage(await Node.start({ "limits.enabled": false })); });
  afterEach(() => stage?.close());
  after(() => stage?.node.stop());

  for (const [event, { right, wrong }] of Object.entries(events)) {
    test(`${event}: what is wrong is named`, async () => {
      const all = await scene(stage, event);
      const data = right(all);
      for (const [field, values] of Object.entries(wrong)) {
        for (const value of values) {
          const shown = `${field} = ${JSON.stringify(value)?.slice(0, 40)}`;
          const ack = await all.ada.ask(event, { ...data, [field]: value });
          assert.equal(ack.ok, false, `${shown}: ${JSON.stringify(ack)}`);
          assert.ok(["invalid", "too_large"].includes(ack.error.code), `${shown}: ${JSON.stringify(ack)}`);
          assert.ok(ack.error.field?.startsWith(field), `${shown}: ${JSON.stringify(ack)}`);
        }
      }
      for (const args of [[], [null], ["text"], [7], [[]]]) {
        refused(await all.ada.ask(event, ...args), "invalid");
      }
      await all.ada.send(all.talk, "the socket goes on");
    });
  }

  for (const [event, { right, isForAnybody, others }] of Object.entries(events)) {
    if (isForAnybody) continue;
    test(`${event}: who is no member is refused`, async () => {
      const all = await scene(stage, event);
      const eve = await stage.visitor("eve");
      refused(await eve.ask(event, right(all)), others ?? "forbidden");
    });
  }

  for (const [event, { right, isOwners }] of Object.entries(events)) {
    if (!isOwners) continue;
    test(`${event}: a member whose message it is not is refused, a moderator is not`, async () => {
      const all = await scene(stage, event);
      refused(await all.bo.ask(event, right(all)), "forbidden");
      const path = `/api/conversations/${all.talk}/members/${all.bo.id}`;
      await all.ada.restOk("PATCH", path, { role: "moderator" });
      await all.bo.ok(event, right(all));
    });

    test(`${event}: a message that is not there is not found`, async () => {
      const all = await scene(stage, event);
      const ack = await all.ada.ask(event, { ...right(all), messageId: "nothing" });
      refused(ack, "not_found");
    });
  }

  for (const [event, { right, wrong, isForAnybody }] of Object.entries(events)) {
    if (!("conversationId" in wrong) || isForAnybody) continue;
    test(`${event}: who has left is refused`, async () => {
      const all = await scene(stage, event);
      await all.bo.restOk("DELETE", `/api/conversations/${all.talk}/members/me`);
      refused(await all.bo.ask(event, right(all)), "forbidden");
    });
  }

  test("nobody enters without a token, with a bad one, or with one that has ended", async () => {
    const ended = stage.person("ada", { exp: Math.floor(Date.now() / 1000) - 3600 });
    const bad = stage.person("ada");
    bad.token = `${bad.token.slice(0, -4)}AAAA`;
    const none = stage.person("ada");
    none.token = undefined;
    for (const one of [ended, bad, none]) {
      await assert.rejects(one.connect(), (error) => error.data?.code === "unauthenticated");
      problem(await one.rest("GET", "/api/conversations"), "unauthenticated");
    }
  });

  test("a token that ends meanwhile ends its socket", async () => {
    const soon = { exp: Math.floor(Date.now() / 1000) + 2 };
    const short = new Stage(await Node.start({ "auth.leeway": "0ms" }));
    try {
      const ada = await short.visitor("ada", soon);
      await short.eventually("the socket is closed", () => !ada.socket.connected);
    } finally {
      short.close();
      await short.node.stop();
    }
  });

  test("register is for one's own name", async () => {
    const ada = await stage.visitor("ada");
    await ada.ok("register", ada.id);
    refused(await ada.ask("register", "somebody-else"), "forbidden");
    refused(await ada.ask("register", 7), "invalid");
  });

  test("an event that is none is not found", async () => {
    const ada = await stage.visitor("ada");
    refused(await ada.ask("message:new", {}), "not_found");
    refused(await ada.ask("nothing:such", {}), "not_found");
  });

  test("users cannot do what services may", async () => {
    const [ada, bo] = [stage.person("ada"), stage.person("bo")];
    const event = { type: "GRADE_POSTED", data: { courseId: "bio" } };
    problem(await ada.rest("POST", "/api/events", event), "forbidden");
    problem(await ada.rest("GET", "/api/records/complaints/1"), "forbidden");
    problem(await ada.rest("PUT", "/api/records/complaints/1", {}), "forbidden");
    problem(await ada.rest("POST", `/api/users/${bo.id}/ban`, {}), "forbidden");
    const notice = { userId: bo.id, type: "GRADE_POSTED", data: {} };
    problem(await ada.rest("POST", "/api/notifications", notice), "forbidden");
    problem(await ada.rest("POST", "/api/courses/bio/members", { userId: bo.id }), "forbidden");
  });

  test("a service acts for others only with the scope for that", async () => {
    const { ada, talk } = await stage.pair();
    const message = { conversationId: talk, content: "by a bot", senderId: ada.id };
    problem(await stage.service("events:write").rest("POST", "/api/messages", message), "forbidden");
    const event = { type: "GRADE_POSTED", data: { courseId: "bio" }, userId: ada.id };
    problem(await stage.service("events:write").rest("POST", "/api/events", event), "forbidden");
    problem(await stage.service("records:read").rest("PUT", "/api/records/things/1", {}), "forbidden");
    const acting = stage.service("events:write", "users:act");
    await acting.restOk("POST", "/api/messages", { ...message, senderName: "Ada" });
    assert.equal((await ada.saw("message:new")).userId, ada.id);
  });

  test("an idempotency key stands for one request", async () => {
    const { ada, bo, talk } = await stage.pair();
    const headers = { "idempotency-key": unique("key") };
    const post = (content) => ada.rest("POST", "/api/messages", { conversationId: talk, content }, headers);
    const [first, again] = [await post("once"), await post("once")];
    assert.deepEqual([first.status, again.status], [201, 201]);
    assert.deepEqual(again.body, first.body);
    problem(await post("other words"), "conflict");
    await ada.send(talk, "end");
    await bo.saw("message:new", ({ content }) => content === "end");
    assert.equal(bo.count("message:new"), 2);
  });
});

describe("limits", () => {
  let stage;
  before(async () => { stage = new Stage(await Node.start()); });
  afterEach(() => stage?.close());
  after(() => stage?.node.stop());

  /** Asks until it is refused: not before `allowed`, and not long after, for they come back evenly. */
  const limited = async (ask, isOk, allowed) => {
    for (let i = 0; i < allowed * 2; i += 1) {
      const answer = await ask();
      if (!isOk(answer)) {
        assert.ok(i >= allowed, `refused after ${i}`);
        return answer;
      }
    }
    return assert.fail(`${allowed * 2} were allowed, expected about ${allowed}`);
  };
  const limitedAck = async (ask, allowed) => {
    refused(await limited(ask, (ack) => ack.ok, allowed), "rate_limited");
  };

  test("messages: 30 in a minute, on all sockets of a user and over REST", async () => {
    const { ada, bo, talk } = await stage.pair();
    await limitedAck(() => ada.ask("message:send", { conversationId: talk, content: "again" }), 30);
    const answer = await ada.rest("POST", "/api/messages", { conversationId: talk, content: "again" });
    problem(answer, "rate_limited");
    await bo.send(talk, "others go on");
  });

  test("typing, reading and the rest: 100 in a minute, and then who asked is told how long to wait", async () => {
    const { ada, bo, talk } = await stage.pair();
    await limitedAck(() => ada.ask("typing:start", { conversationId: talk }), 100);
    await limitedAck(() => ada.ask("presence:query", { userId: bo.id }), 100);
  });

  test("REST: 100 in a minute on one endpoint, told in every answer", async () => {
    const ada = stage.person("ada");
    const { headers } = await ada.rest("GET", "/api/conversations");
    for (const name of ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"]) {
      assert.match(headers.get(name) ?? "", /^\d+$/, name);
    }
    const ask = () => ada.rest("GET", "/api/conversations");
    problem(await limited(ask, ({ status }) => status === 200, 99), "rate_limited");
    assert.equal((await ada.rest("GET", "/api/connections")).status, 200, "elsewhere it goes on");
  });

  test("login: 5 in five minutes from one address; sign-up: 5 in a day", async () => {
    const nobody = stage.person("nobody");
    nobody.token = undefined;
    const login = { email: "ada@example.com", password: "wrong password" };
    for (let i = 0; i < 5; i += 1) problem(await nobody.rest("POST", "/api/login", login), "unauthenticated");
    problem(await nobody.rest("POST", "/api/login", login), "rate_limited");
    for (let i = 0; i < 5; i += 1) await stage.member("ada");
    const account = { email: "x@example.com", password: "correct horse battery", name: "X" };
    problem(await nobody.rest("POST", "/api/signup", account), "rate_limited");
  });
});
