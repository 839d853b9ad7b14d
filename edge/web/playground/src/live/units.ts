/** In what a plot's values are. */
export type Unit = 'count' | 'rate' | 'seconds' | 'bytes' | 'cores';

const three = new Intl.NumberFormat('en', { maximumSignificantDigits: 3, notation: 'compact' });

/** A value for people; nothing is a dash. */
export function shown(value: number | undefined, unit: Unit): string {
  if (value === undefined) return '–';
  switch (unit) {
    case 'count':
      return three.format(value);
    case 'rate':
      return `${three.format(value)}/s`;
    case 'seconds':
      if (value < 0.001) return `${three.format(value * 1e6)} µs`;
      return value < 1 ? `${three.format(value * 1e3)} ms` : `${three.format(value)} s`;
    case 'bytes':
      return value < 2 ** 30 ? `${three.format(value / 2 ** 20)} MiB` : `${three.format(value / 2 ** 30)} GiB`;
    case 'cores':
      return `${three.format(value * 100)} %`;
  }
}

/** The least top of an axis. */
const LEAST: Record<Unit, number> = { count: 4, rate: 1, seconds: 0.001, bytes: 2 ** 20, cores: 0.1 };

/** The top of an axis on which `most` fits, of which the half is a round number, too. */
export function top(most: number, unit: Unit): number {
  const base = unit === 'bytes' ? 2 ** (most < 2 ** 30 ? 20 : 30) : 1;
  const wanted = Math.max(most, LEAST[unit]) / base;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 2, 4, 6, 8, 10].find((step) => step * power >= wanted * (1 - 1e-9)) ?? 10;
  return step * power * base;
}
