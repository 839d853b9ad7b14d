// The text of metrics, as the standard has it, and what is made of two of them.
import { describe, expect, test } from 'vitest';
import { parse } from '../src/live/openmetrics.js';
import { Span, bornAt, levels, type Scrape } from '../src/live/rates.js';
import { shown, top } from '../src/live/units.js';

const EXAMPLE = String.raw`# TYPE acme_http_router_request_seconds summary
# UNIT acme_http_router_request_seconds seconds
# HELP acme_http_router_request_seconds Latency though all of ACME's HTTP request router.
acme_http_router_request_seconds_sum{path="/api/v1",method="GET"} 9036.32
acme_http_router_request_seconds_count{path="/api/v1",method="GET"} 807283.0
acme_http_router_request_seconds_created{path="/api/v1",method="GET"} 1605281325.0
# TYPE go_goroutines gauge
# HELP go_goroutines Number of goroutines that currently exist.
go_goroutines 69
# TYPE foo counter
# HELP foo With \"quotes\", a \\ and a\nline.
foo_total{a="x\"y\\z\nw{},=",b=""} 17.0 1520879607.789 # {trace_id="KOO5S4vxi0o"} 0.67 1520879606.7
foo_created{a="x\"y\\z\nw{},=",b=""} 1520872607.123
# TYPE size histogram
size_bucket{le="0.1"} 8
size_bucket{le="1.0"} 10 # {trace_id="oHg} 5 # {"} 0.9
size_bucket{le="+Inf"} 17
size_sum 3.2e2
size_count 17
# TYPE odd gauge
odd{} -Inf
odd{of="nothing",} NaN
# EOF
`;

describe('OpenMetrics', () => {
  test("the standard's examples: labels, escapes, times, examples of values, histograms, creation", () => {
    const { families, samples } = parse(EXAMPLE);
    expect(families.get('acme_http_router_request_seconds')).toEqual({ type: 'summary', unit: 'seconds', help: "Latency though all of ACME's HTTP request router." });
    expect(families.get('foo')!.help).toBe('With "quotes", a \\ and a\nline.');
    expect(samples.get('foo_total')).toEqual([{ labels: { a: 'x"y\\z\nw{},=', b: '' }, value: 17 }]);
    expect(samples.get('foo_created')![0]!.value).toBe(1520872607.123);
    expect(samples.get('go_goroutines')).toEqual([{ labels: {}, value: 69 }]);
    expect(samples.get('size_bucket')!.map(({ labels, value }) => [labels.le, value])).toEqual([['0.1', 8], ['1.0', 10], ['+Inf', 17]]);
    expect(samples.get('size_sum')![0]!.value).toBe(320);
    expect(samples.get('odd')!.map(({ value }) => value)).toEqual([-Infinity, NaN]);
    expect(samples.get('acme_http_router_request_seconds_created')![0]!.labels).toEqual({ path: '/api/v1', method: 'GET' });
  });

  test('nothing at all is of the format, too', () => {
    expect(parse('# EOF').samples.size).toBe(0);
    expect(parse('# EOF\n').families.size).toBe(0);
  });

  test.each([
    ['cut off', 'a 1\nb 2'],
    ['cut off in a line', 'a 1# EOF\n'],
    ['with more behind the end', 'a 1\n# EOF\nb 2\n'],
    ['with an end in between', 'a 1\n# EOF\nb 2\n# EOF\n'],
    ['empty', ''],
    ['a page of HTML', '<!doctype html>\n# EOF\n'],
    ['no value', 'a\n# EOF\n'],
    ['a word for a value', 'a one\n# EOF\n'],
    ['two values too many', 'a 1 2 3\n# EOF\n'],
    ['a label without quotes', 'a{b=c} 1\n# EOF\n'],
    ['a label that does not end', 'a{b="c} 1\n# EOF\n'],
    ['an escape that does not end', 'a{b="c\\"} 1\n# EOF\n'],
    ['labels that do not end', 'a{b="c" 1\n# EOF\n'],
    ['labels without a comma', 'a{b="c"d="e"} 1\n# EOF\n'],
    ['an empty line', 'a 1\n\nb 1\n# EOF\n'],
    ['another comment', '# hello\n# EOF\n'],
    ['no name', '1 2\n# EOF\n'],
  ])('not of the format: %s', (_, text) => {
    expect(() => parse(text)).toThrow();
  });
});

/** A process at a moment, which began at `born`. */
function scrape(at: number, lines: string[], born = 100): Scrape {
  return { at, told: parse(`${[`process_start_time_seconds ${born}`, '# TYPE n counter', ...lines].join('\n')}\n# EOF\n`) };
}

describe('rates', () => {
  test('by a label, added up over the others; what comes later began at 0, and what never was is not there', () => {
    const one = scrape(10, ['n_total{of="a",by="x"} 5', 'n_total{of="a",by="y"} 7', 'n_total{of="c",by="x"} 0']);
    // Labels may change their places.
    const two = scrape(14, ['n_total{by="y",of="a"} 9', 'n_total{by="x",of="a"} 11', 'n_total{of="b",by="x"} 2', 'n_total{of="c",by="x"} 0']);
    const span = Span.between(one, two)!;
    expect([...span.rates('n_total', 'of')]).toEqual([['a', 2], ['b', 0.5]]);
    expect([...span.rates('n_total')]).toEqual([['', 2.5]]);
    expect([...span.rates('n_total', 'of', ({ by }) => by === 'y')]).toEqual([['a', 0.5]]);
    expect([...span.rates('unknown_total')]).toEqual([]);
    expect([...levels(two, 'n_total', 'by')]).toEqual([['x', 13], ['y', 9]]);
    expect([...levels(two, 'unknown')]).toEqual([]);
  });

  test('of a process that began anew nothing is said: by its beginning, or by a counter that fell', () => {
    const before = scrape(10, ['n_total 5']);
    expect(Span.between(before, scrape(12, ['n_total 9'], 11)), 'another beginning, though it counted more').toBeUndefined();
    expect(Span.between(before, scrape(12, ['n_total 4'])), 'it fell').toBeUndefined();
    expect(Span.between(before, scrape(12, ['n_total 5']))!.rates('n_total').get('')).toBe(0);
    expect(Span.between(undefined, before)).toBeUndefined();
    expect(Span.between(before, scrape(10, ['n_total 6'])), 'no time passed').toBeUndefined();
    expect(Span.between(before, scrape(9, ['n_total 6'])), 'a clock that was set back').toBeUndefined();
    expect(bornAt(before)).toBe(100);
  });

  const histogram = (counts: number[], of = 'a'): string[] =>
    ['0.001', '0.01', '0.1', '+Inf'].map((le, index) => `h_bucket{le="${le}",of="${of}"} ${counts[index]}`);
  const quantile = (q: number, before: number[], after: number[]): number | undefined =>
    Span.between(scrape(10, histogram(before)), scrape(12, histogram(after)))!.quantile(q, 'h');

  test('quantiles of what was observed between', () => {
    const before = [100, 100, 100, 100];
    expect(quantile(0.5, before, [110, 110, 110, 110]), 'evenly in the first bucket').toBeCloseTo(0.0005);
    expect(quantile(0.5, before, [100, 110, 110, 110])).toBeCloseTo(0.0055);
    expect(quantile(0.99, before, [190, 199, 200, 200])).toBeCloseTo(0.01);
    expect(quantile(0.995, before, [190, 199, 200, 200])).toBeCloseTo(0.055);
    expect(quantile(0.99, before, [100, 100, 100, 101]), 'above the last bound').toBe(0.1);
    expect(quantile(0.5, before, before), 'nothing was observed').toBeUndefined();
  });

  test('of several series together, and of some of them', () => {
    const one = scrape(10, [...histogram([0, 0, 0, 0]), ...histogram([0, 0, 0, 0], 'b')]);
    const two = scrape(12, [...histogram([10, 10, 10, 10]), ...histogram([0, 0, 10, 10], 'b')]);
    const span = Span.between(one, two)!;
    expect(span.quantile(0.5, 'h')).toBeCloseTo(0.001);
    expect(span.quantile(0.5, 'h', ({ of }) => of === 'b')).toBeCloseTo(0.055);
    expect(span.quantile(0.5, 'other')).toBeUndefined();
  });
});

describe('for people', () => {
  test.each([
    [undefined, 'rate', '–'],
    [0, 'count', '0'],
    [12_345, 'count', '12.3K'],
    [0.5, 'rate', '0.5/s'],
    [0.00025, 'seconds', '250 µs'],
    [0.0123, 'seconds', '12.3 ms'],
    [2.5, 'seconds', '2.5 s'],
    [63_434_752, 'bytes', '60.5 MiB'],
    [3 * 2 ** 30, 'bytes', '3 GiB'],
    [0.034, 'cores', '3.4 %'],
  ] as const)('%d %s is %s', (value, unit, words) => expect(shown(value, unit)).toBe(words));

  test('the top of an axis is round, and has room', () => {
    expect([0, 3, 5, 11, 41, 99, 100, 101].map((most) => top(most, 'count'))).toEqual([4, 4, 6, 20, 60, 100, 100, 200]);
    expect(top(0.0003, 'seconds')).toBeCloseTo(0.001);
    expect(top(0.0123, 'seconds')).toBeCloseTo(0.02);
    expect(top(63_434_752, 'bytes')).toBe(80 * 2 ** 20);
    expect(top(0.001, 'cores')).toBeCloseTo(0.1);
  });
});
