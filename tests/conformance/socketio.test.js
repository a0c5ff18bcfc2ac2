// Socket.IO 5, against a server with the namespaces `/` and `/custom`.
//
// On connection it emits `auth` with what the client sent as such. On `/`, `message` is answered by
// `message-back` with the same arguments, `message-with-ack` by an ack with them.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { sessionSuite } from "./session-suite.js";
import { start } from "./server.js";
import { pause, Peer, SEPARATOR } from "./wire.js";

let server;
let peer;

before(async () => {
  server = await start();
  peer = new Peer(server.url, "/socket.io/");
});
afterEach(() => peer?.closeAll());
after(() => server?.stop());

sessionSuite(() => peer);

/** Sends a CONNECT; checks the reply and the `auth` event that follows it. */
async function connect(wire, namespace = "", auth = "") {
  const prefix = namespace && `${namespace},`;
  wire.send(`40${prefix}${auth}`);
  const reply = await wire.nextPacket();
  assert.ok(reply.startsWith(`40${prefix}{`), reply);
  const content = JSON.parse(reply.slice(2 + prefix.length));
  assert.deepEqual(Object.keys(content), ["sid"]);
  assert.match(content.sid, /^[\w-]{20}$/);
  assert.notEqual(content.sid, wire.handshake.sid, "the session's id is a secret");
  await wire.expect(`42${prefix}["auth",${auth || "{}"}]`);
  return content.sid;
}

/** A WebSocket, connected to the main namespace. */
async function connected() {
  const wire = await peer.session();
  await connect(wire);
  return wire;
}

const isAlive = (wire) => wire.send('42["message","alive"]').expect('42["message-back","alive"]');

describe("connect", () => {
  test("to the main namespace", async () => {
    await connected();
  });

  test("to the main namespace, with a payload", async () => {
    await connect(await peer.session(), "", '{"token":"123"}');
  });

  test("to a custom namespace", async () => {
    await connect(await peer.session(), "/custom");
  });

  test("to a custom namespace, with a payload", async () => {
    await connect(await peer.session(), "/custom", '{"token":"abc"}');
  });

  test("to both, under different ids", async () => {
    const wire = await peer.session();
    assert.notEqual(await connect(wire), await connect(wire, "/custom"));
  });

  test("an unknown namespace is refused, the connection stays", async () => {
    const wire = await peer.session();
    await wire.send("40/random").expect('44/random,{"message":"Invalid namespace"}');
    await connect(wire);
  });

  test("an invalid first packet closes the connection", async () => {
    const wire = await peer.session();
    wire.send("4abc");
    await wire.end();
  });

  test("without a connect packet the connection is closed", async () => {
    await (await peer.session()).end();
  });

  test("without a connect packet it is closed even when pings are answered", async () => {
    const wire = await peer.session();
    const began = Date.now();
    await assert.rejects(wire.nextPacket(), /closed/);
    const lasted = Date.now() - began;
    assert.ok(lasted > 700 && lasted < 2500, `lasted ${lasted} ms, the limit is 1000`);
  });

  test("an event for a namespace that was not connected to closes the connection", async () => {
    for (const packet of ['42["message","x"]', '42/custom,["message","x"]', "41/custom,"]) {
      const wire = await peer.session();
      if (packet.includes("custom")) await connect(wire);
      wire.send(packet);
      await wire.end();
    }
  });

  test("over polling", async () => {
    const session = await peer.polling();
    assert.equal((await session.post('40{"token":"123"}')).text, "ok");
    const received = [];
    while (received.length < 2) {
      const { text } = await session.get();
      received.push(...text.split(SEPARATOR).filter((packet) => packet !== "2"));
    }
    assert.match(received[0], /^40\{"sid":"[\w-]{20}"\}$/);
    assert.equal(received[1], '42["auth",{"token":"123"}]');
  });
});

describe("disconnect", () => {
  test("from the main namespace: the session goes on", async () => {
    const wire = await connected();
    wire.send("41");
    assert.equal(await wire.next(), "2");
  });

  test("from a custom namespace: the main one goes on", async () => {
    const wire = await connected();
    await connect(wire, "/custom");
    wire.send("41/custom");
    await isAlive(wire);
  });

  test("and connect again, under a new id", async () => {
    const wire = await peer.session();
    const before = await connect(wire);
    wire.send("41");
    // In one go Node's server takes the second for a connect while connected.
    await pause(50);
    assert.notEqual(await connect(wire), before);
  });
});

describe("messages", () => {
  const holders = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}';
  const one = Buffer.from([1, 2, 3]);
  const two = Buffer.from([4, 5, 6]);

  test("plain text", async () => {
    const wire = await connected();
    await wire.send('42["message",1,"2",{"3":[true]}]')
      .expect('42["message-back",1,"2",{"3":[true]}]');
  });

  test("with binary attachments", async () => {
    const wire = await connected();
    await wire.send(`452-["message",${holders}]`, one, two)
      .expect(`452-["message-back",${holders}]`, one, two);
  });

  test("plain text with an ack", async () => {
    const wire = await connected();
    await wire.send('42456["message-with-ack",1,"2",{"3":[false]}]')
      .expect('43456[1,"2",{"3":[false]}]');
  });

  test("with binary attachments and an ack", async () => {
    const wire = await connected();
    await wire.send(`452-789["message-with-ack",${holders}]`, one, two)
      .expect(`462-789[${holders}]`, one, two);
  });

  // More than Node's server promises: that one reads the JSON and writes it anew.
  test("key order and the text of numbers survive", async () => {
    const wire = await connected();
    const content = '{"b":1,"a":2.50,"10":1e3,"c":12345678901234567890,"a":[ ]}';
    const packet = await wire.send(`42["message",${content}]`).nextPacket();
    assert.ok(packet.startsWith('42["message-back",{"b":1,"a":2.50,"10":1e3,'), packet);
  });

  test("attachments deep inside, and the same one twice", async () => {
    const wire = await connected();
    const [first, second] = holders.split("},").map((text) => text.replace(/}?$/, "}"));
    await wire.send(`452-["message",{"a":[{"b":${first}}],"c":${second}}]`, one, two)
      .expect(`452-["message-back",{"a":[{"b":${first}}],"c":${second}}]`, one, two);
    // What is told twice may come back as two attachments; it must come back.
    wire.send(`451-["message",${first},${first}]`, one);
    assert.match(await wire.nextPacket(), /^45[12]-\["message-back"/);
    assert.deepEqual(await wire.nextPacket(), one);
  });

  test("text and binary packets keep their order", async () => {
    const wire = await connected();
    const frames = [];
    for (let i = 0; i < 100; i += 1) {
      frames.push(`42["message",${i}]`);
      frames.push('451-["message",{"_placeholder":true,"num":0}]', Buffer.from([i]));
    }
    const back = frames.map((frame) =>
      typeof frame === "string" ? frame.replace('"message"', '"message-back"') : frame);
    await wire.send(...frames).expect(...back);
  });

  test("event names with spaces, colons and no ASCII; numbers as names", async () => {
    const wire = await connected();
    wire.send('42["a b:c ü"]', "42[1]", '42["connection"]', '42["error"]', '42["message" ]');
    await wire.expect('42["message-back"]');
  });

  test("what Node's server lets pass passes here", async () => {
    for (const packet of ["40{}", "40"]) {
      const wire = await peer.session();
      wire.send(packet);
      assert.match(await wire.nextPacket(), /^40\{"sid"/);
    }
    const wire = await connected();
    wire.send('42["message"] ', '4300["no such ack"]', '42["nobody listens"]');
    await wire.expect('42["message-back"]');
  });
});

describe("invalid packets close the connection", () => {
  const afterConnect = {
    "an unknown packet type": ["4abc"],
    "another unknown type": ["47"],
    "an empty packet": ["4"],
    "an event that is an object": ["42{}"],
    "an event without a name": ["42[]"],
    "an event named null": ["42[null]"],
    "an event named by a boolean": ["42[true]"],
    "a reserved name": ['42["connect"]'],
    "another reserved name": ['42["disconnecting"]'],
    "broken JSON": ['42["message",'],
    "junk after the JSON": ['42["message"]x'],
    "an ack id that is none": ['42abc["message-with-ack",1,"2",{"3":[false]}]'],
    "a negative ack id": ['42-1["message"]'],
    "a fractional ack id": ['421.5["message"]'],
    "an ack that is an object": ["43{}"],
    "a disconnect with a payload": ["41{}"],
    "a connect while connected": ["40"],
    "a connect error from a client": ['44{"message":"no"}'],
    "binary out of nowhere": [Buffer.from([1])],
    "a binary event without a count": ['45["message"]'],
    "a count that is none": ['45a-["message"]'],
    "a fractional count": ['451.5-["message"]'],
    "too many attachments": ['4511-["message"]'],
    "text while attachments are awaited": ['451-["message",{"_placeholder":true,"num":0}]', '42["message"]'],
    "a placeholder out of range": ['451-["message",{"_placeholder":true,"num":1}]', Buffer.from([1])],
    "a placeholder without a number": ['451-["message",{"_placeholder":true,"num":"0"}]', Buffer.from([1])],
  };
  for (const [what, frames] of Object.entries(afterConnect)) {
    test(what, async () => {
      const wire = await connected();
      wire.send(...frames);
      await wire.end();
    });
  }

  for (const packet of ["40[]", "40null", '40/admin,"x"', '40"x"']) {
    test(`a connect packet ${packet}`, async () => {
      const wire = await peer.session();
      wire.send(packet);
      await wire.end();
    });
  }

  test("and no other connection", async () => {
    const bystander = await connected();
    const wire = await connected();
    wire.send("42{}");
    await wire.end();
    await pause(20);
    await isAlive(bystander);
  });
});
