// What nodes export, read before and after a run: how often, how long on the mean, and quantiles.

/** The series of a metrics page: name with its labels in the order they have there → value. */
async function read(operations) {
  const answer = await fetch(`http://${operations}/metrics`);
  if (!answer.ok) throw new Error(`${operations} answers ${answer.status}`);
  const series = new Map();
  for (const line of (await answer.text()).split("\n")) {
    if (!line || line.startsWith("#")) continue;
    const at = line.lastIndexOf(" ");
    series.set(line.slice(0, at), Number(line.slice(at + 1)));
  }
  return series;
}

/** The sum over nodes. */
export async function readAll(nodes) {
  const sum = new Map();
  for (const series of await Promise.all(nodes.map(({ operations }) => read(operations)))) {
    for (const [name, value] of series) sum.set(name, (sum.get(name) ?? 0) + value);
  }
  return sum;
}

/** What was observed in between, of series whose labels contain `label`. */
export function histogram(before, after, metric, label = "") {
  const grown = (name) => (after.get(name) ?? 0) - (before.get(name) ?? 0);
  const of = (suffix) => [...after.keys()].filter((key) => key.startsWith(`${metric}_${suffix}`) && key.includes(label));
  const total = (suffix) => of(suffix).reduce((sum, key) => sum + grown(key), 0);
  const count = total("count");
  const bounds = new Map();
  for (const key of of("bucket")) {
    const bound = /le="([^"]+)"/.exec(key)[1];
    bounds.set(bound, (bounds.get(bound) ?? 0) + grown(key));
  }
  const buckets = [...bounds]
    .map(([bound, n]) => [bound === "+Inf" ? Infinity : Number(bound), n])
    .sort(([a], [b]) => a - b);
  return { count, meanMs: (1e3 * total("sum")) / count, buckets, at: (q) => quantile(buckets, count, q) };
}

/** As Prometheus estimates it: evenly within a bucket. In milliseconds. */
function quantile(buckets, count, q) {
  const rank = q * count;
  let [below, seen] = [0, 0];
  for (const [bound, n] of buckets) {
    if (n >= rank) {
      if (bound === Infinity) return 1e3 * below;
      return 1e3 * (below + ((bound - below) * (rank - seen)) / Math.max(n - seen, 1));
    }
    [below, seen] = [bound, n];
  }
  return NaN;
}

/** How much a counter grew. */
export const counted = (before, after, name) => {
  const keys = [...after.keys()].filter((key) => key.startsWith(name));
  return keys.reduce((sum, key) => sum + after.get(key) - (before.get(key) ?? 0), 0);
};
