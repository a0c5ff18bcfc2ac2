// One message as an element: face, text, reactions, who has read it, and what can be done with it.

import { button, face, icon, make, time, unseen } from "../dom.js";
import { clockTime, exactTime, listing, wait } from "../format.js";

const READERS_MAX = 5;
// A link, or a mention of somebody.
const SPECIAL = /(https?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]'])|((?<![\p{L}\p{N}])@[\p{L}\p{N}](?:[\p{L}\p{N}._-]*[\p{L}\p{N}])?)/gu;
const ONLY_EMOJI = /^(?:\p{Extended_Pictographic}[\p{Emoji_Modifier}\u{FE0F}\u{200D}\p{Extended_Pictographic}]*\s*){1,3}$/u;

function rich(text, store) {
  const line = make("p", "content");
  let from = 0;
  for (const { 0: found, 1: address, index } of text.matchAll(SPECIAL)) {
    line.append(text.slice(from, index));
    if (address) {
      const link = make("a", "", address);
      link.href = address;
      link.target = "_blank";
      link.rel = "noopener noreferrer";
      line.append(link);
    } else {
      const id = found.slice(1);
      const mention = make("span", "mention", `@${store.nameOf(id)}`);
      mention.classList.toggle("me-mention", id === store.me.id);
      mention.title = found;
      line.append(mention);
    }
    from = index + found.length;
  }
  line.append(text.slice(from));
  line.classList.toggle("jumbo", ONLY_EMOJI.test(text));
  return line;
}

/** All that changes how a message looks; two of the same look are drawn alike. */
export function lookOf(shown, store) {
  const { message, entry, continues, readers } = shown;
  const { content, editedAt, deletedAt, reactions } = message;
  const people = [message.userId, ...readers].map((id) => store.nameOf(id));
  const waits = entry && entry.waitUntil > Date.now() ? Math.ceil((entry.waitUntil - Date.now()) / 1000) : 0;
  return JSON.stringify([
    continues, content, editedAt, deletedAt, reactions, readers, people,
    entry?.state, entry?.error, waits,
  ]);
}

/**
 * `shown`: `{message, entry?, continues, readers}`, where `entry` is what is still being sent.
 * `actions`: react, pick, edit, remove, copy, resend, discard; each is given `shown`.
 */
export function messageRow(shown, store, actions) {
  const { message, entry, continues } = shown;
  const isOwn = message.userId === store.me.id;
  const name = isOwn ? "You" : store.nameOf(message.userId);
  const row = make("li", `message ${isOwn ? "own" : "other"}`);
  row.classList.toggle("continues", continues);
  if (entry) row.classList.add("pending", entry.state);
  else row.dataset.place = `${message.epoch}-${message.seq}`;

  const byline = make("p", continues ? "byline unseen" : "byline", make("b", "", name), " ");
  byline.append(time(message.timestamp, clockTime(message.timestamp)));
  const body = make("div", "body", byline, bubbleOf(message, store));
  if (message.reactions?.length > 0 && !message.deletedAt) body.append(chips(shown, store, actions));
  if (entry) body.append(progress(shown, actions));
  if (shown.readers.length > 0) body.append(seenBy(shown.readers, store, shown.isDirect));
  row.append(face(message.userId, store.nameOf(message.userId), { size: "middle" }), body);
  if (!entry && !message.deletedAt) row.append(tools(shown, isOwn, actions));
  return row;
}

function bubbleOf(message, store) {
  if (message.deletedAt) return make("div", "bubble gone", make("p", "content", "Message deleted"));
  const bubble = make("div", "bubble", rich(String(message.content ?? ""), store));
  if (message.editedAt) {
    const mark = make("span", "edited", "edited");
    mark.title = `Edited ${exactTime(message.editedAt)}`;
    bubble.append(mark);
  }
  bubble.title = exactTime(message.timestamp);
  return bubble;
}

function chips(shown, store, actions) {
  const list = make("ul", "chips");
  list.setAttribute("aria-label", "Reactions");
  for (const { emoji, count, users = [] } of shown.message.reactions) {
    const isMine = users.includes(store.me.id);
    const names = users.map((id) => (id === store.me.id ? "you" : store.nameOf(id)));
    const who = names.length > 0 ? ` by ${listing(names, 4)}` : "";
    const label = `${emoji} ${count}${who}`;
    const content = make("span", "", emoji, make("span", "count", String(count)));
    const chip = button("chip-button", label, () => actions.react(shown, emoji), content);
    chip.setAttribute("aria-pressed", isMine);
    chip.dataset.act = `react ${emoji}`;
    list.append(make("li", "", chip));
  }
  return list;
}

function seenBy(readers, store, isDirect) {
  const names = readers.map((id) => store.nameOf(id));
  const line = make("p", "seen");
  line.title = `Seen by ${names.join(", ")}`;
  if (isDirect) {
    line.append("Seen");
    return line;
  }
  line.append(unseen(line.title));
  for (const id of readers.slice(0, READERS_MAX)) line.append(face(id, store.nameOf(id), { size: "tiny" }));
  if (readers.length > READERS_MAX) line.append(` +${readers.length - READERS_MAX}`);
  return line;
}

function tools(shown, isOwn, actions) {
  const group = make("div", "tools");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Actions");
  const add = (name, label, run) => {
    const tool = button("tool", label, (event) => run(shown, event.currentTarget), icon(name));
    tool.dataset.act = name;
    group.append(tool);
  };
  add("smile", "React", actions.pick);
  add("copy", "Copy text", actions.copy);
  if (isOwn) add("edit", "Edit", actions.edit);
  if (isOwn || shown.mayModerate) add("bin", "Delete", actions.remove);
  return group;
}

function progress(shown, actions) {
  const { entry } = shown;
  const line = make("p", "progress");
  const left = entry.waitUntil - Date.now();
  if (entry.state === "sending" && left > 0 && entry.waitsFor === "rate_limited") {
    line.textContent = `Too many at once; goes out in ${wait(left)}`;
  } else if (entry.state === "sending") line.textContent = "Sending…";
  else if (entry.state === "logged") line.textContent = "Kept, taking its place…";
  else {
    const again = button("link", "Send again", () => actions.resend(shown));
    const discard = button("link", "Discard", () => actions.discard(shown));
    line.append(`Not sent: ${entry.error}. `, again, " ", discard);
  }
  return line;
}
