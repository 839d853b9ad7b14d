import type { Exposition, Sample } from './openmetrics.js';

/** Values by what they are of: a protocol, a reason. */
export type Values = Map<string, number>;

/** Which of a metric's samples are meant. */
export type Which = (labels: Record<string, string>) => boolean;

/** A process at one moment. */
export interface Scrape {
  /** In seconds. */
  at: number;
  told: Exposition;
}

const all: Which = () => true;

/** When the process began, in seconds since 1970. */
export const bornAt = ({ told }: Scrape): number | undefined => told.samples.get('process_start_time_seconds')?.[0]?.value;

/** Sums of a gauge by a label; of everything, without one. Nothing when the process has no such metric. */
export function levels({ told }: Scrape, name: string, label?: string, which = all): Values {
  const sums: Values = new Map();
  for (const { labels, value } of told.samples.get(name) ?? []) {
    if (!which(labels)) continue;
    const key = label ? (labels[label] ?? '') : '';
    sums.set(key, (sums.get(key) ?? 0) + value);
  }
  return inOrder(sums);
}

const inOrder = (values: Values): Values => new Map([...values].sort(([one], [other]) => (one < other ? -1 : 1)));

const seriesOf = ({ labels }: Sample): string => JSON.stringify(Object.entries(labels).sort());

/**
 * What a process counted between two moments. Of two processes, or of one that began anew, nothing can be said: then there
 * is no span. Counters only rise, so one that fell says so, too.
 */
export class Span {
  private constructor(
    private readonly before: Scrape,
    readonly now: Scrape,
  ) {}

  static between(before: Scrape | undefined, now: Scrape): Span | undefined {
    if (!before || now.at <= before.at || bornAt(before) !== bornAt(now)) return undefined;
    const span = new Span(before, now);
    for (const [name, { type }] of now.told.families) {
      if (type === 'counter' && span.rises(`${name}_total`).some(({ rise }) => rise < 0)) return undefined;
    }
    return span;
  }

  private get seconds(): number {
    return this.now.at - this.before.at;
  }

  /** How much each series rose. One that was not there before began at 0. */
  private rises(name: string): { labels: Record<string, string>; rise: number }[] {
    const before = new Map((this.before.told.samples.get(name) ?? []).map((sample) => [seriesOf(sample), sample.value]));
    return (this.now.told.samples.get(name) ?? []).map((sample) => ({
      labels: sample.labels,
      rise: sample.value - (before.get(seriesOf(sample)) ?? 0),
    }));
  }

  /** Rises a second of a counter, by a label: of those that ever rose. */
  rates(name: string, label?: string, which = all): Values {
    const totals = levels(this.now, name, label, which);
    const rates: Values = new Map();
    for (const { labels, rise } of this.rises(name)) {
      const key = label ? (labels[label] ?? '') : '';
      if (which(labels) && totals.get(key)! > 0) rates.set(key, (rates.get(key) ?? 0) + rise / this.seconds);
    }
    return inOrder(rates);
  }

  /**
   * Below which value a part `q` of what a histogram observed lies, by its buckets, in each of which values are taken to lie
   * evenly. Above the last bound it is that bound. Nothing when nothing was observed.
   */
  quantile(q: number, name: string, which = all): number | undefined {
    const counts = new Map<number, number>();
    for (const { labels, rise } of this.rises(`${name}_bucket`)) {
      if (!which(labels)) continue;
      const bound = labels.le === '+Inf' ? Infinity : Number(labels.le);
      counts.set(bound, (counts.get(bound) ?? 0) + rise);
    }
    const buckets = [...counts].sort(([one], [other]) => one - other);
    const wanted = q * (counts.get(Infinity) ?? 0);
    if (wanted === 0) return undefined;
    let [from, below] = [0, 0];
    for (const [bound, count] of buckets) {
      if (count >= wanted) return bound === Infinity ? from : from + ((bound - from) * (wanted - below)) / (count - below);
      [from, below] = [bound, count];
    }
    return undefined;
  }
}
