// Notifications: what happened for this user, and what can be answered.

import { button, by, face, make, say, show, time, unseen } from "../dom.js";
import { ago, count, withNames } from "../format.js";
import { closeDialogs } from "./dialogs.js";

/** What a notification says: whom it is about, and the text. */
function told({ type, data = {} }, store) {
  const who = data.fromUserId ?? data.authorId ?? data.senderId ?? data.actorId ?? data.userId;
  const name = who ? store.nameOf(who) : "Somebody";
  const place = store.conversation(data.conversationId);
  const where = place && place.kind !== "direct" ? ` in ${store.titleOf(place)}` : "";
  const text = data.content ?? data.preview ?? data.message ?? data.text ?? data.title ?? "";
  const quote = typeof text === "string" ? text : "";
  switch (type) {
    case "MENTION":
      return { who, name, head: ` mentioned you${where}`, quote };
    case "MESSAGE_NOTIFICATION":
      return { who, name, head: ` wrote${where || " to you"}`, quote };
    case "CONNECTION_REQUEST_NOTIFICATION":
    case "CONNECTION_REQUEST":
      return { who, name, head: " asks to connect", quote: "" };
    case "CONNECTION_ACCEPTED":
      return { who, name, head: " is connected with you now", quote: "" };
    default: {
      const subject = type.replaceAll(/[._]/g, " ").toLowerCase().replace(/^./u, (c) => c.toUpperCase());
      return { who: type, name: subject, head: "", quote };
    }
  }
}

export class NoticesView {
  #page;

  constructor(page) {
    this.#page = page;
    const { on, visit } = page;
    on(by("open-notices"), "click", () => {
      this.#draw();
      by("notices").showModal();
      visit.readNotices().catch((refusal) => page.complain(refusal));
    });
    on(by("read-all"), "click", () => visit.markNotices());
    on(by("notices-more"), "click", () => visit.readNotices(true).catch((refusal) => page.complain(refusal)));
  }

  draw(parts) {
    if (parts.has("notices")) this.#drawBadge();
    if (by("notices").open && (parts.has("notices") || parts.has("people"))) this.#draw();
  }

  #drawBadge() {
    const { unread } = this.#page.store.notices;
    show(by("notice-badge"), unread > 0);
    say(by("notice-badge"), unread > 99 ? "99+" : String(unread));
    const label = unread > 0 ? `Notifications, ${count(unread, "unread one")}` : "Notifications";
    by("open-notices").setAttribute("aria-label", label);
  }

  #draw() {
    const { notices } = this.#page.store;
    const held = document.activeElement?.closest("#notices-list li")?.dataset.id;
    by("notices-list").replaceChildren(...notices.items.map((item) => this.#row(item)));
    if (held) by("notices-list").querySelector(`[data-id="${CSS.escape(held)}"] button`)?.focus();
    show(by("notices-list"), notices.items.length > 0);
    show(by("notices-empty"), notices.items.length === 0);
    say(by("notices-empty"), notices.loaded ? "Nothing yet. When somebody mentions you or writes while you are away, it is here." : "Reading…");
    show(by("notices-more"), Boolean(notices.next));
    by("read-all").disabled = notices.unread === 0;
  }

  #row(item) {
    const { store } = this.#page;
    const { who, name, head, quote } = told(item, store);
    const line = make("span", "notice-line", make("b", "", name), head);
    const body = make("span", "notice-body", line);
    if (quote) body.append(make("span", "quote", withNames(quote.slice(0, 240), (id) => store.nameOf(id))));
    body.append(time(item.timestamp, ago(item.timestamp, new Date())));
    if (!item.readAt) body.append(unseen("Unread"));
    const open = button("notice", "", () => this.#open(item));
    open.append(face(who ?? item.type, name), body);
    const row = make("li", item.readAt ? "" : "unread", open);
    row.dataset.id = item.id;
    const requestId = item.data?.requestId;
    if (item.type.startsWith("CONNECTION_REQUEST") && requestId && !item.isAnswered) {
      row.append(this.#answers(item, requestId));
    }
    return row;
  }

  #answers(item, requestId) {
    const answer = async (event) => {
      try {
        await this.#page.visit.link.ask(event, { requestId });
        item.isAnswered = true;
        await this.#page.visit.markNotices([item]);
        this.#draw();
      } catch (refusal) {
        this.#page.complain(refusal);
      }
    };
    return make(
      "div", "row-actions",
      button("primary", "Accept", () => answer("connection:accept")),
      button("quiet", "Decline", () => answer("connection:reject")),
    );
  }

  #open(item) {
    this.#page.visit.markNotices([item]);
    const { conversationId } = item.data ?? {};
    if (!conversationId) return;
    closeDialogs();
    this.#page.go(conversationId);
  }
}
