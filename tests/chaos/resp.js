// Cuts what a Redis server says into whole frames, so that one of them can be left out.
//
// Only as much of RESP2 and RESP3 as tells where a frame ends.

const CR = 13;
const LF = 10;
const AGGREGATES = new Map([["*", 1], [">", 1], ["~", 1], ["%", 2], ["|", 2]]);
const BULKS = new Set(["$", "=", "!"]);

/** Where the line that begins at `from` ends, behind its end of line; -1 if it is not whole. */
function lineEnd(bytes, from) {
  for (let at = bytes.indexOf(CR, from); at >= 0; at = bytes.indexOf(CR, at + 1)) {
    if (at + 1 >= bytes.length) return -1;
    if (bytes[at + 1] === LF) return at + 2;
  }
  return -1;
}

/** Where the frame that begins at `from` ends; -1 if it is not whole. */
export function frameEnd(bytes, from) {
  let left = 1;
  let at = from;
  while (left > 0) {
    const end = lineEnd(bytes, at);
    if (end < 0) return -1;
    const type = String.fromCharCode(bytes[at]);
    const count = Number(bytes.toString("latin1", at + 1, end - 2));
    at = end;
    left -= 1;
    if (BULKS.has(type) && count >= 0) {
      at += count + 2;
      if (at > bytes.length) return -1;
    } else if (AGGREGATES.has(type) && count > 0) {
      left += count * AGGREGATES.get(type);
      // Attributes stand before what they belong to.
      if (type === "|") left += 1;
    }
  }
  return at;
}

/** Whether a frame is an event of a room on its way to a node: what the timeline publishes begins with E. */
export function isEvent(frame) {
  if (frame[0] !== 0x3e && frame[0] !== 0x2a) return false;
  const text = frame.toString("latin1", 0, 400);
  return /^[>*]3\r\n\$\d+\r\ns?message\r\n\$\d+\r\n[^\r]*\r\n\$\d+\r\nE\n/.test(text);
}

/** Whether a frame is anything that was published. */
export function isMessage(frame) {
  if (frame[0] !== 0x3e && frame[0] !== 0x2a) return false;
  return /^[>*]3\r\n\$\d+\r\ns?message\r\n/.test(frame.toString("latin1", 0, 400));
}

/** Takes bytes and gives them back, without the frames that `isDropped` wants gone. */
export class Sieve {
  #rest = Buffer.alloc(0);

  constructor(isDropped) {
    this.isDropped = isDropped;
  }

  take(bytes) {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const kept = [];
    let from = 0;
    for (;;) {
      const end = from < this.#rest.length ? frameEnd(this.#rest, from) : -1;
      if (end < 0) break;
      const frame = this.#rest.subarray(from, end);
      if (!this.isDropped(frame)) kept.push(frame);
      from = end;
    }
    this.#rest = this.#rest.subarray(from);
    return Buffer.concat(kept);
  }
}
