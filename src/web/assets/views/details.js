// Who is in a conversation, and what can be done about it.

import { button, by, face, icon, make } from "../dom.js";
import { ago, isGuest } from "../format.js";
import { closeDialogs, confirm, showError } from "./dialogs.js";
import { explain, toast } from "./toasts.js";

const ROLES = { owner: "Owner", moderator: "Moderator", member: "Member" };

export class DetailsView {
  #page;

  constructor(page) {
    this.#page = page;
    page.on(by("open-details"), "click", () => this.open());
  }

  get #conversation() {
    return this.#page.store.conversation(this.#page.store.current);
  }

  open() {
    const conversation = this.#conversation;
    if (!conversation) return;
    this.#page.fillPeople();
    this.#draw();
    by("details").showModal();
    if (conversation.isListed) {
      this.#page.visit.readMembers(conversation).catch((refusal) => this.#page.complain(refusal));
    }
  }

  draw(parts) {
    if (by("details").open && (parts.has("people") || parts.has("list"))) this.#drawMembers();
  }

  #draw() {
    const conversation = this.#conversation;
    const { store } = this.#page;
    const isDirect = conversation.kind === "direct" && conversation.other;
    by("details-title").textContent = isDirect ? "About" : store.titleOf(conversation);
    const body = by("details-body");
    body.replaceChildren();
    if (isDirect) {
      body.append(this.#person(conversation.other));
      return;
    }
    const copy = button("quiet", "Copy link", () => {
      this.#page.copy(this.#page.linkTo(conversation.id), "Link copied.");
    }, make("span", "", icon("copy"), " Copy link"));
    body.append(make("p", "row-actions", copy));
    if (!conversation.isListed) {
      body.append(make("p", "hint", "An open room: whoever has its name, and a token that allows it, may read and write."));
      return;
    }
    if (["owner", "moderator"].includes(conversation.role)) body.append(this.#adding());
    body.append(make("h3", "", "Members"), make("ul", "members"));
    const leave = button("quiet danger", "Leave this conversation", () => this.#leave());
    body.append(make("p", "row-actions", leave));
    this.#drawMembers();
  }

  #drawMembers() {
    const list = by("details-body").querySelector(".members");
    const conversation = this.#conversation;
    if (!list || !conversation) return;
    const { store } = this.#page;
    const members = conversation.members ?? [];
    const mayRemove = ["owner", "moderator"].includes(conversation.role);
    const held = document.activeElement?.closest(".members li")?.dataset.id;
    list.replaceChildren(...members.map(({ userId, role }) => {
      const name = store.nameOf(userId);
      const person = store.person(userId);
      const isMe = userId === store.me.id;
      const lines = make("span", "member-text", make("b", "", isMe ? `${name} (you)` : name));
      lines.append(make("span", "soft", [role !== "member" && ROLES[role], presence(person, isMe)].filter(Boolean).join(" · ")));
      const row = make("li", "member", face(userId, name, { isOnline: isMe || person.online }), lines);
      row.dataset.id = userId;
      if (isMe) return row;
      row.append(make(
        "span", "member-tools",
        conversation.role === "owner" && this.#roles(userId, role, name),
        button("quiet", `Write to ${name}`, () => this.#write(userId), make("span", "", "Write")),
        mayRemove && role !== "owner" && button("icon small", `Remove ${name}`, () => this.#remove(userId), icon("close")),
      ));
      return row;
    }));
    if (held) list.querySelector(`[data-id="${CSS.escape(held)}"] button`)?.focus();
  }

  #roles(userId, role, name) {
    const choice = make("select", "", ...Object.entries(ROLES).map(([value, text]) => new Option(text, value, false, value === role)));
    choice.setAttribute("aria-label", `Role of ${name}`);
    choice.addEventListener("change", async () => {
      const conversation = this.#conversation;
      try {
        await this.#page.visit.api.setRole(conversation.id, userId, choice.value);
      } catch (refusal) {
        this.#page.complain(refusal);
      }
      await this.#page.visit.readMembers(conversation).catch(() => {});
    });
    return choice;
  }

  #person(id) {
    const { store } = this.#page;
    const person = store.person(id);
    const name = store.nameOf(id);
    const card = make("div", "person", face(id, name, { size: "large", isOnline: person.online }));
    card.append(make("p", "person-name", name));
    card.append(make("p", "soft", [isGuest(id) ? "Guest" : id, presence(person)].filter(Boolean).join(" · ")));
    const connect = button("quiet", "Ask to connect", async () => {
      connect.disabled = true;
      try {
        await this.#page.visit.link.ask("connection:request", { toUserId: id });
        toast(`${name} has been asked.`);
      } catch (refusal) {
        connect.disabled = false;
        this.#page.complain(refusal);
      }
    });
    card.append(connect);
    return card;
  }

  #adding() {
    const form = make("form", "form adding");
    form.autocomplete = "off";
    const label = make("label", "", "Add somebody");
    label.htmlFor = "add-person";
    const input = make("input", "");
    Object.assign(input, { id: "add-person", placeholder: "User name", autocapitalize: "off", spellcheck: false });
    input.setAttribute("list", "known-people");
    const submit = make("button", "primary", "Add");
    const error = make("p", "error");
    error.setAttribute("role", "alert");
    error.hidden = true;
    form.append(label, make("div", "beside", input, submit), error);
    form.addEventListener("submit", (event) => this.#addMember(event, input, submit));
    return form;
  }

  async #addMember(event, input, submit) {
    event.preventDefault();
    const text = input.value.trim();
    if (text === "") return;
    submit.disabled = true;
    const conversation = this.#conversation;
    showError(by("details-body"));
    try {
      await this.#page.visit.api.addMembers(conversation.id, [this.#page.personCalled(text)]);
      input.value = "";
      await this.#page.visit.readMembers(conversation);
    } catch (refusal) {
      showError(by("details-body"), explain(refusal));
    }
    submit.disabled = false;
    input.focus();
  }

  async #remove(userId) {
    const conversation = this.#conversation;
    const name = this.#page.store.nameOf(userId);
    const text = `${name} no longer reads what is said here.`;
    if (!(await confirm({ title: `Remove ${name}?`, text, yes: "Remove" }))) return;
    try {
      await this.#page.visit.api.removeMember(conversation.id, userId);
      await this.#page.visit.readMembers(conversation);
    } catch (refusal) {
      this.#page.complain(refusal);
    }
  }

  async #leave() {
    const conversation = this.#conversation;
    const title = this.#page.store.titleOf(conversation);
    const text = "You no longer get its messages. Somebody who is in it can add you again.";
    if (!(await confirm({ title: `Leave ${title}?`, text, yes: "Leave" }))) return;
    try {
      await this.#page.visit.api.removeMember(conversation.id, "me");
      closeDialogs();
      this.#page.visit.rooms.leave(conversation.id);
      this.#page.go("");
    } catch (refusal) {
      this.#page.complain(refusal);
    }
  }

  async #write(userId) {
    try {
      const id = await this.#page.visit.direct(userId);
      closeDialogs();
      this.#page.go(id);
    } catch (refusal) {
      this.#page.complain(refusal);
    }
  }
}

function presence(person, isMe = false) {
  if (isMe || person.online) return "online";
  return person.lastSeen ? `last seen ${ago(person.lastSeen, new Date())}` : "";
}
