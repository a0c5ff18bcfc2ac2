// Randomness that a seed repeats: everything that a run decides comes out of one of these.

/** mulberry32: small, and the same everywhere. */
export class Random {
  #state;

  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** From 0 to below 1. */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from `least` to below `end`. */
  whole(least, end) {
    return least + Math.floor(this.next() * (end - least));
  }

  between(least, most) {
    return least + this.next() * (most - least);
  }

  of(list) {
    return list[this.whole(0, list.length)];
  }

  /** In another order. */
  shuffled(list) {
    const all = [...list];
    for (let n = all.length - 1; n > 0; n -= 1) {
      const other = this.whole(0, n + 1);
      [all[n], all[other]] = [all[other], all[n]];
    }
    return all;
  }
}
