// What one tab knows of a conversation: settled messages in their places, and what it still sends.
//
// A settled message has a place (epoch, seq) that the gateway gave it; the list is always in that
// order, whichever way a message came (live, missed, history). A pending one has only the id this
// page gave it, `clientMessageId`; it is told apart from its settled self by the id in the ack, so a
// retry under the same `clientMessageId` never shows a message twice. Edits, deletions, reactions and
// read cursors change what is there; applying one again changes nothing.
//
// No DOM, no network, no clock: those are the callers'.

/** Orders places: by epoch first, then by seq. */
export function compare(a, b) {
  return a.epoch - b.epoch || a.seq - b.seq;
}

const later = (a, b) => (!a || (b && compare(b, a) > 0) ? b : a);

export class Conversation {
  constructor(id) {
    this.id = id;
    this.kind = "group";
    this.title = "";
    this.memberCount = 0;
    this.role = null;
    this.other = null;
    this.activeAt = null;
    // Whether the gateway lists it for this user; a room that a token opens by itself is not listed.
    this.isListed = false;
    this.members = null;
    this.settled = [];
    this.pending = [];
    // What to ask history for to get earlier messages; null when there are none.
    this.older = null;
    this.reachedBeginning = false;
    this.loaded = false;
    this.byId = new Map();
    this.last = null;
    this.unread = 0;
    // Per user, the seq up to which all is read.
    this.cursors = new Map();
    this.typing = new Set();
    // Up to here nothing is missing; what a rejoin sends as `after`.
    this.seen = null;
    // The first message that was unread when the conversation was opened.
    this.firstUnread = null;
  }

  /** Takes over what the gateway's list says. `me` is the user whose list it is. */
  describe(item, me) {
    this.isListed = true;
    this.kind = item.kind ?? this.kind;
    this.title = item.title ?? this.title;
    this.memberCount = Number.isInteger(item.members) ? item.members : this.memberCount;
    this.role = item.role ?? this.role;
    this.other = item.other?.id ?? item.other ?? this.other;
    this.activeAt = item.activeAt ?? this.activeAt;
    if (item.read) this.#moveCursor(me, item.read.seq);
    if (!this.loaded) this.#preview(item);
  }

  /** Puts a message in its place; false if it was there already. */
  settle(message) {
    const known = this.byId.get(message.id);
    if (known) {
      if (compare(known, message) >= 0) return false;
      // Ordered again in a later epoch: the later place holds.
      this.settled.splice(this.settled.indexOf(known), 1);
    }
    const kept = known ? { ...known, ...message } : { ...message };
    this.byId.set(kept.id, kept);
    this.settled.splice(this.#placeOf(kept), 0, kept);
    this.pending = this.pending.filter((entry) => entry.id !== kept.id);
    this.#tell(kept);
    return !known;
  }

  /**
   * Something that happened, live or missed. True if it is a message that was not there before.
   * `me` is this tab's user: messages of others count as unread, its own do not.
   */
  apply(event, data, me) {
    switch (event) {
      case "message:new":
        return this.#arrived(data, me);
      case "message:edited":
        this.#change(data.id, { content: data.content, editedAt: data.editedAt ?? data.timestamp });
        break;
      case "message:deleted":
        this.#change(data.id, { content: "", deletedAt: data.deletedAt ?? data.timestamp ?? "deleted" });
        break;
      case "reaction:added":
      case "reaction:removed":
        this.#react(data, event === "reaction:added");
        break;
      case "message:read":
        this.readUpTo(data.userId, data.upTo, me);
        break;
      default:
    }
    this.sawUpTo(data);
    return false;
  }

  /** Nothing up to this place is missing any more. Things without a place say nothing. */
  sawUpTo({ epoch, seq }) {
    if (Number.isInteger(epoch) && Number.isInteger(seq)) this.seen = later(this.seen, { epoch, seq });
  }

  /** A user has read up to this seq. Cursors only move forward. */
  readUpTo(user, seq, me) {
    if (!this.#moveCursor(user, seq) || user !== me) return;
    this.unread = this.loaded ? this.#unreadAfter(seq, me) : this.#isRead(seq) ? 0 : this.unread;
  }

  /** The users who have read a message, but nothing after it, by the message's id. */
  readers(me) {
    const found = new Map();
    for (const [user, cursor] of this.cursors) {
      if (user === me) continue;
      let at = this.settled.length - 1;
      while (at >= 0 && this.settled[at].seq > cursor && this.settled[at].userId !== user) at -= 1;
      const message = this.settled[at];
      // Who wrote a message has read it: nothing to say.
      if (!message || message.userId === user) continue;
      found.set(message.id, [...(found.get(message.id) ?? []), user]);
    }
    return found;
  }

  /** Forgets what is settled; what is pending stays to be sent. */
  reset() {
    this.settled = [];
    this.byId.clear();
    this.seen = null;
    this.loaded = false;
    this.older = null;
    this.reachedBeginning = false;
  }

  /** A page of history: messages ascending, and what to ask for as `before` when there are more. */
  addPage({ messages, previous, complete }) {
    for (const message of messages) this.settle(message);
    this.older = previous ?? null;
    this.reachedBeginning = !previous && complete !== false && this.settled.length > 0;
  }

  /** Call when it comes on the screen: marks where the unread part begins. */
  markUnread(me) {
    const read = this.cursors.get(me) ?? 0;
    const first = this.settled.find((one) => one.seq > read && one.userId !== me);
    this.firstUnread = this.unread > 0 ? (first?.id ?? null) : null;
  }

  /** Queues a text for sending. */
  compose(content, clientMessageId, at) {
    const entry = { clientMessageId, content, at, state: "sending", inFlight: false, waitUntil: 0 };
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

  #arrived(message, me) {
    const fresh = this.settle(message);
    this.sawUpTo(message);
    if (!fresh) return false;
    this.typing.delete(message.userId);
    const isUnread = message.userId !== me && message.seq > (this.cursors.get(me) ?? 0);
    if (isUnread) this.unread += 1;
    return true;
  }

  // What the list counted reaches up to the message it shows; what came live since then counts more.
  #preview({ lastMessage, unread }) {
    if (this.last && (!lastMessage || compare(lastMessage, this.last) < 0)) return;
    if (Number.isInteger(unread)) this.unread = unread;
    if (!lastMessage) return;
    this.#tell(lastMessage);
    this.sawUpTo(lastMessage);
  }

  #change(id, changes) {
    const message = this.byId.get(id);
    if (message) Object.assign(message, changes);
    if (this.last?.id === id) this.last = { ...this.last, ...changes };
  }

  #react({ messageId, userId, emoji, count }, isAdded) {
    const message = this.byId.get(messageId);
    if (!message) return;
    const others = (message.reactions ?? []).filter((one) => one.emoji !== emoji);
    const before = (message.reactions ?? []).find((one) => one.emoji === emoji);
    const users = (before?.users ?? []).filter((user) => user !== userId);
    if (isAdded) users.push(userId);
    const isLeft = (count ?? users.length) > 0;
    const now = { emoji, count: count ?? users.length, users };
    // In its place, so that chips do not jump under the pointer.
    const at = before ? message.reactions.indexOf(before) : others.length;
    message.reactions = isLeft ? others.toSpliced(at, 0, now) : others;
  }

  #tell(message) {
    if (this.last && compare(message, this.last) < 0) return;
    this.last = { ...message };
    if (!this.activeAt || message.timestamp > this.activeAt) this.activeAt = message.timestamp;
  }

  #moveCursor(user, seq) {
    if (!Number.isInteger(seq) || seq <= (this.cursors.get(user) ?? 0)) return false;
    this.cursors.set(user, seq);
    return true;
  }

  #isRead(seq) {
    return !this.last || this.last.seq <= seq;
  }

  #unreadAfter(seq, me) {
    return this.settled.filter((one) => one.seq > seq && one.userId !== me && !one.deletedAt).length;
  }

  // Almost every message belongs at the end, so look from there.
  #placeOf(message) {
    let at = this.settled.length;
    while (at > 0 && compare(this.settled[at - 1], message) > 0) at -= 1;
    return at;
  }
}
