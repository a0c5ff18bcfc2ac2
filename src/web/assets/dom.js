// Small tools to build and find elements.
//
// All text enters by `textContent`: nothing that a user wrote is ever parsed as HTML.

import { exactTime, hueOf, initials } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id. */
export const by = (id) => document.getElementById(id);

/** Shows or hides an element. */
export function show(element, isShown) {
  if (element.hidden === isShown) element.hidden = !isShown;
}

/** Sets text only where it differs, so that live regions do not speak twice. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** An element: `make("li", "row", child, "text", …)`; falsy children are left out. */
export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.filter((child) => child || child === 0));
  return element;
}

/** One symbol of the page's sprite. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button. `label` is spoken; `content` is shown, the label itself when left out. */
export function button(className, label, onClick, content) {
  const element = make("button", className, content ?? label);
  element.type = "button";
  if (content) {
    element.setAttribute("aria-label", label);
    element.title = label;
  }
  element.addEventListener("click", onClick);
  return element;
}

/** The initials of somebody in their colour; a dot when their presence is known. */
export function face(id, name, { size = "", isOnline, isGroup = false } = {}) {
  const element = make("span", `face hue-${hueOf(id)} ${size}`, make("span", "", initials(name)));
  element.classList.toggle("group", isGroup);
  if (isOnline !== undefined) {
    element.append(make("span", isOnline ? "dot on" : "dot"));
  }
  element.setAttribute("aria-hidden", "true");
  return element;
}

/** A moment: short text, the exact time as its title. */
export function time(at, text) {
  const element = make("time", "", text);
  element.dateTime = at;
  element.title = exactTime(at);
  return element;
}

/** Text for screen readers only. */
export const unseen = (text) => make("span", "unseen", text);

/**
 * Arrow keys, Home and End move the focus along `selector` inside `root`. Others keep their meaning.
 */
export function arrows(root, selector, { signal } = {}) {
  root.addEventListener("keydown", (event) => {
    const items = [...root.querySelectorAll(selector)].filter((one) => one.offsetParent);
    const at = items.indexOf(event.target.closest(selector));
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const goal = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: items.length - 1 }[event.key];
    if (goal === undefined) return;
    event.preventDefault();
    items[Math.max(0, Math.min(items.length - 1, goal))].focus();
  }, { signal });
}
