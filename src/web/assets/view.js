// Draws a conversation into the page. Holds no state but what is on the screen.
//
// All text enters by `textContent`: nothing that a user wrote is ever parsed as HTML.

const GROUP_MS = 5 * 60 * 1000;
const HUES = 8;
const NEAR_END_PX = 80;

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

/** The element with this id. */
export const by = (id) => document.getElementById(id);

/** Shows or hides an element. */
export function show(element, isShown) {
  element.hidden = !isShown;
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function hueOf(userId) {
  let hash = 7;
  for (const char of userId) hash = (hash * 31 + char.codePointAt(0)) >>> 0;
  return hash % HUES;
}

function initialOf(userId) {
  return ([...userId.trim()][0] ?? "?").toUpperCase();
}

/** The list of messages, kept in step with a conversation. */
export class Log {
  #list;
  #scroll;
  #user;
  #actions;
  #rows = new Map();
  #isFollowing = true;
  #watcher;

  /** `actions`: `resend(entry)` and `discard(entry)` for what was refused. */
  constructor(list, scroll, user, actions) {
    this.#list = list;
    this.#scroll = scroll;
    this.#user = user;
    this.#actions = actions;
    list.replaceChildren();
    // The window, the keyboard of a phone and a growing message all change what is in view.
    this.#watcher = new ResizeObserver(() => this.#isFollowing && this.toEnd());
    this.#watcher.observe(scroll);
  }

  /** Lets go of the page. */
  close() {
    this.#watcher.disconnect();
  }

  /** Call when the reader scrolled. */
  scrolled() {
    this.#isFollowing = this.isAtEnd;
  }

  /** True if the newest message is in view, or nearly. */
  get isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }

  toEnd() {
    this.#isFollowing = true;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  /** Draws it; stays at the end if it was there, else keeps what is being read in its place. */
  draw(conversation) {
    const wasAtEnd = this.#isFollowing;
    const anchor = this.#anchor();
    this.#place(this.#wanted(conversation));
    if (wasAtEnd) this.toEnd();
    else if (anchor?.row.isConnected) {
      this.#scroll.scrollTop += anchor.row.getBoundingClientRect().top - anchor.top;
    }
  }

  // The first row in view, and where it stands.
  #anchor() {
    const top = this.#scroll.getBoundingClientRect().top;
    for (const row of this.#list.children) {
      const box = row.getBoundingClientRect();
      if (box.bottom > top) return { row, top: box.top };
    }
    return null;
  }

  #wanted(conversation) {
    const wanted = [];
    let before = null;
    const next = (message, key, entry) => {
      const at = new Date(message.timestamp);
      if (!before || before.at.toDateString() !== at.toDateString()) {
        wanted.push({ key: `day ${at.toDateString()}`, draw: () => this.#dayRow(at) });
        before = null;
      }
      const continues = before?.userId === message.userId && at - before.at < GROUP_MS;
      wanted.push({
        key,
        look: [continues, entry?.state, entry?.error].join(" "),
        draw: () => this.#messageRow(message, continues, entry),
      });
      before = { userId: message.userId, at };
    };
    for (const message of conversation.settled) next(message, `at ${message.id}`);
    for (const entry of conversation.pending) {
      const message = { userId: this.#user, content: entry.content, timestamp: entry.at };
      next(message, `pending ${entry.clientMessageId}`, entry);
    }
    return wanted;
  }

  // Moves only what is not in its place yet: most often one row at the end.
  #place(wanted) {
    const rows = new Map();
    let here = this.#list.firstElementChild;
    for (const { key, look, draw } of wanted) {
      let row = this.#rows.get(key);
      if (!row || row.dataset.look !== String(look)) {
        const fresh = draw();
        fresh.dataset.look = String(look);
        if (row) {
          if (here === row) here = row.nextElementSibling;
          row.remove();
        }
        row = fresh;
      }
      if (row === here) here = here.nextElementSibling;
      else this.#list.insertBefore(row, here);
      rows.set(key, row);
    }
    while (here) {
      const gone = here;
      here = here.nextElementSibling;
      gone.remove();
    }
    this.#rows = rows;
  }

  #dayRow(at) {
    const row = make("li", "rule");
    row.append(make("span", "", day.format(at)));
    return row;
  }

  #messageRow(message, continues, entry) {
    const isOwn = message.userId === this.#user;
    const row = make("li", "message");
    row.classList.add(isOwn ? "own" : "other");
    row.classList.toggle("continues", continues);
    if (entry) row.classList.add("pending", entry.state);
    else row.dataset.place = `${message.epoch}-${message.seq}`;

    const face = make("span", `face hue-${hueOf(message.userId)}`, initialOf(message.userId));
    face.setAttribute("aria-hidden", "true");
    const byline = make("p", "byline");
    byline.append(make("b", "", isOwn ? "You" : message.userId), " ", this.#time(message, entry));
    const bubble = make("div", "bubble");
    bubble.append(make("p", "content", message.content));
    const body = make("div", "body");
    body.append(byline, bubble);
    if (entry) body.append(this.#sending(entry));
    row.append(face, body);
    return row;
  }

  #time(message, entry) {
    const time = make("time", "", clock.format(new Date(message.timestamp)));
    time.dateTime = message.timestamp;
    if (!entry) time.title = `Epoch ${message.epoch}, place ${message.seq} in this conversation`;
    return time;
  }

  #sending(entry) {
    const line = make("p", "progress");
    if (entry.state === "sending") line.textContent = "Sending…";
    else if (entry.state === "logged") line.textContent = "Kept, taking its place…";
    else {
      const again = make("button", "link", "Send again");
      again.type = "button";
      again.addEventListener("click", () => this.#actions.resend(entry));
      const discard = make("button", "link", "Discard");
      discard.type = "button";
      discard.addEventListener("click", () => this.#actions.discard(entry));
      line.append(`Not sent: ${entry.error}. `, again, " ", discard);
    }
    return line;
  }
}

/** "Ada is typing", "Ada and Bo are typing", "Several people are typing". */
export function typingText(names) {
  if (names.length === 0) return "";
  if (names.length === 1) return `${names[0]} is typing`;
  if (names.length === 2) return `${names[0]} and ${names[1]} are typing`;
  return "Several people are typing";
}
