// What every view is given: the visit, the way to other places, and small services of the page.

import { by, make } from "./dom.js";
import { guestId, isGuest, nameInId } from "./format.js";
import { complain, toast } from "./views/toasts.js";

const PERSON = "@";

/** Where the address says to go: `{conversation}`, `{person}`, or neither. */
export function placeInAddress() {
  let text;
  try {
    text = decodeURIComponent(location.hash.slice(1)).trim();
  } catch {
    text = "";
  }
  if (text.startsWith(PERSON)) return { person: text.slice(PERSON.length) };
  return text === "" ? {} : { conversation: text };
}

export class Page {
  #ended = new AbortController();

  constructor({ visit, isDevelopment, leave }) {
    this.visit = visit;
    this.store = visit.store;
    this.isDevelopment = isDevelopment;
    this.leave = leave;
  }

  get signal() {
    return this.#ended.signal;
  }

  /** Ends everything that was listened to with `on`. */
  end() {
    this.#ended.abort();
  }

  on = (target, event, handler) => target.addEventListener(event, handler, { signal: this.signal });

  /** Shows another conversation; "" shows the list. */
  go = (id) => {
    location.hash = id === "" ? "" : `#${encodeURIComponent(id)}`;
  };

  complain = complain;

  linkTo = (id) => `${location.origin}/#${encodeURIComponent(id)}`;

  /** Whoever opens this writes to this user. */
  inviteLink = () => this.linkTo(PERSON + this.store.me.id);

  async copy(text, done) {
    try {
      await navigator.clipboard.writeText(text);
      toast(done);
    } catch {
      toast(`Copying is not allowed here: ${text}`);
    }
  }

  /** Mentions and messages of a conversation that is being read need no notification any more. */
  noticesRead(conversationId) {
    const items = this.store.notices.items;
    const read = items.filter((one) => !one.readAt && one.data?.conversationId === conversationId);
    if (read.length > 0) this.visit.markNotices(read);
  }

  /** Who is meant: somebody known by this name, else the user of this id. */
  personCalled(text) {
    const wanted = text.replace(/^@/, "");
    if (this.store.people.has(wanted)) return wanted;
    const named = [...this.store.people.values()].find((one) => this.store.nameOf(one.id) === wanted);
    if (named) return named.id;
    return wanted.includes(" ") && this.isDevelopment ? guestId(wanted) : wanted;
  }

  /** The people whom fields suggest. */
  fillPeople() {
    const others = [...this.store.people.keys()].filter((id) => id !== this.store.me.id);
    by("known-people").replaceChildren(...others.map((id) => {
      const option = make("option");
      option.value = isGuest(id) ? nameInId(id) : id;
      option.label = this.store.nameOf(id);
      return option;
    }));
  }
}
