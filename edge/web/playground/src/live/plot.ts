import { element, shape } from '../dom.js';
import type { Values } from './rates.js';
import { shown, top, type Unit } from './units.js';

/** How much of the past is shown, in seconds. */
export const SHOWN_S = 120;
/** Lines of one plot; what comes later is added up in one more. */
const LINES_MAX = 6;
const OTHERS = 'others';
const [WIDTH, HEIGHT] = [320, 124];
const INSIDE = { left: 46, right: WIDTH - 4, top: 8, bottom: HEIGHT - 16 };
const SLIDE_MS = 400;

interface Line {
  points: { at: number; value: number | undefined }[];
  path: SVGElement;
  now: HTMLElement;
  peak: HTMLElement;
}

const stillness = matchMedia('(prefers-reduced-motion: reduce)');

/** Some lines over the last two minutes, and beneath them a table of what they are now. */
export class Plot {
  readonly root: HTMLElement;
  private readonly lines = new Map<string, Line>();
  private readonly drawing: SVGElement;
  private readonly paths = shape('g', {});
  private readonly marks = shape('path', { class: 'mark' });
  private readonly scale = [1, 0.5, 0].map((part) => shape('text', { x: INSIDE.left - 5, y: y(part) + 3.5, class: 'end' }));
  private readonly rows = element('tbody');
  private readonly nothing = element('p', { className: 'nothing' });
  /** When the process began anew. */
  private restarts: number[] = [];
  /** The last moment of which something could be said. */
  private last: number | undefined;

  constructor(
    readonly title: string,
    private readonly unit: Unit,
    note: string,
  ) {
    this.drawing = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': `${title}, the last two minutes` });
    const text = (words: string, attributes: Record<string, string | number>): SVGElement => {
      const made = shape('text', { y: HEIGHT - 3, ...attributes });
      made.textContent = words;
      return made;
    };
    const frame = shape('clipPath', { id: `frame-of-${title.replace(/\W+/g, '-')}` });
    frame.append(shape('rect', { x: INSIDE.left, y: 0, width: INSIDE.right - INSIDE.left, height: INSIDE.bottom + 1 }));
    const inside = shape('g', { 'clip-path': `url(#${frame.id})` });
    this.paths.append(this.marks);
    inside.append(this.paths);
    this.drawing.append(
      frame,
      shape('path', { class: 'grid', d: [1, 0.5, 0].map((part) => `M${INSIDE.left} ${y(part)}H${INSIDE.right}`).join('') }),
      ...this.scale,
      text('2 min ago', { x: INSIDE.left }),
      text('now', { x: INSIDE.right, class: 'end' }),
      inside,
    );
    const head = element('tr', {}, element('th', { scope: 'col' }, element('span', { className: 'unseen' }, 'of')), ...['now', 'highest'].map((words) => element('th', { scope: 'col' }, words)));
    const table = element('table', {}, element('caption', { className: 'unseen' }, title), element('thead', {}, head), this.rows);
    this.nothing.textContent = note;
    this.root = element('section', { className: 'plot', aria: { label: title } }, element('h3', {}, title), this.drawing as unknown as HTMLElement, table, this.nothing);
  }

  /** What is now; nothing where it cannot be said, which is a gap. */
  add(at: number, values: Values | undefined): void {
    const now: Values = new Map();
    for (const [name, value] of values ?? []) {
      const line = this.lines.has(name) || this.lines.size < LINES_MAX ? name : OTHERS;
      now.set(line, (now.get(line) ?? 0) + value);
      if (!this.lines.has(line)) this.lines.set(line, this.line(line));
    }
    this.last = values && at;
    for (const [name, { points }] of this.lines) {
      points.push({ at, value: now.get(name) });
      while (points[0]!.at < at - SHOWN_S * 1.1) points.shift();
    }
    this.restarts = this.restarts.filter((restart) => restart > at - SHOWN_S);
  }

  /** The process began anew. */
  mark(at: number): void {
    this.restarts.push(at);
  }

  /** Draws; what was drawn `seconds` ago slides to its place. */
  draw(now: number, seconds: number): void {
    const values = [...this.lines.values()].flatMap(({ points }) => points.map(({ value }) => value ?? 0));
    const most = top(Math.max(0, ...values), this.unit);
    this.scale.forEach((text, index) => (text.textContent = index === 2 ? '0' : shown(most * (1 - index / 2), this.unit)));
    this.marks.setAttribute('d', this.restarts.map((at) => `M${x(at, now)} ${INSIDE.top}V${INSIDE.bottom}`).join(''));
    for (const { points, path, now: last, peak } of this.lines.values()) {
      let [d, pen] = ['', 'M'];
      for (const { at, value } of points) {
        if (value === undefined) pen = 'M';
        else {
          // One that stands alone is a dot.
          d += `${pen}${x(at, now)} ${y(value / most)}${pen === 'M' ? 'h.1' : ''}`;
          pen = 'L';
        }
      }
      path.setAttribute('d', d);
      const known = points.flatMap(({ value }) => (value === undefined ? [] : [value]));
      last.textContent = shown(points.at(-1)!.value, this.unit);
      peak.textContent = shown(known.length > 0 ? Math.max(...known) : undefined, this.unit);
    }
    this.nothing.hidden = this.lines.size > 0;
    this.rows.parentElement!.hidden = this.lines.size === 0;
    const slide = (seconds / SHOWN_S) * (INSIDE.right - INSIDE.left);
    if (stillness.matches || seconds <= 0 || seconds > SHOWN_S / 10) return;
    this.paths.animate([{ transform: `translateX(${slide}px)` }, { transform: 'none' }], { duration: SLIDE_MS, easing: 'ease-out' });
  }

  private line(name: string): Line {
    const look = `line line-${name === OTHERS ? 'others' : this.lines.size}`;
    const path = shape('path', { class: look });
    this.paths.append(path);
    const swatch = shape('svg', { class: 'swatch', viewBox: '0 0 20 6', 'aria-hidden': 'true' });
    swatch.append(shape('path', { class: look, d: 'M0 3H20' }));
    const [now, peak] = [element('td'), element('td')];
    this.rows.append(element('tr', { data: { of: name } }, element('th', { scope: 'row' }, swatch as unknown as HTMLElement, name), now, peak));
    // A rate that is there for the first time was 0 until now.
    const points = this.unit === 'rate' && this.last !== undefined ? [{ at: this.last, value: 0 }] : [];
    return { points, path, now, peak };
  }
}

const x = (at: number, now: number): string => (INSIDE.right - ((now - at) / SHOWN_S) * (INSIDE.right - INSIDE.left)).toFixed(1);
const y = (part: number): number => Math.round((INSIDE.bottom - part * (INSIDE.bottom - INSIDE.top)) * 10) / 10;
