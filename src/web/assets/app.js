// Wires the page: the door (who, where), the chat, and what moves one to the other.

import { Conversation } from "./conversation.js";
import { developmentToken, Gateway, userOf } from "./gateway.js";
import { by, Log, show, typingText } from "./view.js";

const IDENTITY_KEY = "vestibule.identity";
const DEFAULT_CONVERSATION = "lobby";
const isDevelopment =
  document.querySelector('meta[name="vestibule-mode"]').content === "development";
const DRAW_DELAY_MS = 16;
const NOTICE_MS = 8000;
// The gateway ends a typing notice after 3 s; a lost stop must not leave one standing.
const TYPING_SHOWN_MS = 4500;
const STATES = {
  connecting: "connecting",
  connected: "connected",
  reconnecting: "reconnecting",
  offline: "offline",
  ended: "offline",
};

// What is on the screen while somebody is in; null at the door.
let visit = null;

function conversationInHash() {
  try {
    return decodeURIComponent(location.hash.slice(1)).trim();
  } catch {
    return "";
  }
}

function storedIdentity() {
  try {
    return JSON.parse(sessionStorage.getItem(IDENTITY_KEY));
  } catch {
    return null;
  }
}

// Per tab on purpose: two tabs are two people.
function keepIdentity(identity) {
  try {
    if (identity) sessionStorage.setItem(IDENTITY_KEY, JSON.stringify(identity));
    else sessionStorage.removeItem(IDENTITY_KEY);
  } catch {
    // Without storage a reload asks again, nothing else is lost.
  }
}

function openDoor(error) {
  leaveVisit();
  show(by("chat"), false);
  show(by("door"), true);
  show(by("name-field"), isDevelopment);
  show(by("token-field"), !isDevelopment);
  by("name").required = isDevelopment;
  by("token").required = !isDevelopment;
  by("name").value ||= storedIdentity()?.user ?? "";
  by("conversation").value = conversationInHash() || DEFAULT_CONVERSATION;
  by("door-error").textContent = error ?? "";
  show(by("door-error"), Boolean(error));
  document.title = "Vestibule";
  const first = isDevelopment ? by("name") : by("token");
  first.focus();
}

async function identify() {
  if (isDevelopment) {
    const user = by("name").value.trim();
    if (user === "") throw new Error("Choose a name.");
    const { token, user: named } = await developmentToken(user);
    return { user: named ?? user, token };
  }
  const token = by("token").value.trim();
  const user = userOf(token);
  if (!user) throw new Error("This is not a token that names a user.");
  return { user, token };
}

async function knock(event) {
  event.preventDefault();
  const button = by("door-form").querySelector("button");
  button.disabled = true;
  try {
    const identity = await identify();
    keepIdentity(identity);
    const id = by("conversation").value.trim() || DEFAULT_CONVERSATION;
    history.replaceState(null, "", `#${encodeURIComponent(id)}`);
    enter(identity, id);
  } catch (error) {
    openDoor(error.message);
  } finally {
    button.disabled = false;
  }
}

function enter(identity, id) {
  leaveVisit();
  const conversation = new Conversation(id);
  const log = new Log(by("messages"), by("scroll"), identity.user, {
    resend: (entry) => visit?.gateway.resend(entry),
    discard: (entry) => {
      conversation.discard(entry);
      draw();
    },
  });
  visit = { identity, conversation, log, typing: new Map(), unread: 0, timers: new Set() };
  visit.gateway = new Gateway(conversation, identity.token, {
    changed: draw,
    state: showState,
    notice,
    message: messageArrived,
    typing: typingChanged,
    refused: (refusal) => refused(refusal, identity, id),
  });
  show(by("door"), false);
  show(by("chat"), true);
  by("title").textContent = id;
  by("whoami").textContent = `You are ${identity.user}`;
  by("second").href = `/#${encodeURIComponent(id)}`;
  by("text").value = "";
  fitComposer();
  show(by("notice"), false);
  by("typing").textContent = "";
  showState("connecting");
  draw();
  by("text").focus();
}

function leaveVisit() {
  if (!visit) return;
  visit.gateway.close();
  visit.log.close();
  for (const timer of visit.timers) clearTimeout(timer);
  visit = null;
}

// A development token that ran out is simply asked for again, once; anything else is for a person.
async function refused(refusal, identity, id) {
  const mayRenew = isDevelopment && refusal.code === "unauthenticated" && !identity.isRenewed;
  if (!mayRenew) {
    keepIdentity(null);
    openDoor(refusal.message);
    return;
  }
  try {
    const { token } = await developmentToken(identity.user);
    keepIdentity({ user: identity.user, token });
    enter({ user: identity.user, token, isRenewed: true }, id);
  } catch (error) {
    openDoor(error.message);
  }
}

function showState(name) {
  if (!visit) return;
  visit.state = name;
  const shown = name === "reconnecting" && !navigator.onLine ? "offline" : name;
  by("state").dataset.state = STATES[shown];
  by("state").textContent = STATES[shown];
  show(by("again"), name === "ended");
}

function notice(text) {
  if (!visit || !text) return;
  by("notice").textContent = text;
  show(by("notice"), true);
  clearTimeout(visit.noticeTimer);
  visit.noticeTimer = later(NOTICE_MS, () => show(by("notice"), false));
}

function later(ms, run) {
  const { timers } = visit;
  const timer = setTimeout(() => {
    timers.delete(timer);
    run();
  }, ms);
  timers.add(timer);
  return timer;
}

// Many changes in a row are drawn once.
function draw() {
  if (!visit || visit.isDrawing) return;
  visit.isDrawing = true;
  later(DRAW_DELAY_MS, () => {
    visit.isDrawing = false;
    const { conversation, log } = visit;
    const isEmpty = conversation.settled.length + conversation.pending.length === 0;
    show(by("older"), conversation.hasOlder);
    show(by("beginning"), conversation.reachedBeginning);
    show(by("empty"), isEmpty && conversation.loaded);
    log.draw(conversation);
    if (log.isAtEnd) seen();
    show(by("latest"), visit.unread > 0 && !log.isAtEnd);
  });
}

function messageArrived(message) {
  const { user } = visit.identity;
  typingChanged(message.userId, false);
  if (message.userId === user) return;
  by("spoken").textContent = `${message.userId}: ${message.content}`;
  visit.unread += 1;
  showUnread();
}

function showUnread() {
  const count = visit.unread > 0 && document.hidden ? `(${visit.unread}) ` : "";
  document.title = `${count}${visit.conversation.id} – Vestibule`;
}

function seen() {
  if (!document.hidden) visit.unread = 0;
  showUnread();
}

function typingChanged(userId, isTyping) {
  if (userId === visit.identity.user) return;
  const { typing } = visit;
  clearTimeout(typing.get(userId));
  typing.delete(userId);
  if (isTyping) typing.set(userId, later(TYPING_SHOWN_MS, () => typingChanged(userId, false)));
  by("typing").textContent = typingText([...typing.keys()]);
}

function say(event) {
  event.preventDefault();
  const content = by("text").value.trim();
  if (!visit || content === "") return;
  by("text").value = "";
  fitComposer();
  visit.gateway.send(content);
  visit.log.toEnd();
  by("text").focus();
}

function fitComposer() {
  const text = by("text");
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight, 160)}px`;
}

async function older() {
  by("older").disabled = true;
  try {
    await visit?.gateway.loadOlder();
  } catch (error) {
    notice(error.message);
  } finally {
    by("older").disabled = false;
  }
}

function listen() {
  by("door-form").addEventListener("submit", knock);
  by("composer").addEventListener("submit", say);
  by("older").addEventListener("click", older);
  by("again").addEventListener("click", () => visit?.gateway.reconnect());
  by("leave").addEventListener("click", () => openDoor());
  by("latest").addEventListener("click", () => visit?.log.toEnd());
  by("scroll").addEventListener("scroll", () => {
    visit?.log.scrolled();
    if (visit?.log.isAtEnd) {
      seen();
      show(by("latest"), false);
    }
  });
  by("text").addEventListener("input", () => {
    fitComposer();
    if (by("text").value.trim() === "") visit?.gateway.stopTyping();
    else visit?.gateway.isTyping();
  });
  by("text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    say(event);
  });
  addEventListener("hashchange", () => {
    const id = conversationInHash();
    if (!visit) by("conversation").value = id || DEFAULT_CONVERSATION;
    else if (id && id !== visit.conversation.id) enter(visit.identity, id);
  });
  for (const change of ["online", "offline"]) {
    addEventListener(change, () => visit && showState(visit.state));
  }
  document.addEventListener("visibilitychange", () => visit?.log.isAtEnd && seen());
}

listen();
const identity = storedIdentity();
if (identity?.token && conversationInHash()) enter(identity, conversationInHash());
else openDoor();
