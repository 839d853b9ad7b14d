/** One value of a metric. */
export interface Sample {
  labels: Record<string, string>;
  value: number;
}

/** A metric as the text describes it; its samples have names that begin with its own. */
export interface Family {
  type: string;
  help: string;
  unit: string;
}

/** What a process exported at one moment. */
export interface Exposition {
  families: Map<string, Family>;
  /** By the samples' own names: `x_total`, `x_bucket`, `x_sum`, `x_count`, `x_created`. */
  samples: Map<string, Sample[]>;
}

const ESCAPED: Record<string, string> = { '\\\\': '\\', '\\"': '"', '\\n': '\n' };
const META = /^# (HELP|TYPE|UNIT) ([a-zA-Z_:][a-zA-Z0-9_:]*)(?: (.*))?$/;
const NAME = /[a-zA-Z_:][a-zA-Z0-9_:]*/y;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/y;
/** A value, perhaps a time, perhaps an example with labels of its own. */
const REST = / (\S+)(?: -?[\d.]+(?:[eE][-+]?\d+)?)?(?: # \{.*\} \S+(?: \S+)?)?$/y;
const NUMBER = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;

/** Reads OpenMetrics 1.0 text. What is not, or was cut off, throws. */
export function parse(text: string): Exposition {
  const body = /^(?:([^]*)\n)?# EOF\n?$/.exec(text);
  if (!body) throw new Error('the metrics have no end');
  const read: Exposition = { families: new Map(), samples: new Map() };
  for (const line of body[1]?.split('\n') ?? []) {
    if (!(line.startsWith('#') ? describe(read, line) : sample(read, line))) throw new Error(`not of the format: ${line}`);
  }
  return read;
}

function describe({ families }: Exposition, line: string): boolean {
  const [, what, name, rest = ''] = META.exec(line) ?? [];
  if (!what || !name) return false;
  const family = families.get(name) ?? { type: 'unknown', help: '', unit: '' };
  if (what === 'HELP') family.help = unescaped(rest);
  else if (what === 'TYPE') family.type = rest;
  else family.unit = rest;
  families.set(name, family);
  return true;
}

function sample({ samples }: Exposition, line: string): boolean {
  const at = (pattern: RegExp, index: number): RegExpExecArray | null => {
    pattern.lastIndex = index;
    return pattern.exec(line);
  };
  const name = at(NAME, 0)?.[0];
  if (!name) return false;
  const labels: Record<string, string> = {};
  let index = name.length;
  if (line[index] === '{') {
    do {
      index += 1;
      if (line[index] === '}') break;
      const label = at(LABEL, index);
      if (!label) return false;
      labels[label[1]!] = unescaped(label[2]!);
      index = LABEL.lastIndex;
    } while (line[index] === ',');
    if (line[index] !== '}') return false;
    index += 1;
  }
  const value = number(at(REST, index)?.[1]);
  if (value === undefined) return false;
  const known = samples.get(name);
  if (known) known.push({ labels, value });
  else samples.set(name, [{ labels, value }]);
  return true;
}

const unescaped = (text: string): string => text.replace(/\\[\\"n]/g, (escaped) => ESCAPED[escaped]!);

function number(text = ''): number | undefined {
  if (NUMBER.test(text)) return Number(text);
  const infinite = /^([-+]?)inf(?:inity)?$/i.exec(text);
  if (infinite) return infinite[1] === '-' ? -Infinity : Infinity;
  return /^nan$/i.test(text) ? NaN : undefined;
}
