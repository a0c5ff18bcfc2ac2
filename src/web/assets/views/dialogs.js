// Dialogs: opening, closing by button or beside them, and one question with two answers.
//
// The browser keeps the focus inside, closes on Escape, and gives the focus back.

import { by, say, show } from "../dom.js";

/** Prepares all dialogs, once. */
export function prepareDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      // Only the backdrop: what is inside covers the dialog itself.
      const isBeside = event.target === dialog && !inside(dialog, event);
      if (isBeside || event.target.closest("[data-close]")) dialog.close();
    });
  }
}

function inside(dialog, { clientX: x, clientY: y }) {
  const box = dialog.getBoundingClientRect();
  // The keyboard clicks at (0, 0).
  return (x === 0 && y === 0) || (x >= box.left && x <= box.right && y >= box.top && y <= box.bottom);
}

export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

/** Shows what went wrong inside a form or dialog; an empty text shows nothing. */
export function showError(root, text = "") {
  const line = root.querySelector(".error");
  say(line, text);
  show(line, text !== "");
}

/** Asks; resolves with true for yes. `{title, text, yes}` are shown. */
export function confirm({ title, text, yes }) {
  const dialog = by("confirm");
  by("confirm-title").textContent = title;
  by("confirm-text").textContent = text;
  by("confirm-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
