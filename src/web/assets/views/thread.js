// The conversation on the screen: its bar, its state, its messages, and the place to write.

import { by, button, face, icon, make, say, show } from "../dom.js";
import { ago, count, isGuest, typingText } from "../format.js";
import { confirm } from "./dialogs.js";
import { drawEmpty, Log } from "./log.js";
import { Mentions } from "./mention.js";

const EMOJI = ["👍", "❤️", "😂", "🎉", "😮", "🙏", "👀", "✅"];
const COMPOSER_MAX_PX = 180;
// The client tries again at once; only what lasts is worth a word.
const STRIP_AFTER_MS = 700;

export class ThreadView {
  #page;
  #log;
  #mentions;
  #editing = null;
  #drafts = new Map();
  #shownId = null;
  #picking = null;
  #stripTimer;
  #loadingOlder = false;

  constructor(page) {
    this.#page = page;
    this.#log = new Log(page, {
      ...this.#actions(),
      older: () => this.#loadOlder(),
      end: () => this.#seen(),
    });
    this.#mentions = new Mentions(page);
    this.#listen();
    this.#fillPicker();
  }

  get #conversation() {
    return this.#page.store.conversation(this.#page.store.current);
  }

  draw(parts) {
    const conversation = this.#conversation;
    if (parts.has("state")) this.#drawState();
    if (!conversation) return;
    if (conversation.id !== this.#shownId) this.#changed(conversation);
    if (parts.has("log") || parts.has("people") || parts.has("list")) {
      this.#drawBar(conversation);
      this.#log.draw(conversation);
      this.#drawEmpty(conversation);
      this.#seen();
    }
    if (parts.has("typing") || parts.has("people")) this.#drawTyping(conversation);
  }

  /** The page came to the front, or left it. */
  visibilityChanged() {
    if (!document.hidden) this.#seen();
  }

  // Another conversation: its own draft, nothing being edited.
  #changed(conversation) {
    if (this.#shownId) this.#drafts.set(this.#shownId, this.#editing ? "" : by("text").value);
    this.#stopEditing();
    this.#shownId = conversation.id;
    by("text").value = this.#drafts.get(conversation.id) ?? "";
    this.#fit();
    this.#drawTyping(conversation);
  }

  #drawBar(conversation) {
    const { store } = this.#page;
    const title = store.titleOf(conversation);
    const { kind, other } = conversation;
    const isDirect = kind === "direct" && other;
    const person = isDirect ? store.person(other) : null;
    const look = JSON.stringify([title, person?.online, isDirect]);
    if (by("bar-face").look !== look) {
      by("bar-face").look = look;
      const options = { isOnline: person?.online, isGroup: !isDirect };
      by("bar-face").replaceChildren(face(isDirect ? other : conversation.id, title, options));
    }
    say(by("title"), title);
    say(by("subtitle"), this.#subtitle(conversation, person));
    const isClosed = conversation.refusal && !conversation.refusal.isRetryable;
    by("text").disabled = Boolean(isClosed);
    by("composer").querySelector(".send").disabled = Boolean(isClosed);
  }

  #subtitle(conversation, person) {
    const { store } = this.#page;
    if (person) {
      if (person.online) return "Online";
      if (person.lastSeen) return `Last seen ${ago(person.lastSeen, new Date())}`;
      return isGuest(person.id) ? "Guest" : person.id;
    }
    if (!conversation.isListed) return "Open room: whoever has its name may read and write";
    const members = conversation.members ?? [];
    const online = members.filter(({ userId }) => userId === store.me.id || store.person(userId).online).length;
    const size = count(conversation.memberCount || members.length, "member");
    return online > 1 ? `${size}, ${online} online` : size;
  }

  #drawState() {
    const { store } = this.#page;
    clearTimeout(this.#stripTimer);
    const isUp = store.connection === "connected";
    if (isUp) show(by("strip"), false);
    else this.#stripTimer = setTimeout(() => this.#drawStrip(), STRIP_AFTER_MS);
    const [entry] = store.degraded;
    show(by("degraded"), Boolean(entry));
    if (entry) {
      const [what, since] = entry;
      const when = since ? ` since ${ago(since, new Date())}` : "";
      say(by("degraded"), `Working with less than usual: ${what} has trouble${when}. What you send is kept all the same.`);
    }
  }

  #drawStrip() {
    const { connection } = this.#page.store;
    if (connection === "connected") return;
    const text = !navigator.onLine
      ? "You are offline. What you write is sent when the connection is back."
      : connection === "connecting"
        ? "Connecting…"
        : "Reconnecting… What you write is sent when the connection is back.";
    say(by("strip-text"), text);
    show(by("again"), connection !== "connecting");
    show(by("strip"), true);
  }

  #drawTyping(conversation) {
    const names = [...conversation.typing].map((id) => this.#page.store.nameOf(id));
    say(by("typing"), typingText(names));
  }

  #drawEmpty(conversation) {
    const { store } = this.#page;
    drawEmpty(conversation, {
      title: store.titleOf(conversation),
      refusal: conversation.loaded ? null : conversation.refusal,
      isGuest: this.#page.isDevelopment,
      onBack: () => button("quiet", "Back to the conversations", () => this.#page.go("")),
      onInvite: () => {
        if (!this.#page.isDevelopment || conversation.kind === "direct") return null;
        const link = make("a", "", "Open a second tab as somebody else");
        link.href = `/?guest#${encodeURIComponent(conversation.id)}`;
        link.target = "_blank";
        link.rel = "noopener";
        link.id = "second";
        return make("p", "", link);
      },
    });
  }

  // What is in view has been read.
  #seen() {
    const conversation = this.#conversation;
    if (!conversation?.loaded) return;
    const isSeen = !document.hidden && this.#log.isAtEnd && !by("talk").hidden;
    if (isSeen) {
      this.#page.visit.outgoing.read(conversation);
      this.#page.noticesRead(conversation.id);
    }
    const fresh = conversation.unread;
    const isShown = !this.#log.isAtEnd;
    show(by("latest"), isShown);
    if (!isShown) return;
    const text = fresh > 0 ? count(fresh, "new message") : "Newest";
    say(by("latest").querySelector("span"), text);
  }

  #listen() {
    const { on } = this.#page;
    on(by("composer"), "submit", (event) => this.#say(event));
    on(by("older"), "click", () => this.#loadOlder());
    on(by("again"), "click", () => this.#page.visit.reconnect());
    on(by("latest"), "click", () => {
      this.#log.toEnd();
      by("text").focus();
    });
    on(by("editing-cancel"), "click", () => this.#stopEditing());
    on(by("text"), "input", () => {
      this.#fit();
      const conversation = this.#conversation;
      this.#mentions.typed(conversation);
      if (!conversation || this.#editing) return;
      if (by("text").value.trim() === "") this.#page.visit.outgoing.stopTyping();
      else this.#page.visit.outgoing.isTyping(conversation);
    });
    on(by("text"), "keydown", (event) => this.#key(event));
  }

  #key(event) {
    if (event.isComposing || this.#mentions.takes(event)) return;
    if (event.key === "Enter" && !event.shiftKey) this.#say(event);
    else if (event.key === "Escape" && this.#editing) this.#stopEditing();
    else if (event.key === "ArrowUp" && by("text").value === "") {
      const { store } = this.#page;
      const own = this.#conversation?.settled.findLast((one) => one.userId === store.me.id && !one.deletedAt);
      if (!own) return;
      event.preventDefault();
      this.#edit(own);
    }
  }

  #say(event) {
    event.preventDefault();
    const conversation = this.#conversation;
    const content = by("text").value.trim();
    if (!conversation || content === "" || by("text").disabled) return;
    const edited = this.#editing;
    this.#mentions.close();
    if (edited) {
      this.#stopEditing();
      this.#page.visit.outgoing.edit(conversation, edited, content);
    } else {
      by("text").value = "";
      this.#fit();
      this.#page.visit.outgoing.send(conversation, content);
      this.#log.toEnd();
    }
    by("text").focus();
  }

  #fit() {
    const text = by("text");
    text.style.height = "auto";
    text.style.height = `${Math.min(text.scrollHeight + 2, COMPOSER_MAX_PX)}px`;
  }

  #edit(message) {
    this.#editing = message;
    show(by("editing"), true);
    say(by("editing-text"), message.content);
    by("text").value = message.content;
    this.#fit();
    by("text").focus();
  }

  #stopEditing() {
    if (!this.#editing) return;
    this.#editing = null;
    show(by("editing"), false);
    by("text").value = "";
    this.#fit();
    by("text").focus();
  }

  async #loadOlder() {
    const conversation = this.#conversation;
    if (!conversation?.older || this.#loadingOlder) return;
    this.#loadingOlder = true;
    by("older").setAttribute("aria-busy", "true");
    try {
      await this.#page.visit.rooms.loadOlder(conversation);
    } catch (refusal) {
      this.#page.complain(refusal);
    } finally {
      this.#loadingOlder = false;
      by("older").removeAttribute("aria-busy");
    }
  }

  #actions() {
    const page = this.#page;
    const outgoing = () => page.visit.outgoing;
    return {
      react: ({ message }, emoji) => outgoing().react(this.#conversation, message, emoji),
      pick: (shown, anchor) => this.#pick(shown, anchor),
      edit: ({ message }) => this.#edit(message),
      copy: ({ message }) => page.copy(message.content, "Copied."),
      resend: ({ entry }) => outgoing().resend(this.#conversation, entry),
      discard: ({ entry }) => outgoing().discard(this.#conversation, entry),
      remove: async ({ message }) => {
        const question = { title: "Delete this message?", text: "It goes for everybody, and does not come back.", yes: "Delete" };
        if (await confirm(question)) await outgoing().remove(message);
      },
    };
  }

  #fillPicker() {
    const picker = by("reactions");
    picker.replaceChildren(...EMOJI.map((emoji) => button("pick", `React with ${emoji}`, () => {
      const shown = this.#picking;
      picker.hidePopover();
      if (shown) this.#page.visit.outgoing.react(this.#conversation, shown.message, emoji);
    }, emoji)));
    this.#page.on(picker, "keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const all = [...picker.children];
      const at = all.indexOf(document.activeElement);
      event.preventDefault();
      all[(at + step + all.length) % all.length].focus();
    });
  }

  #pick(shown, anchor) {
    const picker = by("reactions");
    this.#picking = shown;
    picker.showPopover({ source: anchor });
    const at = anchor.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = picker;
    const left = Math.max(8, Math.min(innerWidth - width - 8, at.left + at.width / 2 - width / 2));
    const top = at.top - height - 8 > 8 ? at.top - height - 8 : at.bottom + 8;
    picker.style.left = `${left}px`;
    picker.style.top = `${top}px`;
    picker.firstElementChild.focus();
  }
}

/** What the middle says when no conversation is chosen. */
export function drawNothing(page) {
  const place = by("nothing");
  place.replaceChildren(
    make("p", "empty-title", "Choose a conversation"),
    make("p", "", "Or start one: with one person, or with many."),
    button("primary", "New conversation", page.create),
    make("p", "", button("quiet", "Copy a link to you", () => page.copy(page.inviteLink(), "Link copied. Whoever opens it can write to you."), make("span", "", icon("copy"), " Copy a link to you"))),
  );
}

