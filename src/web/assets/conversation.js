// What one tab knows of a conversation: settled messages in their places, and what it still sends.
//
// A settled message has a place (epoch, seq) that the gateway gave it; the list is always in that
// order, whichever way a message came (live, missed, history). A pending one has only the id this
// page gave it, `clientMessageId`; it is told apart from its settled self by the id in the ack, so a
// retry under the same `clientMessageId` never shows a message twice.
//
// No DOM, no network, no clock: those are the callers'.

/** Orders places: by epoch first, then by seq. */
export function compare(a, b) {
  return a.epoch - b.epoch || a.seq - b.seq;
}

export class Conversation {
  constructor(id) {
    this.id = id;
    this.settled = [];
    this.pending = [];
    this.hasOlder = false;
    this.reachedBeginning = false;
    this.loaded = false;
    this.byId = new Map();
    // Up to here nothing is missing; what a rejoin sends as `after`.
    this.seen = null;
    // While missed messages are still being fetched, live ones do not move `seen`.
    this.catchingUp = false;
  }

  /** Puts a message in its place; false if it was there already. */
  settle(message) {
    const known = this.byId.get(message.id);
    if (known) {
      if (compare(known, message) >= 0) return false;
      // Ordered again in a later epoch: the later place holds.
      this.settled.splice(this.settled.indexOf(known), 1);
    }
    this.byId.set(message.id, message);
    this.settled.splice(this.#placeOf(message), 0, message);
    this.pending = this.pending.filter((entry) => entry.id !== message.id);
    return !known;
  }

  /** A message that arrived by itself. */
  arrived(message) {
    const fresh = this.settle(message);
    if (!this.catchingUp) this.sawUpTo(message);
    return fresh;
  }

  /** Nothing up to this place is missing any more. */
  sawUpTo({ epoch, seq }) {
    if (!this.seen || compare({ epoch, seq }, this.seen) > 0) this.seen = { epoch, seq };
  }

  /** Forgets what is settled; what is pending stays to be sent. */
  reset() {
    this.settled = [];
    this.byId.clear();
    this.seen = null;
    this.loaded = false;
    this.hasOlder = false;
    this.reachedBeginning = false;
  }

  /** A page of history: `messages` ascending, `isFull` if there may be more before it. */
  addPage(messages, isFull) {
    for (const message of messages) this.settle(message);
    this.hasOlder = isFull;
    this.reachedBeginning = !isFull && this.settled.length > 0;
  }

  /** Queues a text for sending. */
  compose(content, clientMessageId, at) {
    const entry = { clientMessageId, content, at, state: "sending", inFlight: false };
    this.pending.push(entry);
    return entry;
  }

  /** The log has it: what is left is to see it arrive in its place. */
  acknowledge(entry, id) {
    entry.id = id;
    entry.state = "logged";
    if (this.byId.has(id)) this.discard(entry);
  }

  /** It was refused for good; a person decides what to do. */
  refuse(entry, error) {
    entry.state = "failed";
    entry.error = error;
  }

  /** Drops a pending message. */
  discard(entry) {
    this.pending = this.pending.filter((other) => other !== entry);
  }

  /** What has to be sent (again), in the order in which it was written. */
  unsent() {
    return this.pending.filter((entry) => entry.state === "sending" && !entry.inFlight);
  }

  // Almost every message belongs at the end, so look from there.
  #placeOf(message) {
    let at = this.settled.length;
    while (at > 0 && compare(this.settled[at - 1], message) > 0) at -= 1;
    return at;
  }
}
