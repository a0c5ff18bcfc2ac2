// One person's visit: the store, the connection, and everything that moves between them.
//
// Views call this; it calls nothing of theirs but the callbacks it is given.

import { Api } from "./api.js";
import { isGuest } from "./format.js";
import { Outgoing } from "./outgoing.js";
import { pause, Rooms } from "./rooms.js";
import { Link } from "./socket.js";
import { Store } from "./store.js";

// The gateway ends a typing notice after 3 s; a lost stop must not leave one standing.
const TYPING_SHOWN_MS = 4500;
// New conversations are told by events; this is for what no event told.
const REFRESH_MS = 60_000;
const REFRESH_SOON_MS = 300;
const PRESENCE_AT_A_TIME = 100;
const NOTICE_KEPT_MS = 2000;

export class Visit {
  #callbacks;
  #wasIn = false;
  #timers = new Map();
  #watched = new Set();
  #asked = new Set();
  #every;

  /**
   * `identity`: `{id, name, kind, email?, token?}`. Callbacks: `refused(refusal)` when the gateway
   * will not let this user in, `notice(text)`, `failed(refusal, what)`, `message(conversation, data)`,
   * `gone(conversation)` when the user is no longer in it.
   */
  constructor(identity, callbacks) {
    const { token, ...me } = identity;
    this.#callbacks = callbacks;
    this.api = new Api(token);
    this.store = new Store(me);
    this.link = new Link(token, {
      connected: (isResumed) => this.#connected(isResumed),
      lost: () => this.#lost(),
      refused: (refusal) => callbacks.refused(refusal),
      heard: (event, data) => this.#heard(event, data),
      missed: (event, data) => this.rooms.missed(event, data),
      reload: (what) => this.rooms.reload(what),
      delayed: (what) => this.outgoing.delayed(what),
    });
    this.rooms = new Rooms(this.store, this.api, this.link);
    const { store, link, rooms } = this;
    const failed = (refusal, what) => callbacks.failed(refusal, what);
    this.outgoing = new Outgoing({ store, link, rooms, failed });
    this.store.listen((parts) => {
      if (parts.has("list") || parts.has("log")) this.#meet();
    });
    this.#every = setInterval(() => document.hidden || this.#refreshSoon(), REFRESH_MS);
  }

  close() {
    clearInterval(this.#every);
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.outgoing.close();
    this.store.close();
    this.link.close();
  }

  /** Tries to connect now. */
  reconnect() {
    this.#setConnection("connecting");
    this.link.reconnect();
  }

  /** Puts a conversation on the screen; null puts none there. */
  async open(id) {
    const { store } = this;
    this.outgoing.stopTyping();
    const left = store.conversation(store.current);
    if (left && !left.isListed && !left.loaded) store.forget(left.id);
    store.current = id;
    if (id === null) return;
    const conversation = store.ensure(id);
    conversation.refusal = null;
    if (conversation.loaded) conversation.markUnread(store.me.id);
    store.changed("log", "list", "typing");
    if (store.connection !== "connected" && !this.link.isConnected) return;
    try {
      await this.rooms.open(conversation);
      if (conversation.isListed && !conversation.members) await this.readMembers(conversation);
      this.outgoing.flush(conversation);
    } catch (refusal) {
      conversation.refusal = refusal;
      if (!conversation.loaded) store.changed("log");
      this.#callbacks.failed(refusal, "open");
    }
  }

  /** The direct conversation with somebody, made when there is none. Answers its id. */
  async direct(user) {
    const known = this.store.directWith(user);
    if (known) return known.id;
    const made = await this.api.create({ kind: "direct", members: [user] });
    this.#made(made, { kind: "direct", other: user });
    return made.id;
  }

  /** Makes a group. Answers its id. `key` stays the same when it is tried again. */
  async group(title, members, key) {
    const made = await this.api.create({ kind: "group", title, members }, key);
    this.#made(made, { kind: "group", title, role: "owner", members: members.length + 1 });
    return made.id;
  }

  /** Reads who is in a conversation. */
  async readMembers(conversation) {
    const { id } = conversation;
    const [{ members }, whole] = await Promise.all([this.api.members(id), this.api.conversation(id)]);
    conversation.members = members;
    conversation.describe(whole, this.store.me.id);
    for (const { userId, seq } of whole.reads ?? []) {
      conversation.readUpTo(userId, seq, this.store.me.id);
    }
    this.store.changed("log", "list", "people");
  }

  /** Reads the newest notifications, or those before the oldest that is known. */
  async readNotices(isMore = false) {
    const { notices } = this.store;
    const answer = await this.api.notifications(isMore ? notices.next : undefined);
    if (isMore) for (const item of answer.notifications) this.store.notice(item);
    else this.store.noticesListed(answer);
    if (isMore || !notices.loaded) notices.next = answer.next ?? null;
    notices.loaded = true;
    this.store.changed("notices");
  }

  /** Marks notifications as read: these, or all. */
  async markNotices(items) {
    const { notices } = this.store;
    const fresh = (items ?? notices.items).filter((one) => !one.readAt);
    if (fresh.length === 0 && (items || notices.unread === 0)) return;
    const at = new Date().toISOString();
    for (const one of fresh) one.readAt = at;
    notices.unread = items ? Math.max(0, notices.unread - fresh.length) : 0;
    this.store.changed("notices");
    const what = items ? { ids: fresh.map((one) => one.id) } : { all: true };
    // One of this moment may still be on its way into the list.
    const isNew = fresh.some((one) => Date.now() - new Date(one.timestamp) < NOTICE_KEPT_MS);
    if (isNew) await pause(NOTICE_KEPT_MS);
    await this.api.readNotifications(what).catch((refusal) => this.#callbacks.failed(refusal, "notices"));
  }

  #made(made, fallback) {
    const item = { activeAt: new Date().toISOString(), ...fallback, ...made };
    this.store.ensure(made.id).describe(item, this.store.me.id);
    this.#watched.clear();
    this.store.changed("list");
  }

  async #connected(isResumed) {
    this.#watched.clear();
    // What does not work now is told right after this; an end may have been missed.
    this.store.degraded.clear();
    this.#refreshNotices();
    const told = await this.rooms.enterAll();
    if (!told) return;
    this.#setConnection("connected");
    this.outgoing.flushAll();
    const current = this.store.conversation(this.store.current);
    if (current?.isListed && !current.members) this.readMembers(current).catch(() => {});
    if (this.#wasIn) this.#tellResumed(told, isResumed);
    this.#wasIn = true;
    this.#meet();
  }

  #tellResumed({ missed, reloaded }, isResumed) {
    if (reloaded) this.#callbacks.notice(`Reloaded: ${reloaded}.`);
    else if (missed === 0) this.#callbacks.notice(isResumed ? "Resumed." : "Resumed. Nothing was missed.");
    else this.#callbacks.notice(`Resumed. Caught up ${missed} ${missed === 1 ? "message" : "messages"}.`);
  }

  #lost() {
    this.rooms.lost();
    for (const one of this.store.conversations.values()) one.typing.clear();
    this.#setConnection(this.#wasIn ? "reconnecting" : "connecting");
    this.store.changed("typing");
  }

  #setConnection(state) {
    this.store.connection = state;
    this.store.changed("state");
  }

  #heard(event, data) {
    if (!data || typeof data !== "object") return;
    if (event.startsWith("message:") || event.startsWith("reaction:")) this.#happened(event, data);
    else if (event.startsWith("typing:")) this.#typing(data, event === "typing:start");
    else if (event.startsWith("user:") || event.startsWith("presence")) this.#present(event, data);
    else if (event === "notification:new") this.#noticed(data);
    else if (event === "degraded") this.#degraded(data);
    else if (event === "private-message") this.#known(data.conversationId) || this.#refreshSoon();
    else if (event === "conversation:changed") this.#changed(data);
    else if (event === "connection:accepted" && data.fromUserId === this.store.me.id) {
      this.#callbacks.notice(`${this.store.nameOf(data.toUserId)} is connected with you now.`);
    }
  }

  // This user was taken into a conversation, or out of it, or has another role there.
  #changed({ conversationId, change }) {
    const conversation = this.store.conversation(conversationId);
    if (conversation) conversation.members = null;
    this.#watched.clear();
    if (change === "removed" && conversation?.isListed) {
      this.rooms.leave(conversationId);
      this.#callbacks.gone(conversation);
    }
    this.#refreshSoon();
  }

  #known(id) {
    return this.store.conversation(id)?.isListed && this.rooms.isIn(id);
  }

  #happened(event, data) {
    const conversation = this.store.conversation(data.conversationId);
    if (!conversation) {
      this.#refreshSoon();
      return;
    }
    const isNew = conversation.apply(event, data, this.store.me.id);
    if (isNew) this.#callbacks.message(conversation, data);
    this.store.changed("log", "list", "typing");
  }

  #typing({ conversationId, userId }, isTyping) {
    const conversation = this.store.conversation(conversationId);
    if (!conversation || userId === this.store.me.id) return;
    const key = `typing ${conversationId} ${userId}`;
    this.#cancel(key);
    if (isTyping) {
      conversation.typing.add(userId);
      this.#later(key, TYPING_SHOWN_MS, () => this.#typing({ conversationId, userId }, false));
    } else {
      conversation.typing.delete(userId);
    }
    this.store.changed("typing", "list");
  }

  #present(event, data) {
    const online = { "user:online": true, "user:offline": false }[event] ?? data.online;
    if (typeof online !== "boolean" || !data.userId) return;
    const { lastSeen } = data;
    this.store.learn({ id: data.userId, online, ...(lastSeen && { lastSeen }) });
  }

  #noticed(item) {
    const current = this.store.conversation(this.store.current);
    const conversationId = item.data?.conversationId;
    if (conversationId && !this.#known(conversationId)) this.#refreshSoon();
    if (!this.store.notice(item)) return;
    this.store.notices.unread += 1;
    // Who looks at the conversation does not need to be told of it.
    if (conversationId && conversationId === current?.id && !document.hidden) this.markNotices([item]);
  }

  #degraded({ what, since, until }) {
    if (until) this.store.degraded.delete(what);
    else this.store.degraded.set(what, since);
    this.store.changed("state");
  }

  #refreshNotices() {
    this.readNotices().catch(() => {});
  }

  #refreshSoon() {
    this.#later("list", REFRESH_SOON_MS, () => this.rooms.refresh().catch(() => {}));
  }

  // Asks for the names of people who came into view, and to be told whether they are here.
  #meet() {
    const ids = new Set();
    for (const one of this.store.conversations.values()) {
      if (one.other) ids.add(one.other);
      if (one.last?.userId) ids.add(one.last.userId);
    }
    const current = this.store.conversation(this.store.current);
    for (const one of current?.settled ?? []) ids.add(one.userId);
    for (const one of current?.members ?? []) ids.add(one.userId);
    ids.delete(this.store.me.id);
    this.#watch([...ids]);
    for (const id of ids) this.#askName(id);
  }

  async #watch(ids) {
    const userIds = ids.filter((id) => !this.#watched.has(id)).slice(0, PRESENCE_AT_A_TIME);
    if (userIds.length === 0 || !this.link.isConnected) return;
    for (const id of userIds) this.#watched.add(id);
    // Without presence there are no dots; asked again after the next connect, and when
    // conversations change: who is in one with this user may be watched.
    const answer = await this.link.ask("presence:subscribe", { userIds }).catch(() => ({}));
    for (const state of answer.presence ?? []) this.#present("presence:state", state);
  }

  async #askName(id) {
    if (this.#asked.has(id) || isGuest(id) || this.store.person(id).name) return;
    this.#asked.add(id);
    const user = await this.api.user(id).catch(() => null);
    if (user?.name ?? user?.user?.name) this.store.learn({ id, name: user.name ?? user.user.name });
  }

  #later(key, ms, run) {
    this.#cancel(key);
    const timer = setTimeout(() => {
      this.#timers.delete(key);
      run();
    }, ms);
    this.#timers.set(key, timer);
  }

  #cancel(key) {
    clearTimeout(this.#timers.get(key));
    this.#timers.delete(key);
  }
}
