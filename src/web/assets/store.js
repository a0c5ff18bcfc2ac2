// All that this tab knows: who it is, people, conversations, notifications, the connection.
//
// Views read it and are told, a moment later and once for many changes, which parts changed.
// Nothing here talks to the gateway or to the page.

import { compare, Conversation } from "./conversation.js";
import { nameInId } from "./format.js";

const TELL_AFTER_MS = 16;
// Names that were asked for are not asked for again at each reload of the tab.
const NAMES_KEY = "vestibule.names";
const NAMES_MAX = 500;

function keptNames() {
  try {
    return JSON.parse(sessionStorage.getItem(NAMES_KEY)) ?? {};
  } catch {
    return {};
  }
}

export class Store {
  #listeners = new Set();
  #changed = new Set();
  #timer;

  /** `me`: `{id, name, kind, email?}` where kind is "account", "guest" or "token". */
  constructor(me) {
    this.me = me;
    this.people = new Map(Object.entries(keptNames()).map(([id, name]) => [id, { id, name }]));
    this.people.set(me.id, { id: me.id, name: me.name });
    this.conversations = new Map();
    this.current = null;
    this.connection = "connecting";
    this.degraded = new Map();
    this.notices = { items: [], unread: 0, next: null, loaded: false };
    this.listLoaded = false;
  }

  /** Calls `listener(parts)` after changes; parts: list, log, people, notices, state, typing. */
  listen(listener) {
    this.#listeners.add(listener);
  }

  changed(...parts) {
    for (const part of parts) this.#changed.add(part);
    this.#timer ??= setTimeout(() => {
      const told = this.#changed;
      this.#timer = undefined;
      this.#changed = new Set();
      for (const listener of this.#listeners) listener(told);
    }, TELL_AFTER_MS);
  }

  /** Lets go: nobody is told anything any more. */
  close() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#listeners.clear();
  }

  conversation(id) {
    return this.conversations.get(id);
  }

  /** The conversation with this id, made when it was not known. */
  ensure(id) {
    let conversation = this.conversations.get(id);
    if (!conversation) {
      conversation = new Conversation(id);
      this.conversations.set(id, conversation);
      this.changed("list");
    }
    return conversation;
  }

  forget(id) {
    this.conversations.delete(id);
    this.changed("list");
  }

  /** The direct conversation with a user, if it is known. */
  directWith(user) {
    for (const one of this.conversations.values()) {
      if (one.kind === "direct" && one.other === user) return one;
    }
    return undefined;
  }

  /** All, the most recently active first. */
  sorted() {
    const key = (one) => one.pending.at(-1)?.at ?? one.activeAt ?? "";
    return [...this.conversations.values()].sort((a, b) => (key(a) < key(b) ? 1 : -1));
  }

  get unread() {
    let sum = 0;
    for (const one of this.conversations.values()) sum += one.unread;
    return sum;
  }

  /** Takes over what is known of a person. */
  learn(person) {
    const known = this.people.get(person.id) ?? { id: person.id };
    const fresh = { ...known, ...person };
    const isNews = Object.keys(fresh).some((key) => fresh[key] !== known[key]);
    if (!isNews) return;
    this.people.set(person.id, fresh);
    if (person.name) this.#keepNames();
    this.changed("people");
  }

  #keepNames() {
    const named = [...this.people.values()].filter((one) => one.name).slice(-NAMES_MAX);
    try {
      sessionStorage.setItem(NAMES_KEY, JSON.stringify(Object.fromEntries(named.map(({ id, name }) => [id, name]))));
    } catch {
      // Then they are asked for again.
    }
  }

  nameOf(id) {
    return this.people.get(id)?.name || nameInId(id);
  }

  person(id) {
    return this.people.get(id) ?? { id };
  }

  titleOf(conversation) {
    if (conversation.kind === "direct" && conversation.other) return this.nameOf(conversation.other);
    if (conversation.title) return conversation.title;
    const others = (conversation.members ?? []).map((one) => one.userId).filter((id) => id !== this.me.id);
    if (others.length > 0 && conversation.isListed) return others.map((id) => this.nameOf(id)).join(", ");
    return conversation.id;
  }

  /** The newest ones as listed. What arrived or was read meanwhile may not be in the list yet. */
  noticesListed({ notifications, unread }) {
    const { notices } = this;
    const listed = new Map(notifications.map((one) => [one.id, one]));
    const [newest] = notifications;
    let count = unread;
    for (const one of notices.items) {
      const said = listed.get(one.id);
      if (said?.readAt) one.readAt = said.readAt;
      else if (said && one.readAt) count -= 1;
      else if (!said && !one.readAt && (!newest || compare(one, newest) > 0)) count += 1;
    }
    for (const item of notifications) this.notice(item);
    notices.unread = Math.max(0, count);
  }

  /** A notification that arrived, or one of a list. */
  notice(item) {
    const { notices } = this;
    const at = notices.items.findIndex((one) => one.id === item.id);
    if (at >= 0) return false;
    notices.items.push(item);
    notices.items.sort((a, b) => compare(b, a));
    this.changed("notices");
    return true;
  }
}
