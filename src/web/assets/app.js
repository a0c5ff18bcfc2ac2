// Wires the page: who is here, the door, the visit, and which conversation the address names.

import { Api, hasAccount } from "./api.js";
import { by, say, show } from "./dom.js";
import { guestId } from "./format.js";
import { Page, placeInAddress } from "./page.js";
import { AccountView } from "./views/account.js";
import { CreateView } from "./views/create.js";
import { DetailsView } from "./views/details.js";
import { closeDialogs, prepareDialogs } from "./views/dialogs.js";
import { accountOf, Door } from "./views/door.js";
import { ListView } from "./views/list.js";
import { NoticesView } from "./views/notices.js";
import { drawNothing, ThreadView } from "./views/thread.js";
import { complain, toast } from "./views/toasts.js";
import { Visit } from "./visit.js";

const IDENTITY_KEY = "vestibule.identity";
const GUESTS_ROOM = "lobby";
// "5 minutes ago" grows older by itself.
const AGE_MS = 30_000;
const ALL = new Set(["list", "log", "people", "notices", "state", "typing"]);
const isDevelopment =
  document.querySelector('meta[name="vestibule-mode"]').content === "development";

// Tabs of one browser share the account, so they tell each other when it changes.
const tabs = "BroadcastChannel" in window ? new BroadcastChannel("vestibule.account") : null;

// Who is in, with the page's views; null at the door.
let here = null;

function storedIdentity() {
  try {
    return JSON.parse(sessionStorage.getItem(IDENTITY_KEY));
  } catch {
    return null;
  }
}

// Per tab on purpose: two tabs are two guests.
function keepIdentity(identity) {
  try {
    if (identity?.token) sessionStorage.setItem(IDENTITY_KEY, JSON.stringify(identity));
    else sessionStorage.removeItem(IDENTITY_KEY);
  } catch {
    // Without storage a reload asks again, nothing else is lost.
  }
}

const door = new Door({
  isDevelopment,
  entered(identity) {
    if (identity.kind === "account") tabs?.postMessage(identity.id);
    const { conversation, person } = placeInAddress();
    if (identity.kind !== "account" && !conversation && !person) {
      history.replaceState(null, "", `${location.pathname}#${GUESTS_ROOM}`);
    }
    enter(identity);
  },
});

function enter(identity, isRenewed = false) {
  leaveVisit();
  keepIdentity(identity);
  if (location.search) history.replaceState(null, "", location.pathname + location.hash);
  const visit = new Visit(identity, {
    refused: (refusal) => refused(refusal, identity, isRenewed),
    notice: toast,
    failed: (refusal, what) => what === "open" || complain(refusal, what),
    message: speak,
    gone,
  });
  const page = new Page({ visit, isDevelopment, leave });
  const create = new CreateView(page);
  page.create = create.open;
  const views = [new ListView(page), new NoticesView(page), new DetailsView(page)];
  const thread = new ThreadView(page);
  new AccountView(page);
  here = { visit, page, views: [...views, thread], thread };
  visit.store.listen((parts) => draw(parts));
  page.on(by("back"), "click", () => page.go(""));
  show(by("door"), false);
  show(by("app"), true);
  drawNothing(page);
  follow();
  draw(ALL);
}

function draw(parts) {
  for (const view of here?.views ?? []) view.draw(parts);
}

function leaveVisit() {
  if (!here) return;
  closeDialogs();
  here.visit.close();
  here.page.end();
  here = null;
  by("toasts").replaceChildren();
}

async function leave() {
  const { kind } = here.visit.store.me;
  if (kind === "account") {
    try {
      await here.visit.api.logout();
    } catch (refusal) {
      // Whose login has ended already is out.
      if (refusal.code !== "unauthenticated") {
        complain(refusal);
        return;
      }
    }
    tabs?.postMessage(null);
  }
  keepIdentity(null);
  leaveVisit();
  history.replaceState(null, "", location.pathname);
  door.open("", kind === "account" ? "login" : undefined);
}

// A guest's token that ran out is simply asked for again, once; anything else is for a person.
async function refused(refusal, identity, isRenewed) {
  const isGuest = identity.kind === "guest" && isDevelopment;
  if (isGuest && refusal.code === "unauthenticated" && !isRenewed) {
    try {
      const { token } = await new Api().developmentToken(guestId(identity.name));
      enter({ ...identity, token }, true);
      return;
    } catch {
      // Then as for everybody else.
    }
  }
  keepIdentity(null);
  leaveVisit();
  const note = refusal.code === "unauthenticated" ? "You have been signed out. Come in again." : refusal.message;
  door.open(note, identity.kind === "account" ? "login" : undefined);
}

// Shows what the address names.
async function follow() {
  if (!here) return;
  const { visit, page } = here;
  const { conversation, person } = placeInAddress();
  closeDialogs();
  if (person && person !== visit.store.me.id) {
    try {
      const id = await visit.direct(person);
      history.replaceState(null, "", `#${encodeURIComponent(id)}`);
      show(by("talk"), true);
      open(id);
    } catch (refusal) {
      complain(refusal, "open");
      page.go("");
    }
    return;
  }
  open(conversation ?? null);
}

function open(id) {
  const { visit } = here;
  const isShown = id !== null;
  by("app").classList.toggle("in-thread", isShown);
  show(by("talk"), isShown);
  show(by("nothing"), !isShown);
  visit.open(id);
  draw(ALL);
  // Keyboards of phones cover half of the page: they come when they are called.
  if (isShown && matchMedia("(hover: hover)").matches) by("text").focus();
}

function speak(conversation, message) {
  const { store } = here.visit;
  if (message.userId === store.me.id) return;
  const where = conversation.id === store.current ? "" : `, in ${store.titleOf(conversation)}`;
  say(by("spoken"), `${store.nameOf(message.userId)}${where}: ${message.content}`);
}

function gone(conversation) {
  toast(`You are no longer in ${here.visit.store.titleOf(conversation)}.`);
  if (here.visit.store.current === conversation.id) here.page.go("");
}

async function start() {
  prepareDialogs();
  const wantsGuest = new URLSearchParams(location.search).has("guest");
  const identity = wantsGuest ? null : storedIdentity();
  if (identity?.token) return enter(identity);
  if (hasAccount() && !wantsGuest) {
    try {
      const profile = await new Api().profile();
      return enter(accountOf(profile.user ?? profile));
    } catch (refusal) {
      if (refusal.isRetryable) complain(refusal);
      return door.open("", "login");
    }
  }
  const { person } = placeInAddress();
  return door.open(person ? `Come in to write to ${person.replace(/^guest-/, "").replaceAll("-", " ")}.` : "");
}

addEventListener("hashchange", follow);
for (const change of ["online", "offline"]) addEventListener(change, () => draw(new Set(["state"])));
document.addEventListener("visibilitychange", () => here?.thread.visibilityChanged());
setInterval(() => document.hidden || draw(new Set(["people", "state"])), AGE_MS);
tabs?.addEventListener("message", ({ data }) => {
  const me = here?.visit.store.me;
  if (me?.kind === "account" && !storedIdentity() && data !== me.id) location.reload();
});
start();
