// Into conversations and complete in them: history, joins that say what was seen last, catching up.
//
// A conversation on the screen is loaded: its newest page of history first, then a join `after` it, so
// that what happened between the two, and during every lost connection, arrives as `missed`. The
// others of the list are joined as well, after their last message, which keeps their previews and
// unread counts right.

import { Refusal } from "./api.js";

const PAGE = 50;
const RETRY_MS = 1000;
// How long the current conversation waits for the list.
const LIST_WITHIN_MS = 1500;
const LIST_PAGES_MAX = 4;
// Rooms that are joined at a time.
const AT_A_TIME = 4;
// Why a join could not tell what was missed, for a person.
const REASONS = {
  trimmed: "the absence was too long to list all that was missed",
  epoch_changed: "the room was put in order again",
  epoch_unknown: "this node does not know the place that was reached",
  position_unknown: "this node does not know the place that was reached",
};

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Rooms {
  #store;
  #api;
  #link;
  #entering = 0;
  #listing = null;
  // What a person should know of the last connect.
  #told = { missed: 0, reloaded: "" };

  constructor(store, api, link) {
    this.#store = store;
    this.#api = api;
    this.#link = link;
  }

  /** True once live events of this conversation arrive. */
  isIn(id) {
    return this.#link.isIn(id);
  }

  /** The connection is lost: no room is joined. */
  lost() {
    this.#entering += 1;
  }

  /** Something that happened while this was not connected. */
  missed(event, data) {
    const isNew = this.#store.conversation(data.conversationId)?.apply(event, data, this.#store.me.id);
    if (isNew) this.#told.missed += 1;
    this.#store.changed("list", "log");
  }

  /** What was missed cannot be told. Answers the place up to which history was read in its place. @throws {Refusal} */
  async reload({ conversationId, reason }) {
    const conversation = this.#store.conversation(conversationId);
    if (!conversation) return null;
    const { loaded } = conversation;
    conversation.reset();
    if (!loaded) {
      // Only a preview: what the list says now is as good.
      await this.loadList();
      return null;
    }
    this.#told.reloaded = REASONS[reason] ?? "the gap could not be closed";
    await this.#load(conversation);
    return conversation.seen;
  }

  /**
   * Joins everything again after a connect, the current conversation first. Answers what a person
   * should know: `{missed, reloaded}`, or null when the connection was lost meanwhile.
   */
  async enterAll() {
    const attempt = ++this.#entering;
    const isCurrent = () => attempt === this.#entering && this.#link.isConnected;
    this.#told = { missed: 0, reloaded: "" };
    // What is unread begins where the list says, so it comes first, unless it lets people wait.
    const listed = this.#insistOnList(isCurrent);
    await Promise.race([listed.catch(() => {}), pause(LIST_WITHIN_MS)]);
    const current = this.#store.conversation(this.#store.current);
    if (current) await this.#insist(current, isCurrent).catch(() => {});
    if (!isCurrent()) return null;
    this.#store.changed("log", "list");
    await listed.catch(() => {});
    const others = this.#store.sorted().filter((one) => !this.isIn(one.id));
    await this.#joinEach(others, isCurrent);
    return isCurrent() ? this.#told : null;
  }

  /** Brings the list up to date, and joins what is new in it. */
  async refresh() {
    const attempt = this.#entering;
    const isCurrent = () => attempt === this.#entering && this.#link.isConnected;
    await this.loadList();
    const missing = this.#store.sorted().filter((one) => !this.isIn(one.id));
    if (isCurrent()) await this.#joinEach(missing, isCurrent);
  }

  /** Reads the list; who asks while it is read gets the same answer. */
  loadList() {
    this.#listing ??= this.#readList().finally(() => { this.#listing = null; });
    return this.#listing;
  }

  /** Loads and joins a conversation that comes on the screen. @throws {Refusal} */
  async open(conversation) {
    if (!this.#link.isConnected) {
      if (!conversation.loaded) await this.#load(conversation);
      return;
    }
    const attempt = this.#entering;
    const isCurrent = () => attempt === this.#entering && this.#link.isConnected;
    if (conversation.loaded && this.isIn(conversation.id)) return;
    await this.#insist(conversation, isCurrent);
  }

  /** The page of history before what is shown. @throws {Refusal} */
  async loadOlder(conversation) {
    const before = conversation.settled.length;
    // Where much was said and little kept, a page may hold no message at all.
    while (conversation.older && conversation.settled.length === before) {
      conversation.addPage(await this.#history(conversation, conversation.older));
    }
    this.#store.changed("log");
  }

  /** Out of a conversation, here and at the gateway. */
  leave(id) {
    this.#link.leave(id);
    this.#store.forget(id);
  }

  async #readList() {
    const store = this.#store;
    const listed = new Set();
    let after;
    for (let page = 0; page < LIST_PAGES_MAX; page += 1) {
      const { conversations, next } = await this.#api.conversations(after);
      for (const item of conversations) {
        listed.add(item.id);
        store.ensure(item.id).describe(item, store.me.id);
      }
      after = next;
      if (!next) break;
    }
    for (const one of [...store.conversations.values()]) {
      // Removed from it elsewhere. While there are more pages, absence proves nothing.
      const isGone = one.isListed && !after && !listed.has(one.id);
      if (isGone && one.id !== store.current) store.forget(one.id);
    }
    store.listLoaded = true;
    store.changed("list", "log");
  }

  async #insistOnList(isCurrent) {
    while (isCurrent()) {
      try {
        await this.loadList();
        return;
      } catch (refusal) {
        if (!(refusal instanceof Refusal) || !refusal.isRetryable) throw refusal;
        await pause(refusal.retryAfterMs ?? RETRY_MS);
      }
    }
  }

  async #joinEach(conversations, isCurrent) {
    const waiting = [...conversations];
    const one = async () => {
      for (let next = waiting.shift(); next && isCurrent(); next = waiting.shift()) {
        await this.#insist(next, isCurrent).catch(() => {});
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, one));
  }

  // Until it is in, refused for good, or overtaken by another connect.
  async #insist(conversation, isCurrent) {
    while (isCurrent()) {
      try {
        await this.#catchUp(conversation);
        return;
      } catch (refusal) {
        if (!(refusal instanceof Refusal) || !refusal.isRetryable) {
          conversation.refusal = refusal;
          this.#store.changed("log");
          throw refusal;
        }
        await pause(refusal.retryAfterMs ?? RETRY_MS);
      }
    }
  }

  // Joins, with everything after what was seen.
  async #catchUp(conversation) {
    const { id, last } = conversation;
    const isShown = id === this.#store.current || conversation.loaded;
    if (isShown && !conversation.loaded) await this.#load(conversation);
    if (!isShown && !conversation.seen && last) conversation.sawUpTo(last);
    const { seen } = conversation;
    let joined = await this.#link.join(id, seen ?? undefined);
    if (!isShown && !last && !seen && joined.seq > 0) {
      // Something was said that the list did not tell yet.
      joined = await this.#link.join(id, { epoch: joined.epoch, seq: 0 });
    }
    this.#arrived(conversation, joined);
  }

  #arrived(conversation, answer) {
    conversation.refusal = null;
    conversation.sawUpTo(answer);
    const last = conversation.settled.at(-1);
    if (last) conversation.sawUpTo(last);
    this.#store.changed("list", "log");
  }

  async #load(conversation) {
    const page = await this.#history(conversation);
    const { messages, epoch } = page;
    conversation.addPage(page);
    conversation.markUnread(this.#store.me.id);
    conversation.loaded = true;
    if (messages.length > 0) conversation.sawUpTo(messages.at(-1));
    else if (Number.isInteger(epoch)) conversation.sawUpTo({ epoch, seq: 0 });
    this.#store.changed("log");
  }

  #history(conversation, before) {
    return this.#api.messages(conversation.id, { limit: PAGE, before });
  }
}
