// What an operator changes by a file alone: a type of its own, the names of topics, and when a file is
// wrong.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { Node } from "../lib/own-node.js";
import { catalogue } from "./catalogue.js";
import { problem, refused, Stage, unique } from "./stage.js";

/** A kitchen: orders go to a building's room and become records. */
const KITCHEN = `
[limiter.orders]
count = 3
per = "1h"
by = "user"

[[event]]
type = "ORDER_PLACED"
client = "order:place"
who = "members"
limiter = "orders"
topic = "kitchen"
key = "{data.orderId}"
room = "building:{data.kitchen}"
server = "order:new"
view = ["id", "userId", "data.orderId", "data.dish", "timestamp", "epoch", "seq"]

[event.schema]
required = ["kitchen", "orderId", "dish"]
properties.kitchen = { type = "string", format = "id" }
properties.orderId = { type = "string", format = "id" }
properties.dish = { type = "string", minLength = 1, maxBytes = 64 }

[[event.effect]]
action = "upsert"
kind = "order"
id = "{data.orderId}"
ttl = "1m"
`;

const FILE = "kitchen.toml";

describe("a type of the operator's", () => {
  let stage;
  before(async () => {
    stage = new Stage(await Node.start({ "catalogue.file": FILE }, { [FILE]: KITCHEN }));
  });
  afterEach(() => stage?.close());
  after(() => stage?.node.stop());

  /** A cook and a waiter in one kitchen. */
  async function kitchen() {
    const name = unique("kitchen");
    const [cook, waiter] = [stage.person("cook"), stage.person("waiter")];
    const manager = stage.service("members:write", "records:read");
    for (const one of [cook, waiter]) {
      await manager.restOk("POST", `/api/buildings/${name}/members`, { userId: one.id });
      await one.connect();
    }
    return { name, cook, waiter, manager };
  }

  test("reaches its room, the log and a record", async () => {
    const { name, cook, waiter, manager } = await kitchen();
    const orderId = unique("order");
    const order = { kitchen: name, orderId, dish: "soup" };
    const ack = await waiter.ok("order:place", order);
    assert.equal(ack.room, `building:${name}`);
    const { timestamp, epoch, seq, ...seen } = await cook.saw("order:new");
    assert.deepEqual(seen, { id: ack.id, userId: waiter.id, orderId, dish: "soup" });
    assert.ok(timestamp && epoch >= 1 && seq >= 1);
    const { topic, key, event } = await stage.logged("ORDER_PLACED", ({ id }) => id === ack.id);
    assert.deepEqual([topic, key, event.data], ["kitchen", orderId, order]);
    const record = await stage.eventually("the record is there", async () => {
      const { status, body } = await manager.rest("GET", `/api/records/order/${orderId}`);
      return status === 200 && body;
    });
    assert.equal(record.data.dish, "soup");
  });

  test("is refused like any other", async () => {
    const { name, waiter } = await kitchen();
    const order = { kitchen: name, orderId: "1", dish: "soup" };
    refused(await waiter.ask("order:place", { ...order, dish: 7 }), "invalid", "dish");
    refused(await waiter.ask("order:place", { kitchen: name, dish: "soup" }), "invalid", "orderId");
    const long = await waiter.ask("order:place", { ...order, dish: "x".repeat(65) });
    refused(long, "too_large", "dish");
    const stranger = await stage.visitor("stranger");
    refused(await stranger.ask("order:place", order), "forbidden");
    for (let i = 0; i < 3; i += 1) await waiter.ask("order:place", { ...order, orderId: `${i}` });
    refused(await waiter.ask("order:place", order), "rate_limited");
  });
});

describe("a file that is read again", () => {
  let stage;
  before(async () => {
    stage = new Stage(await Node.start({ "catalogue.file": FILE }, { [FILE]: "" }));
  });
  after(async () => {
    stage?.close();
    await stage?.node.stop();
  });

  test("is in force for who is connected; a wrong one changes nothing", async () => {
    const rooms = ["building:*"];
    const [cook, waiter] = [await stage.visitor("cook"), await stage.visitor("waiter", { rooms })];
    const manager = stage.service("members:write");
    const name = unique("kitchen");
    await manager.restOk("POST", `/api/buildings/${name}/members`, { userId: cook.id });
    const order = { kitchen: name, orderId: "1", dish: "soup" };
    refused(await waiter.ask("order:place", order), "not_found");

    stage.node.write(FILE, KITCHEN);
    await stage.node.reload();
    const ack = await waiter.ok("order:place", order);
    assert.equal((await cook.saw("order:new")).id, ack.id);

    stage.node.write(FILE, `${KITCHEN}\n[[event]]\ntype = "ORDER_EATEN"\ncolour = "red"\nroom = "{nobody}"\n`);
    const told = await stage.node.reload();
    assert.match(told, /catalogue not reloaded.*(ORDER_EATEN|colour|nobody)/, told);
    const again = await waiter.ok("order:place", { ...order, orderId: "2" });
    assert.equal((await cook.saw("order:new", ({ orderId }) => orderId === "2")).id, again.id);

    // What the log holds of a topic is read until a restart, so it cannot be taken away.
    stage.node.write(FILE, "");
    assert.match(await stage.node.reload(), /catalogue not reloaded.*kitchen/);
    await waiter.ok("order:place", { ...order, orderId: "3" });

    stage.node.write(FILE, KITCHEN.replace("order:place", "order:make"));
    await stage.node.reload();
    refused(await waiter.ask("order:place", order), "not_found");
    refused(await waiter.ask("order:make", { ...order, orderId: "4" }), "rate_limited");
    assert.ok(cook.socket.connected && waiter.socket.connected, "nobody had to connect again");
  });

  test("a node does not start with a wrong one, and names every mistake", async () => {
    const wrong = '[[event]]\ntype = "A"\nroom = "{nobody}"\n[[event]]\ntype = "B"\ncolour = "red"\n';
    const start = Node.start({ "catalogue.file": FILE }, { [FILE]: wrong });
    await assert.rejects(start, (error) => /nobody/.test(error.message) && /colour/.test(error.message));
  });
});

describe("presets", () => {
  const topics = {
    devconnect: {
      MESSAGE_SENT: "message-events", TYPING_START: "user-activity", MESSAGE_NOTIFICATION: "notification-events",
    },
    residents: { "complaint.created": "complaint.created", "user.created": "user.created" },
    community: { REACTION_ADDED: "reactions", MESSAGE_SENT: "messages" },
    classroom: { MESSAGE_SENT: "chat-messages", GRADE_POSTED: "assignment-events" },
  };
  /** Each type's event, made by a client. */
  const make = {
    async MESSAGE_SENT(stage) {
      const { ada, talk } = await stage.pair();
      await ada.send(talk, "hello");
    },
    async TYPING_START(stage) {
      const { ada, talk } = await stage.pair();
      ada.socket.emit("typing:start", { conversationId: talk });
    },
    async MESSAGE_NOTIFICATION(stage) {
      const [ada, away] = [await stage.visitor("ada"), stage.person("bo")];
      const talk = await stage.talk(ada, away);
      await ada.send(talk, "hello");
    },
    async REACTION_ADDED(stage) {
      const { ada, talk } = await stage.pair();
      const { id } = await ada.send(talk, "hello");
      await ada.ok("reaction:add", { messageId: id, emoji: "👍" });
    },
    "user.created": (stage) => stage.member("ada"),
    "complaint.created": (stage) => service(stage, "complaint.created", { id: "1", title: "No water" }),
    GRADE_POSTED: (stage) => service(stage, "GRADE_POSTED", { courseId: "bio", grade: "A" }),
  };
  const service = (stage, type, data) => {
    const json = { type, data };
    return stage.service("events:write").restOk("POST", "/api/events", json);
  };

  for (const [preset, wanted] of Object.entries(topics)) {
    test(`${preset}: events are in the topics of that system`, async () => {
      const stage = new Stage(await Node.start({ "catalogue.preset": preset }));
      try {
        for (const [type, topic] of Object.entries(wanted)) {
          await make[type](stage);
          assert.equal((await stage.logged(type)).topic, topic, type);
        }
      } finally {
        stage.close();
        await stage.node.stop();
      }
    });
  }

  test("a channel is a conversation, and eventType a type", async () => {
    const stage = new Stage(await Node.start({ "catalogue.preset": "community" }));
    try {
      const { ada, bo, talk } = await stage.pair();
      const json = { channelId: talk, content: "by its other name" };
      await ada.restOk("POST", "/api/messages", json);
      assert.equal((await bo.saw("message:new")).content, json.content);
      const event = { eventType: "SEARCH_PERFORMED", data: { query: "rust" } };
      await stage.service("events:write").restOk("POST", "/api/events", event);
      const none = { eventType: "NOTHING_SUCH", data: {} };
      const refusal = await stage.service("events:write").rest("POST", "/api/events", none);
      problem(refusal, refusal.status === 404 ? "not_found" : "invalid");
    } finally {
      stage.close();
      await stage.node.stop();
    }
  });
});

test("every topic of the built-in catalogue is one that the design names", () => {
  const known = [
    "messages", "user-activity", "user-events", "connection-events", "notifications", "complaints",
    "analytics-events", "system-events",
  ];
  const found = new Set(catalogue.map(({ block }) => /^topic = "(.*)"$/m.exec(block)?.[1]));
  found.delete(undefined);
  assert.deepEqual([...found].sort(), known.sort());
});
