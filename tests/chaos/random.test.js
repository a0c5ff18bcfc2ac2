// That a seed repeats what it decides.

import assert from "node:assert/strict";
import { test } from "node:test";
import { FAULTS } from "./faults.js";
import { Random } from "./random.js";
import { SCENARIOS, schedule } from "./scenarios.js";

const stage = { nodes: 3, kafka: [1], postgres: [1], redis: [[1], [1]], tags: ["a", "b", "c"], ways: [1, 2, 3, 4, 5, 6] };
const some = (scenario, seed) => first(schedule(scenario, new Random(seed), stage), 30);

function first(iterator, count) {
  const found = [];
  for (const one of iterator) {
    found.push(one);
    if (found.length === count) return found;
  }
  return found;
}

for (const [name, scenario] of Object.entries(SCENARIOS)) {
  test(`${name}: a seed decides what happens, and every fault comes`, () => {
    assert.deepEqual(some(scenario, 7), some(scenario, 7));
    assert.notDeepEqual(some(scenario, 7), some(scenario, 8));
    const names = new Set(some(scenario, 7).map((fault) => fault.name));
    assert.deepEqual(names, new Set(scenario.faults));
    for (const fault of [...scenario.faults, ...scenario.beside]) assert.ok(FAULTS[fault], fault);
  });
}

test("numbers are spread over their range", () => {
  const random = new Random(1);
  const counts = Array.from({ length: 10 }, () => 0);
  for (let n = 0; n < 10_000; n += 1) counts[random.whole(0, 10)] += 1;
  for (const count of counts) assert.ok(count > 900 && count < 1_100, counts.join());
  assert.deepEqual(random.shuffled([1, 2, 3, 4]).toSorted(), [1, 2, 3, 4]);
});
