// Moments in which this machine had no time even for its own clock: on one that has other work, a connection that is
// lost then says nothing about a node.

const LOOK_EVERY_MS = 100;
/** Later than this is no ordinary turn of the event loop. */
const STALL_MS = 1_000;
/** What was missed in a stall is noticed up to so much later, by pings and by the balancer. */
const AFTERWARDS_MS = 15_000;

export class Stalls {
  count = 0;
  longestMs = 0;

  /** `excuse(one)` is told of each: `{from, to}`. */
  constructor(excuse) {
    let due = Date.now() + LOOK_EVERY_MS;
    this.timer = setInterval(() => {
      const now = Date.now();
      const late = now - due;
      due = now + LOOK_EVERY_MS;
      if (late < STALL_MS) return;
      this.count += 1;
      this.longestMs = Math.max(this.longestMs, late);
      excuse({ from: now - late, to: now + AFTERWARDS_MS });
    }, LOOK_EVERY_MS);
  }

  end() {
    clearInterval(this.timer);
  }
}
