// A new conversation: with one person, or a group.

import { newId } from "../api.js";
import { button, by, icon, make } from "../dom.js";
import { closeDialogs, showError } from "./dialogs.js";
import { explain } from "./toasts.js";

export class CreateView {
  #page;
  #people = [];
  #key;

  constructor(page) {
    this.#page = page;
    const { on } = page;
    on(by("open-create"), "click", () => this.open());
    on(by("create-form"), "submit", (event) => this.#start(event));
    on(by("create-person"), "keydown", (event) => {
      const text = by("create-person").value.trim();
      if ((event.key === "Enter" || event.key === ",") && text !== "") {
        event.preventDefault();
        this.#add(text);
      } else if (event.key === "Backspace" && by("create-person").value === "") {
        this.#take(this.#people.at(-1));
      }
    });
    on(by("copy-invite"), "click", () => {
      page.copy(page.inviteLink(), "Link copied. Whoever opens it can write to you.");
    });
  }

  open = () => {
    this.#people = [];
    this.#key = newId();
    by("create-form").reset();
    showError(by("create-form"));
    this.#draw();
    this.#page.fillPeople();
    by("create").showModal();
    by("create-person").focus();
  };

  #add(text) {
    const id = this.#page.personCalled(text);
    const isSelf = id === this.#page.store.me.id;
    showError(by("create-form"), isSelf ? "You are in it anyway." : "");
    if (!isSelf && !this.#people.includes(id)) this.#people.push(id);
    by("create-person").value = "";
    this.#draw();
  }

  #take(id) {
    this.#people = this.#people.filter((other) => other !== id);
    this.#draw();
    by("create-person").focus();
  }

  #draw() {
    const { store } = this.#page;
    by("create-people").replaceChildren(...this.#people.map((id) => {
      const name = store.nameOf(id);
      return make("li", "token", name, button("icon small", `Remove ${name}`, () => this.#take(id), icon("close")));
    }));
    by("create-people").hidden = this.#people.length === 0;
  }

  async #start(event) {
    event.preventDefault();
    const form = by("create-form");
    const left = by("create-person").value.trim();
    if (left !== "") this.#add(left);
    const title = by("create-name").value.trim();
    if (this.#people.length === 0 && title === "") {
      showError(form, "Name somebody, or give it a title.");
      by("create-person").focus();
      return;
    }
    const submit = form.querySelector("[type=submit]");
    submit.disabled = true;
    try {
      const { visit } = this.#page;
      const isDirect = this.#people.length === 1 && title === "";
      const id = isDirect
        ? await visit.direct(this.#people[0])
        : await visit.group(title || this.#groupTitle(), this.#people, this.#key);
      closeDialogs();
      this.#page.go(id);
    } catch (refusal) {
      // Something else will be asked next: it is another request then.
      if (!refusal.isRetryable) this.#key = newId();
      showError(form, explain(refusal));
    } finally {
      submit.disabled = false;
    }
  }

  #groupTitle() {
    const { store } = this.#page;
    return [store.me.id, ...this.#people].map((id) => store.nameOf(id)).join(", ").slice(0, 100);
  }
}
