// What each row of the catalogue does, by its type: one function each, that fails when the row is gone.

import assert from "node:assert/strict";
import { problem, TIMESTAMP, unique } from "./stage.js";

/** Type → what it does, at a stage. */
export const rows = {};

/** The log has it, under its topic, with the envelope's members. */
async function logged(stage, type, topic, matches) {
  const { topic: found, event } = await stage.logged(type, matches);
  assert.equal(found, topic);
  assert.match(event.timestamp, TIMESTAMP);
  assert.ok(event.id && event.userId && event.data, JSON.stringify(event));
  return event;
}

// Messages

rows.MESSAGE_SENT = async (stage) => {
  const { ada, bo, talk } = await stage.pair();
  const ack = await ada.send(talk, "hello");
  assert.deepEqual(Object.keys(ack).sort(), ["at", "id", "ok", "room"]);
  assert.equal(ack.room, `conversation:${talk}`);
  const { timestamp, epoch, ...rest } = await bo.saw("message:new");
  assert.match(timestamp, TIMESTAMP);
  assert.ok(epoch >= 1);
  assert.equal(rest.seq >= 1, true);
  assert.deepEqual(
    { ...rest, seq: 0 },
    { id: ack.id, conversationId: talk, userId: ada.id, content: "hello", seq: 0 },
  );
  const event = await logged(stage, "MESSAGE_SENT", "messages", ({ id }) => id === ack.id);
  assert.deepEqual([event.userId, event.conversationId], [ada.id, talk]);
  const { messages } = await bo.restOk("GET", `/api/conversations/${talk}/messages`);
  assert.deepEqual(messages.map(({ id }) => id), [ack.id]);
};

rows.MESSAGE_EDITED = async (stage) => {
  const { ada, bo, talk } = await stage.pair();
  const { id } = await ada.send(talk, "helo");
  const sent = await bo.saw("message:new");
  await ada.ok("message:edit", { messageId: id, content: "hello" });
  const edited = await bo.saw("message:edited");
  assert.equal(edited.id, id);
  assert.equal(edited.conversationId, talk);
  assert.equal(edited.userId, ada.id);
  assert.equal(edited.content, "hello");
  assert.match(edited.editedAt, TIMESTAMP);
  const event = await logged(stage, "MESSAGE_EDITED", "messages", (e) => e.data.messageId === id);
  assert.equal(event.data.content, "hello");
  await stage.eventually("history has the edit", async () => {
    const { messages } = await bo.restOk("GET", `/api/conversations/${talk}/messages`);
    const [{ editedAt, content, ...rest }] = messages;
    const { content: _, ...before } = sent;
    return content === "hello" && TIMESTAMP.test(editedAt) && assert.deepEqual(rest, before) === undefined;
  });
};

rows.MESSAGE_DELETED = async (stage) => {
  const { ada, bo, talk } = await stage.pair();
  const { id } = await ada.send(talk, "never mind");
  await bo.saw("message:new");
  await ada.ok("message:delete", { messageId: id });
  const deleted = await bo.saw("message:deleted");
  assert.equal(deleted.id, id);
  assert.equal(deleted.conversationId, talk);
  assert.ok(deleted.epoch >= 1 && deleted.seq >= 1, JSON.stringify(deleted));
  assert.equal("content" in deleted, false);
  await logged(stage, "MESSAGE_DELETED", "messages", (e) => e.data.messageId === id);
  await stage.eventually("history has the deletion", async () => {
    const { messages } = await bo.restOk("GET", `/api/conversations/${talk}/messages`);
    return messages[0].content === "" && TIMESTAMP.test(messages[0].deletedAt);
  });
};

rows.MESSAGE_READ = async (stage) => {
  const { ada, bo, talk } = await stage.pair();
  await ada.send(talk, "one");
  await ada.send(talk, "two");
  const { seq } = await bo.saw("message:new", ({ content }) => content === "two");
  const unread = async () => {
    const { conversations } = await bo.restOk("GET", "/api/conversations");
    return conversations.find(({ id }) => id === talk).unread;
  };
  await stage.eventually("two are unread", async () => (await unread()) === 2);
  await bo.ok("message:read", { conversationId: talk, upTo: seq });
  const read = await ada.saw("message:read", ({ userId }) => userId === bo.id);
  assert.deepEqual([read.conversationId, read.upTo], [talk, seq]);
  await logged(stage, "MESSAGE_READ", "messages", (e) => e.userId === bo.id);
  await stage.eventually("none is unread", async () => (await unread()) === 0);
};

async function reacted(stage) {
  const { ada, bo, talk } = await stage.pair();
  const { id: messageId } = await ada.send(talk, "well?");
  await bo.saw("message:new");
  await bo.ok("reaction:add", { messageId, emoji: "👍" });
  return { ada, bo, talk, messageId };
}

rows.REACTION_ADDED = async (stage) => {
  const { ada, bo, talk, messageId } = await reacted(stage);
  const { messageId: of, conversationId, userId, emoji, count } = await ada.saw("reaction:added");
  assert.deepEqual([of, conversationId, userId, emoji, count], [messageId, talk, bo.id, "👍", 1]);
  await ada.ok("reaction:add", { messageId, emoji: "👍" });
  assert.equal((await bo.saw("reaction:added", (r) => r.userId === ada.id)).count, 2);
  await logged(stage, "REACTION_ADDED", "messages", (e) => e.data.messageId === messageId);
  const { reactions } = await ada.restOk("GET", `/api/messages/${messageId}/reactions`);
  assert.deepEqual(reactions.map((r) => [r.emoji, r.count]), [["👍", 2]]);
};

rows.REACTION_REMOVED = async (stage) => {
  const { ada, bo, messageId } = await reacted(stage);
  await bo.ok("reaction:remove", { messageId, emoji: "👍" });
  const removed = await ada.saw("reaction:removed");
  assert.deepEqual([removed.messageId, removed.userId, removed.count], [messageId, bo.id, 0]);
  await logged(stage, "REACTION_REMOVED", "messages", (e) => e.data.messageId === messageId);
  const { reactions } = await ada.restOk("GET", `/api/messages/${messageId}/reactions`);
  assert.deepEqual(reactions, []);
};

rows.PRIVATE_MESSAGE = async (stage) => {
  const [ada, bo] = [await stage.visitor("ada"), await stage.visitor("bo")];
  const ack = await ada.ok("private-message", { toUserId: bo.id, message: "psst" });
  const seen = await bo.saw("private-message");
  assert.match(seen.timestamp, TIMESTAMP);
  assert.deepEqual([seen.fromUserId, seen.toUserId, seen.message], [ada.id, bo.id, "psst"]);
  assert.deepEqual([seen.id, seen.conversationId], [ack.id, ack.conversationId]);
  await ada.saw("private-message", ({ id }) => id === ack.id);
  const { messages } = await bo.restOk("GET", `/api/conversations/${ack.conversationId}/messages`);
  assert.deepEqual(messages.map(({ id }) => id), [ack.id]);
};

// Conversations

/** Somebody is told of a change of one of its conversations. */
async function told(stage, person, type, change, matches) {
  const seen = await person.saw("conversation:changed", (one) => one.change === change && matches(one));
  assert.equal(seen.userId, person.id);
  assert.match(seen.timestamp, TIMESTAMP);
  await logged(stage, type, "system-events",
    ({ userId, data }) => userId === person.id && data.conversationId === seen.conversationId);
  return seen;
}

rows.CONVERSATION_CREATED = async (stage) => {
  const [ada, bo] = [await stage.visitor("ada"), await stage.visitor("bo")];
  const talk = await stage.talk(ada, bo);
  for (const one of [ada, bo]) {
    const { conversationId, by } = await told(stage, one, "CONVERSATION_CREATED", "created", () => true);
    assert.deepEqual([conversationId, by], [talk, ada.id]);
  }
};

/** Ada's conversation with Bo and Cy, who is connected. */
async function threesome(stage) {
  const [ada, bo, cy] = await Promise.all(["ada", "bo", "cy"].map((name) => stage.visitor(name)));
  const talk = await stage.talk(ada, bo, cy);
  return { ada, bo, cy, talk, members: `/api/conversations/${talk}/members` };
}

rows.MEMBER_ADDED = async (stage) => {
  const { ada, talk, members } = await threesome(stage);
  const dee = await stage.visitor("dee");
  const { added } = await ada.restOk("POST", members, { userIds: [dee.id] });
  assert.deepEqual(added, [dee.id]);
  const isThis = ({ conversationId, by }) => conversationId === talk && by === ada.id;
  await told(stage, dee, "MEMBER_ADDED", "added", isThis);
  await dee.join(talk);
};

rows.MEMBER_CHANGED = async (stage) => {
  const { ada, bo, talk, members } = await threesome(stage);
  await ada.restOk("PATCH", `${members}/${bo.id}`, { role: "moderator" });
  const isThis = ({ conversationId, role }) => conversationId === talk && role === "moderator";
  await told(stage, bo, "MEMBER_CHANGED", "role", isThis);
};

rows.MEMBER_REMOVED = async (stage) => {
  const { ada, bo, cy, talk, members } = await threesome(stage);
  await Promise.all([bo.join(talk), cy.join(talk)]);
  await ada.restOk("DELETE", `${members}/${bo.id}`);
  await told(stage, bo, "MEMBER_REMOVED", "removed", ({ conversationId }) => conversationId === talk);
  await ada.restOk("POST", "/api/messages", { conversationId: talk, content: "among us" });
  await cy.saw("message:new");
  assert.equal(bo.count("message:new"), 0, "who is out gets nothing more");
};

// Activity

for (const [type, event] of [["TYPING_START", "typing:start"], ["TYPING_STOP", "typing:stop"]]) {
  rows[type] = async (stage) => {
    const { ada, bo, talk } = await stage.pair();
    ada.socket.emit("typing:start", { conversationId: talk });
    if (type === "TYPING_STOP") ada.socket.emit("typing:stop", { conversationId: talk });
    const seen = await bo.saw(event);
    assert.deepEqual(seen, { conversationId: talk, userId: ada.id });
  };
}

/** Bo watches Ada, with whom he shares a conversation. */
async function watched(stage) {
  const [ada, bo] = [stage.person("ada"), await stage.visitor("bo")];
  await stage.talk(ada, bo);
  await bo.ok("presence:subscribe", { userIds: [ada.id] });
  await ada.connect();
  return { ada, bo };
}

rows.USER_ONLINE = async (stage) => {
  const { ada, bo } = await watched(stage);
  assert.equal((await bo.saw("user:online", ({ userId }) => userId === ada.id)).userId, ada.id);
  await logged(stage, "USER_ONLINE", "user-activity", (e) => e.userId === ada.id);
};

rows.USER_OFFLINE = async (stage) => {
  const { ada, bo } = await watched(stage);
  await bo.saw("user:online", ({ userId }) => userId === ada.id);
  await ada.disconnect();
  const { lastSeen } = await bo.saw("user:offline", ({ userId }) => userId === ada.id);
  assert.match(lastSeen, TIMESTAMP);
  await logged(stage, "USER_OFFLINE", "user-activity", (e) => e.userId === ada.id);
};

rows.PRESENCE_CHANGED = async (stage) => {
  const { ada, bo } = await watched(stage);
  await bo.saw("presence", ({ userId, online }) => userId === ada.id && online === true);
  await ada.disconnect();
  await bo.saw("presence", ({ userId, online }) => userId === ada.id && online === false);
};

// Accounts

for (const type of ["USER_SIGNUP", "USER_REGISTERED", "user.created"]) {
  rows[type] = async (stage) => {
    const ada = await stage.member("ada");
    await logged(stage, type, "user-events", (e) => e.userId === ada.id);
  };
}

rows.USER_LOGIN = async (stage) => {
  const { id, email, password } = await stage.member("ada");
  const nobody = stage.person("nobody");
  await nobody.restOk("POST", "/api/login", { email, password });
  await logged(stage, "USER_LOGIN", "user-events", (e) => e.userId === id);
};

for (const type of ["PROFILE_UPDATED", "user.updated"]) {
  rows[type] = async (stage) => {
    const [ada, bo] = [await stage.member("ada"), stage.person("bo")];
    await bo.restOk("GET", `/api/users/${ada.id}`);
    await ada.restOk("PATCH", "/api/profile", { name: "Ada L." });
    await logged(stage, type, "user-events", (e) => e.userId === ada.id);
    assert.equal((await bo.restOk("GET", `/api/users/${ada.id}`)).name, "Ada L.");
  };
}

rows.PROFILE_VIEW_ANALYTICS = async (stage) => {
  const [ada, bo] = [await stage.member("ada"), stage.person("bo")];
  await bo.restOk("GET", `/api/users/${ada.id}`);
  const event = await logged(stage, "PROFILE_VIEW_ANALYTICS", "analytics-events",
    (e) => e.userId === bo.id);
  assert.equal(event.data.viewedUserId, ada.id);
};

rows.MESSAGE_ANALYTICS = async (stage) => {
  const { ada, talk } = await stage.pair();
  const { id } = await ada.send(talk, "count me");
  const event = await logged(stage, "MESSAGE_ANALYTICS", "analytics-events",
    (e) => JSON.stringify(e.data).includes(id));
  assert.equal(JSON.stringify(event.data).includes("count me"), false, "no content in analytics");
};

// Connections

async function asked(stage) {
  const [ada, bo] = [await stage.visitor("ada"), await stage.visitor("bo")];
  const ack = await ada.ok("connection:request", { toUserId: bo.id });
  return { ada, bo, requestId: ack.requestId };
}

rows.CONNECTION_REQUEST = async (stage) => {
  const { ada, bo, requestId } = await asked(stage);
  const seen = await bo.saw("connection:request");
  assert.deepEqual([seen.requestId, seen.fromUserId, seen.toUserId], [requestId, ada.id, bo.id]);
  await logged(stage, "CONNECTION_REQUEST", "connection-events", (e) => e.userId === ada.id);
  const { connections } = await bo.restOk("GET", "/api/connections?status=pending");
  assert.deepEqual(connections.map((one) => one.requestId), [requestId]);
};

for (const [type, verb, event, status] of [
  ["CONNECTION_ACCEPTED", "connection:accept", "connection:accepted", "accepted"],
  ["CONNECTION_REJECTED", "connection:reject", "connection:rejected", "rejected"],
]) {
  rows[type] = async (stage) => {
    const { ada, bo, requestId } = await asked(stage);
    await bo.ok(verb, { requestId });
    const seen = await ada.saw(event);
    assert.deepEqual([seen.requestId, seen.fromUserId, seen.toUserId], [requestId, ada.id, bo.id]);
    await logged(stage, type, "connection-events", (e) => e.userId === bo.id);
    const { connections } = await ada.restOk("GET", `/api/connections?status=${status}`);
    assert.deepEqual(connections.map((one) => one.requestId), [requestId]);
  };
}

rows.CONNECTION_REQUEST_NOTIFICATION = async (stage) => {
  const { ada, bo } = await asked(stage);
  const type = "CONNECTION_REQUEST_NOTIFICATION";
  await notified(stage, bo, type, ({ data }) => JSON.stringify(data).includes(ada.id));
};

// Notifications

/** `person` is notified: live, in the log, and in the list, unread and then read. */
async function notified(stage, person, type, matches = () => true) {
  const seen = await person.saw("notification:new", (one) => one.type === type && matches(one));
  assert.equal(seen.userId, person.id);
  assert.match(seen.timestamp, TIMESTAMP);
  assert.ok(seen.epoch >= 1 && seen.seq >= 1 && typeof seen.data === "object", JSON.stringify(seen));
  await logged(stage, type, "notifications", ({ id }) => id === seen.id);
  await listed(stage, person, type);
  return seen;
}

async function listed(stage, person, type) {
  const find = async () => {
    const { notifications } = await person.restOk("GET", "/api/notifications?unread=true");
    return notifications.find((one) => one.type === type);
  };
  const found = await stage.eventually(`${type} is listed`, find);
  assert.equal(found.userId, person.id);
  await person.restOk("PATCH", "/api/notifications", { ids: [found.id] });
  await stage.eventually(`${type} is read`, async () => !(await find()));
  return found;
}

rows.MENTION = async (stage) => {
  const { ada, bo, talk } = await stage.pair();
  const { id } = await ada.send(talk, `look, @${bo.id}!`);
  await notified(stage, bo, "MENTION", ({ data }) => JSON.stringify(data).includes(id));
};

rows.MESSAGE_NOTIFICATION = async (stage) => {
  const [ada, away] = [await stage.visitor("ada"), stage.person("bo")];
  const talk = await stage.talk(ada, away);
  await ada.join(talk);
  const { id } = await ada.send(talk, "are you there?");
  const found = await listed(stage, away, "MESSAGE_NOTIFICATION");
  assert.ok(JSON.stringify(found.data).includes(id), JSON.stringify(found));
  await logged(stage, "MESSAGE_NOTIFICATION", "notifications", (e) => e.userId === away.id);
};

for (const type of ["ASSIGNMENT_DUE", "GRADE_POSTED", "notification.created"]) {
  rows[type] = async (stage) => {
    const ada = await stage.visitor("ada");
    const service = stage.service("notifications:write", "events:write", "users:act");
    const data = { title: "Something is due" };
    await service.restOk("POST", "/api/notifications", { userId: ada.id, type, data });
    const seen = await notified(stage, ada, type);
    assert.equal(seen.data.title, data.title);
  };
}

rows.ANNOUNCEMENT = async (stage) => {
  const [ada, bo] = [await stage.visitor("ada"), await stage.visitor("bo")];
  const title = unique("the water is off");
  await publish(stage, "ANNOUNCEMENT", { title });
  for (const one of [ada, bo]) {
    const seen = await one.saw("notification:new", ({ data }) => data.title === title);
    assert.equal(seen.type, "ANNOUNCEMENT");
  }
  await logged(stage, "ANNOUNCEMENT", "notifications", (e) => e.data.title === title);
};

// Domain events of other services

async function publish(stage, type, data, more = {}) {
  const service = stage.service("events:write", "users:act", "records:read", "records:write");
  const answer = await service.restOk("POST", "/api/events", { type, data, ...more });
  assert.equal(answer.ok, true);
  return { ...answer, service };
}

/** The complaint as it came to be stored. */
async function complaint(stage) {
  const ada = await stage.visitor("ada");
  const data = {
    id: unique("complaint"), title: "No water", description: "Since Monday", category: "plumbing",
    priority: "high", status: "open", userId: ada.id, apartment: "12", building: unique("house"),
    createdAt: "2026-11-21T10:00:00.000Z", updatedAt: "2026-11-21T10:00:00.000Z",
  };
  const created = await publish(stage, "complaint.created", data, { userId: ada.id });
  assert.equal(created.topic, "complaints");
  const get = () => created.service.rest("GET", `/api/records/complaint/${data.id}`);
  const stored = await stage.eventually("the record is there", async () => {
    const { status, body } = await get();
    return status === 200 && body;
  });
  assert.deepEqual([stored.kind, stored.id, stored.data.title], ["complaint", data.id, "No water"]);
  return { ada, data, get };
}

rows["complaint.created"] = async (stage) => {
  const { data } = await complaint(stage);
  await logged(stage, "complaint.created", "complaints", (e) => e.data.id === data.id);
};

rows["complaint.updated"] = async (stage) => {
  const { ada, data, get } = await complaint(stage);
  const changed = { ...data, status: "closed", updatedAt: "2026-11-21T11:00:00.000Z" };
  const { topic } = await publish(stage, "complaint.updated", changed, { userId: ada.id });
  assert.equal(topic, "complaints");
  await stage.eventually("the record changed", async () => (await get()).body.data.status === "closed");
  assert.equal((await get()).body.data.title, "No water");
};

rows["complaint.deleted"] = async (stage) => {
  const { ada, data, get } = await complaint(stage);
  const { topic } = await publish(stage, "complaint.deleted", { id: data.id }, { userId: ada.id });
  assert.equal(topic, "complaints");
  await stage.eventually("the record is gone", async () => (await get()).status === 404);
};

for (const [type, data] of [
  ["SEARCH_PERFORMED", { query: "rust", results: 3 }],
  ["SEARCH_RESULT_CLICKED", { query: "rust", resultId: "r1", position: 0 }],
  ["ENGAGEMENT_RECORDED", { action: "scroll", durationMs: 1200 }],
]) {
  rows[type] = async (stage) => {
    const ada = stage.person("ada");
    const { id, topic, service } = await publish(stage, type, data, { userId: ada.id });
    assert.equal(topic, "analytics-events");
    const event = await logged(stage, type, topic, (e) => e.id === id);
    assert.deepEqual([event.userId, event.data], [ada.id, data]);
    const named = Object.keys(data)[0];
    const wrong = { type, data: { ...data, [named]: {} } };
    problem(await service.rest("POST", "/api/events", wrong), "invalid", named);
  };
}

rows.COURSE_ENROLLED = async (stage) => {
  const [ada, bo] = [await stage.visitor("ada"), await stage.visitor("bo")];
  const course = unique("bio");
  const registrar = stage.service("members:write", "events:write", "users:act");
  for (const one of [ada, bo]) {
    await registrar.restOk("POST", `/api/courses/${course}/members`, { userId: one.id });
  }
  await logged(stage, "COURSE_ENROLLED", "system-events", (e) => JSON.stringify(e).includes(course));
  const { members } = await ada.restOk("GET", `/api/courses/${course}/members`);
  assert.deepEqual(members.map((one) => one.userId).sort(), [ada.id, bo.id].sort());
  // Who shares a course is visible.
  const { presence } = await ada.restOk("GET", `/api/presence?users=${bo.id}`);
  assert.deepEqual(presence.map((one) => [one.userId, one.online]), [[bo.id, true]]);
};

// What nodes send themselves

rows.CANARY = async (stage) => {
  const since = Date.now();
  await logged(stage, "CANARY", "system-events", ({ timestamp }) => Date.parse(timestamp) >= since);
  // Only a node of its own can be asked what it counted.
  if (!stage.node.metric) return;
  const counted = (outcome) => stage.node.metric("vestibule_canary_probes_total", `outcome="${outcome}"`);
  await stage.eventually("it comes back", async () => await counted("delivered") > 1);
  for (const outcome of ["unheard", "lost", "doubled", "refused"]) assert.equal(await counted(outcome), 0, outcome);
};
