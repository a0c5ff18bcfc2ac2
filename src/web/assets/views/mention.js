// Who is meant by "@": suggestions while one writes, chosen with the arrow keys or by pointing.

import { by, face, make, say, show } from "../dom.js";
import { count } from "../format.js";

const SHOWN_MAX = 6;
const BEGUN = /(^|\s)@([\p{L}\p{N}._-]*)$/u;

export class Mentions {
  #page;
  #found = [];
  #at = 0;

  constructor(page) {
    this.#page = page;
    page.on(by("text"), "blur", () => this.close());
    // Before the field loses the focus.
    page.on(by("mentions"), "pointerdown", (event) => {
      event.preventDefault();
      const option = event.target.closest("[role=option]");
      if (option) this.#choose([...by("mentions").children].indexOf(option));
    });
  }

  /** Call when the text changed; `conversation` is where it will be said. */
  typed(conversation) {
    const begun = BEGUN.exec(this.#before());
    this.#found = begun && conversation ? this.#people(conversation, begun[2].toLowerCase()) : [];
    this.#at = 0;
    this.#draw();
  }

  /** True if the key was for the suggestions. */
  takes(event) {
    if (this.#found.length === 0) return false;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      this.#at = (this.#at + step + this.#found.length) % this.#found.length;
      this.#draw();
    } else if (event.key === "Enter" || event.key === "Tab") this.#choose(this.#at);
    else if (event.key === "Escape") this.close();
    else return false;
    event.preventDefault();
    return true;
  }

  close() {
    this.#found = [];
    this.#draw();
  }

  #before() {
    return by("text").value.slice(0, by("text").selectionStart);
  }

  #people(conversation, begun) {
    const { store } = this.#page;
    const here = (conversation.members ?? conversation.settled).map((one) => one.userId);
    const others = [...new Set(here)].filter((id) => id !== store.me.id);
    const isMeant = (id) => id.toLowerCase().startsWith(begun)
      || store.nameOf(id).toLowerCase().split(/\s/).some((word) => word.startsWith(begun));
    return others.filter(isMeant).slice(0, SHOWN_MAX);
  }

  #choose(at) {
    const text = by("text");
    const before = this.#before().replace(BEGUN, `$1@${this.#found[at]} `);
    text.setRangeText(before, 0, text.selectionStart, "end");
    this.close();
    text.dispatchEvent(new Event("input"));
  }

  #draw() {
    const { store } = this.#page;
    const isOpen = this.#found.length > 0;
    by("mentions").replaceChildren(...this.#found.map((id, index) => {
      const name = store.nameOf(id);
      const option = make("li", "mention-option", face(id, name, { size: "middle" }), make("span", "", name));
      option.id = `mention-${index}`;
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", index === this.#at);
      return option;
    }));
    show(by("mentions"), isOpen);
    if (isOpen) by("text").setAttribute("aria-activedescendant", `mention-${this.#at}`);
    else by("text").removeAttribute("aria-activedescendant");
    if (isOpen) say(by("spoken"), count(this.#found.length, "suggestion"));
  }
}
