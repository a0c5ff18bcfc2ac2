// The messages on the screen, kept in step with a conversation.
//
// Rows are keyed: only what is new, moved or looks different is touched, so that what is being read,
// and what has the focus, stays where it is. One row at a time can be reached with Tab; the arrow
// keys go from row to row, and Tab then reaches what can be done with that message.

import { by, make, say, show } from "../dom.js";
import { dayLabel } from "../format.js";
import { lookOf, messageRow } from "./message.js";

const GROUP_MS = 5 * 60 * 1000;
const NEAR_END_PX = 80;
const NEAR_TOP_PX = 120;

export class Log {
  #page;
  #actions;
  #list = by("messages");
  #scroll = by("scroll");
  #rows = new Map();
  #shownId = null;
  #active = null;
  #isFollowing = true;
  #older;
  #watcher;

  /** `actions` for messages, and `older()`, `end()`: the reader came near the top, or to the end. */
  constructor(page, actions) {
    this.#page = page;
    this.#actions = actions;
    this.#older = actions.older;
    this.#list.replaceChildren();
    page.on(this.#scroll, "scroll", () => this.#scrolled());
    page.on(this.#list, "focusin", (event) => this.#activate(event.target.closest("li.message")));
    page.on(this.#list, "keydown", (event) => this.#move(event));
    // The window, the keyboard of a phone and a growing message all change what is in view.
    this.#watcher = new ResizeObserver(() => this.#isFollowing && this.toEnd());
    this.#watcher.observe(this.#scroll);
    page.signal.addEventListener("abort", () => this.#watcher.disconnect());
  }

  /** True if the newest message is in view, or nearly. */
  get isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }

  toEnd() {
    this.#isFollowing = true;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  /** Puts the focus on the newest message. */
  focusLast() {
    [...this.#list.querySelectorAll("li.message")].at(-1)?.focus();
  }

  /** Draws it; stays at the end if it was there, else keeps what is being read in its place. */
  draw(conversation) {
    const isOther = conversation.id !== this.#shownId;
    if (isOther) {
      this.#shownId = conversation.id;
      this.#rows.clear();
      this.#list.replaceChildren();
      this.#isFollowing = true;
      this.#active = null;
    }
    const anchor = this.#isFollowing ? null : this.#anchor();
    this.#place(this.#wanted(conversation));
    this.#makeReachable();
    show(by("older"), Boolean(conversation.older));
    show(by("beginning"), conversation.reachedBeginning);
    if (this.#isFollowing) this.toEnd();
    else if (anchor) {
      // The row itself may have been drawn anew.
      const row = this.#rows.get(anchor.key);
      if (row) this.#scroll.scrollTop += row.getBoundingClientRect().top - anchor.top;
    }
  }

  #scrolled() {
    this.#isFollowing = this.isAtEnd;
    if (this.isAtEnd) this.#actions.end();
    if (this.#scroll.scrollTop < NEAR_TOP_PX && !by("older").hidden) this.#older();
  }

  // The first message in view, and where it stands. (The line of a day moves up as it grows.)
  #anchor() {
    const top = this.#scroll.getBoundingClientRect().top;
    for (const row of this.#list.querySelectorAll("li.message")) {
      const box = row.getBoundingClientRect();
      if (box.bottom > top) return { key: row.dataset.key, top: box.top };
    }
    return null;
  }

  #wanted(conversation) {
    const { store } = this.#page;
    const wanted = [];
    const readers = conversation.readers(store.me.id);
    const isDirect = conversation.kind === "direct";
    const mayModerate = ["owner", "moderator"].includes(conversation.role);
    let before = null;
    const next = (message, key, entry) => {
      const at = new Date(message.timestamp);
      if (!before || before.at.toDateString() !== at.toDateString()) {
        const label = dayLabel(at, new Date());
        wanted.push({ key: `day ${at.toDateString()}`, look: label, draw: () => rule("day", label) });
        before = null;
      }
      if (message.id && message.id === conversation.firstUnread) {
        wanted.push({ key: "unread", look: "", draw: () => rule("fresh", "New") });
        before = null;
      }
      const continues = before?.userId === message.userId && at - before.at < GROUP_MS;
      const shown = {
        message, entry, continues, isDirect, mayModerate, readers: readers.get(message.id) ?? [],
      };
      wanted.push({
        key,
        look: lookOf(shown, store),
        draw: () => messageRow(shown, store, this.#actions),
      });
      before = { userId: message.userId, at };
    };
    for (const message of conversation.settled) next(message, `at ${message.id}`);
    for (const entry of conversation.pending) {
      const message = { userId: store.me.id, content: entry.content, timestamp: entry.at };
      next(message, `pending ${entry.clientMessageId}`, entry);
    }
    return wanted;
  }

  // Moves only what is not in its place yet: most often one row at the end.
  #place(wanted) {
    const rows = new Map();
    let here = this.#list.firstElementChild;
    for (const { key, look, draw } of wanted) {
      let row = this.#rows.get(key);
      if (!row || row.look !== look) {
        const fresh = draw();
        fresh.look = look;
        fresh.dataset.key = key;
        if (row && here === row) here = row.nextElementSibling;
        if (row) replace(row, fresh);
        row = fresh;
      }
      if (row === here) here = here.nextElementSibling;
      else if (row.nextElementSibling !== here || !row.isConnected) this.#list.insertBefore(row, here);
      rows.set(key, row);
    }
    while (here) {
      const gone = here;
      here = here.nextElementSibling;
      gone.remove();
    }
    this.#rows = rows;
  }

  #activate(row) {
    if (!row || row.dataset.key === this.#active) return;
    this.#active = row.dataset.key;
    this.#makeReachable();
  }

  #makeReachable() {
    const rows = [...this.#list.querySelectorAll("li.message")];
    const active = rows.find((row) => row.dataset.key === this.#active) ?? rows.at(-1);
    for (const row of rows) {
      const isActive = row === active;
      if (row.isReachable === isActive) continue;
      row.isReachable = isActive;
      row.tabIndex = isActive ? 0 : -1;
      for (const tool of row.querySelectorAll("button, a")) tool.tabIndex = isActive ? 0 : -1;
    }
  }

  #move(event) {
    const row = event.target.closest("li.message");
    if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Escape") {
      by("text").focus();
      return;
    }
    const rows = [...this.#list.querySelectorAll("li.message")];
    const at = rows.indexOf(row);
    const goal = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: rows.length - 1 }[event.key];
    if (goal === undefined) return;
    event.preventDefault();
    if (goal >= rows.length) by("text").focus();
    else rows[Math.max(0, goal)].focus();
  }
}

function rule(kind, text) {
  return make("li", `rule ${kind}`, make("span", "", text));
}

// The focus stays on the same button of the same message, or on the message.
function replace(row, fresh) {
  const held = row.contains(document.activeElement) ? document.activeElement : null;
  const act = held?.dataset.act;
  row.replaceWith(fresh);
  if (!held) return;
  fresh.tabIndex = 0;
  const same = act && fresh.querySelector(`[data-act="${CSS.escape(act)}"]`);
  (same ?? fresh).focus({ preventScroll: true });
}

/** What an empty conversation says. */
export function drawEmpty(conversation, { title, refusal, isGuest, onBack, onInvite }) {
  const place = by("empty");
  const isEmpty = conversation.settled.length + conversation.pending.length === 0;
  show(place, Boolean(refusal) || (isEmpty && conversation.loaded));
  if (place.hidden) return;
  const look = `${conversation.id} ${refusal?.message ?? ""} ${title} ${isGuest}`;
  if (place.look === look) return;
  place.look = look;
  place.replaceChildren();
  const head = make("p", "empty-title");
  place.append(head);
  if (refusal) {
    say(head, "This conversation cannot be shown");
    place.append(make("p", "", refusal.message), onBack());
    return;
  }
  say(head, conversation.kind === "direct" ? `Say hello to ${title}` : "Nobody has said anything here yet");
  place.append(make("p", "", "What you write is kept, and everybody reads it in the same order."), onInvite() ?? "");
}
