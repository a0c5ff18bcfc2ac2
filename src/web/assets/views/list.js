// The list of conversations: who, what was said last, what is unread. Also who one is oneself.

import { arrows, button, by, face, make, show, time, unseen } from "../dom.js";
import { count, shortTime, typingText, withNames } from "../format.js";

const STATES = {
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "Reconnecting…",
  offline: "Offline",
};

export class ListView {
  #page;
  #rows = new Map();

  constructor(page) {
    this.#page = page;
    by("list").replaceChildren();
    page.on(by("filter"), "input", () => this.#drawList());
    page.on(by("filter"), "keydown", (event) => {
      if (event.key === "ArrowDown") by("list").querySelector("a")?.focus();
      if (event.key === "Enter") by("list").querySelector("a")?.click();
    });
    arrows(by("list"), "a", { signal: page.signal });
  }

  draw(parts) {
    if (parts.has("list") || parts.has("people") || parts.has("typing")) this.#drawList();
    if (parts.has("state") || parts.has("people")) this.#drawMe();
    this.#drawTitle();
  }

  #drawMe() {
    const { store } = this.#page;
    const { id, name, kind } = store.me;
    const shown = !navigator.onLine && store.connection !== "connected" ? "offline" : store.connection;
    by("me-face").replaceChildren(face(id, name));
    by("me-name").textContent = name;
    const state = by("state");
    if (state.dataset.state === shown && state.textContent) return;
    state.dataset.state = shown;
    state.textContent = STATES[shown] + (kind === "guest" && shown === "connected" ? " as a guest" : "");
  }

  #drawTitle() {
    const { store } = this.#page;
    const current = store.conversation(store.current);
    const name = current ? `${store.titleOf(current)} – Vestibule` : "Vestibule";
    const title = store.unread > 0 ? `(${store.unread}) ${name}` : name;
    if (document.title !== title) document.title = title;
  }

  #drawList() {
    const { store } = this.#page;
    const wanted = by("filter").value.trim().toLowerCase();
    const all = store.sorted();
    const shown = all.filter((one) => store.titleOf(one).toLowerCase().includes(wanted));
    const focused = document.activeElement?.closest("#list a")?.dataset.id;
    const rows = new Map();
    for (const one of shown) rows.set(one.id, this.#row(one));
    this.#rows = rows;
    const fresh = [...rows.values()].map((row) => row.element);
    const list = by("list");
    const isSame = fresh.length === list.children.length && fresh.every((row, i) => row === list.children[i]);
    if (!isSame) list.replaceChildren(...fresh);
    if (focused) rows.get(focused)?.element.querySelector("a").focus();
    show(by("filter").parentElement, all.length > 5 || wanted !== "");
    this.#drawEmpty(all.length, shown.length);
  }

  #drawEmpty(all, shown) {
    const place = by("list-empty");
    show(place, shown === 0 && (this.#page.store.listLoaded || all > 0));
    if (place.hidden) return;
    const text = all > 0 ? "Nothing is called that." : "No conversations yet.";
    if (place.firstChild?.textContent === text) return;
    place.replaceChildren(make("p", "", text));
    if (all === 0) place.append(button("quiet", "Start one", this.#page.create));
  }

  // A row is built anew only when it looks different.
  #row(conversation) {
    const { store } = this.#page;
    const now = new Date();
    const { id, unread, other, kind } = conversation;
    const title = store.titleOf(conversation);
    const isDirect = kind === "direct" && other;
    const isOnline = isDirect ? store.person(other).online : undefined;
    const isCurrent = store.current === id;
    const preview = this.#preview(conversation);
    const at = conversation.pending.at(-1)?.at ?? conversation.last?.timestamp ?? conversation.activeAt;
    const when = at ? shortTime(at, now) : "";
    const look = JSON.stringify([title, isOnline, isCurrent, preview, when, unread]);
    const known = this.#rows.get(id);
    if (known?.look === look) return known;

    const link = make("a", "row");
    link.href = `#${encodeURIComponent(id)}`;
    link.dataset.id = id;
    if (isCurrent) link.setAttribute("aria-current", "page");
    const top = make("span", "row-top", make("span", "row-title", title), at && time(at, when));
    const text = make("span", preview.isTyping ? "row-text active" : "row-text", preview.text);
    const bottom = make("span", "row-bottom", text);
    if (isOnline) bottom.append(unseen(", online"));
    if (unread > 0) {
      const badge = make("span", "badge", unread > 99 ? "99+" : String(unread));
      badge.setAttribute("aria-hidden", "true");
      bottom.append(badge, unseen(`, ${count(unread, "unread message")}`));
    }
    const avatar = face(isDirect ? other : id, title, { isOnline, isGroup: !isDirect });
    link.append(avatar, make("span", "row-body", top, bottom));
    link.classList.toggle("unread", unread > 0);
    return { look, element: make("li", "", link) };
  }

  #preview(conversation) {
    const { store } = this.#page;
    const typing = [...conversation.typing].map((id) => store.nameOf(id));
    if (typing.length > 0) return { text: `${typingText(typing)}…`, isTyping: true };
    const pending = conversation.pending.at(-1);
    const last = pending ? { ...pending, userId: store.me.id } : conversation.last;
    if (!last) return { text: conversation.isListed ? "No messages yet" : "Open room" };
    const isOwn = last.userId === store.me.id;
    const who = isOwn ? "You: " : conversation.kind === "direct" ? "" : `${store.nameOf(last.userId)}: `;
    const isGone = last.deletedAt || typeof last.content !== "string";
    if (isGone) return { text: `${who}Message deleted` };
    return { text: who + withNames(last.content.slice(0, 120), (id) => store.nameOf(id)) };
  }
}
