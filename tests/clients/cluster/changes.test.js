// What changes by one node is so by all of them.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { unique } from "../vocabulary/stage.js";
import { anywhere, leave, nodes, taken } from "./deployment.js";

const ROUNDS = 10;
/** How soon a change that another node made has to be seen. */
const SOON_MS = 1_000;
const REVOKED_WITHIN_MS = 2_000;

afterEach(leave);

/** The same user at every node, and somebody else at the last, in a conversation. */
async function everywhere() {
  const id = unique("ada");
  const ada = await Promise.all(nodes.map((stage) => stage.visitor("ada", { sub: id })));
  const bo = await nodes.at(-1).visitor("bo");
  const talk = await ada[0].stage.talk(ada[0], bo);
  await Promise.all([...ada, bo].map((one) => one.join(talk)));
  return { ada, bo, talk };
}

for (const [what, verb, event, more] of [
  ["edited", "message:edit", "message:edited", { content: "changed" }],
  ["deleted", "message:delete", "message:deleted", {}],
  ["reacted to", "reaction:add", "reaction:added", { emoji: "👍" }],
]) {
  test(`a message can be ${what} by another node right after it was sent`, async () => {
    const { ada, bo, talk } = await everywhere();
    for (let n = 0; n < ROUNDS; n += 1) {
      const { id: messageId } = await ada[n % nodes.length].send(talk, `message ${n}`);
      await ada[(n + 1) % nodes.length].ok(verb, { messageId, ...more });
      await bo.saw(event, (one) => (one.messageId ?? one.id) === messageId);
    }
  });
}

test("a private message comes to every device of both", async () => {
  const [adas, bos] = await Promise.all(["ada", "bo"].map(async (name) => {
    const sub = unique(name);
    return Promise.all(nodes.map((stage) => stage.visitor(name, { sub })));
  }));
  for (const [n, ada] of adas.entries()) {
    const { id } = await ada.ok("private-message", { toUserId: bos[0].id, message: `psst ${n}` });
    for (const one of [...adas, ...bos]) await one.saw("private-message", (seen) => seen.id === id);
  }
  for (const one of [...adas, ...bos]) assert.equal(one.count("private-message"), nodes.length);
});

test("joining and leaving a course reaches the sockets of other nodes", async () => {
  const sub = unique("ada");
  const ada = await Promise.all(nodes.map((stage) => stage.visitor("ada", { sub })));
  const course = unique("bio");
  const registrar = nodes[0].service("members:write", "rooms:read");
  const inRoom = async (stage) => {
    const looker = stage.service("rooms:read");
    const found = await looker.restOk("GET", `/api/rooms/${encodeURIComponent(`course:${course}`)}/sockets`);
    assert.equal(found.complete, true, JSON.stringify(found.missing));
    return found.sockets.length;
  };
  await registrar.restOk("POST", `/api/courses/${course}/members`, { userId: sub });
  for (const stage of nodes) {
    const ms = await taken(stage, "all sockets are in", async () => (await inRoom(stage)) === ada.length);
    assert.ok(ms < SOON_MS, `${ms} ms`);
  }
  await nodes[1].service("members:write")
    .restOk("DELETE", `/api/courses/${course}/members?userId=${sub}`);
  for (const stage of nodes) {
    const ms = await taken(stage, "no socket is in", async () => (await inRoom(stage)) === 0);
    assert.ok(ms < SOON_MS, `${ms} ms`);
  }
});

test("who is put out of a conversation by one node hears nothing at another", async () => {
  const [ada, bo, cy] = await Promise.all(nodes.map((stage, n) => stage.visitor(`user-${n}`)));
  const talk = await ada.stage.talk(ada, bo, cy);
  await Promise.all([ada, bo, cy].map((one) => one.join(talk)));
  await ada.restOk("DELETE", `/api/conversations/${talk}/members/${bo.id}`);
  await cy.saw("conversation:changed", () => true).catch(() => undefined);
  const before = bo.count("message:new");
  await ada.send(talk, "among us");
  await cy.saw("message:new");
  assert.equal(bo.count("message:new"), before);
  const ack = await bo.ask("message:send", { conversationId: talk, content: "let me in" });
  assert.equal(ack.error?.code, "forbidden");
});

test("a profile that changed by one node is read by the others", async () => {
  const ada = await nodes[0].member("Ada");
  const readers = nodes.map((stage) => stage.person("reader"));
  const name = async (one) => (await one.restOk("GET", `/api/users/${ada.id}`)).name;
  for (const [n, stage] of nodes.entries()) {
    // In every cache.
    for (const one of readers) await name(one);
    const other = Object.assign(stage.person("same"), { token: ada.token });
    const changed = `Ada ${n}`;
    await other.restOk("PATCH", "/api/profile", { name: changed });
    for (const one of readers) {
      const ms = await taken(stage, `it reads ${changed}`, async () => (await name(one)) === changed);
      assert.ok(ms < SOON_MS, `${ms} ms`);
    }
  }
});

test("a record that changed by one node is read by the others", async () => {
  const id = unique("complaint");
  const path = `/api/records/complaint/${id}`;
  const service = (stage) => stage.service("records:read", "records:write");
  const data = {
    id, title: "No water", description: "Since Monday", category: "plumbing", priority: "high", status: "open",
    userId: unique("ada"), apartment: "12", building: unique("house"),
    createdAt: "2026-11-21T10:00:00.000Z", updatedAt: "2026-11-21T10:00:00.000Z",
  };
  for (const [n, stage] of nodes.entries()) {
    const title = `No water ${n}`;
    await service(stage).restOk("PUT", path, { ...data, title });
    for (const other of nodes) {
      const is = async () => (await service(other).rest("GET", path)).body.data?.title === title;
      const ms = await taken(other, `it reads ${title}`, is);
      assert.ok(ms < SOON_MS, `${ms} ms`);
    }
  }
});

test("a login that is over closes its sockets on every node", async () => {
  const ada = await nodes[0].member("ada");
  for (const stage of nodes) {
    const { token } = await ada.restOk("POST", "/api/login", { email: ada.email, password: ada.password });
    const sockets = await Promise.all(nodes.map(async (one) => {
      const device = Object.assign(one.person("device"), { token });
      await device.connect();
      return device;
    }));
    const start = performance.now();
    const leaver = Object.assign(stage.person("leaver"), { token });
    await leaver.restOk("POST", "/api/logout");
    for (const { socket } of sockets) await anywhere.eventually("it is closed", () => !socket.connected);
    const ms = performance.now() - start;
    assert.ok(ms < REVOKED_WITHIN_MS, `${ms} ms`);
    for (const one of nodes) {
      const again = Object.assign(one.person("again"), { token });
      assert.equal((await again.rest("GET", "/api/profile")).status, 401);
      await assert.rejects(again.connect());
    }
  }
});
