import type { Position } from 'switchboard-client/state';
import { atNextFrame, element, shape } from './dom.js';

/** The middle of the map and how far it reaches from there, in degrees. */
const MIDDLE = { latitude: 52.5145, longitude: 13.3501 };
const REACH = { latitude: 0.0055, longitude: 0.009 };
const [WIDTH, HEIGHT] = [320, 200];
const TRAIL_MAX = 90;
/** How far a step goes. */
const STEP = 0.0005;

/** A place on the drawing; what lies beyond is at its border. */
function at(latitude: number, longitude: number): [x: number, y: number] {
  const x = (0.5 + (longitude - MIDDLE.longitude) / (2 * REACH.longitude)) * WIDTH;
  const y = (0.5 - (latitude - MIDDLE.latitude) / (2 * REACH.latitude)) * HEIGHT;
  return [Math.min(WIDTH - 8, Math.max(8, x)), Math.min(HEIGHT - 8, Math.max(8, y))];
}

/** A park, and a therapist who moves in it. `isTherapist` may move. */
export function mapView(position: Position, isTherapist: boolean): HTMLElement {
  const svg = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: 'map', role: 'img' });
  const ring = (latitude: number, longitude: number, kind: string): SVGElement => {
    const [rx, ry] = [(longitude / REACH.longitude / 2) * WIDTH, (latitude / REACH.latitude / 2) * HEIGHT];
    return shape('ellipse', { class: kind, cx: WIDTH / 2, cy: HEIGHT / 2, rx, ry });
  };
  svg.append(
    shape('rect', { class: 'town', width: WIDTH, height: HEIGHT }),
    ...[34, 92, 236, 290].map((x) => shape('path', { class: 'street', d: `M${x} 0 L${x - 12} ${HEIGHT}` })),
    ...[22, 178].map((y) => shape('path', { class: 'street', d: `M0 ${y} L${WIDTH} ${y - 8}` })),
    ring(0.005, 0.0062, 'park'),
    shape('path', { class: 'lake', d: 'M128 96 q20 -26 48 -12 q34 2 22 26 q-16 20 -44 12 q-34 2 -26 -26z' }),
    ring(0.004, 0.004, 'way'),
  );
  const trail = shape('polyline', { class: 'trail' });
  const dot = shape('circle', { class: 'therapist', r: 7 });
  svg.append(trail, dot);
  const words = element('p', { className: 'where' }, 'Where the therapist is, is not known yet.');
  svg.setAttribute('aria-label', words.textContent!);

  const points: string[] = [];
  const draw = atNextFrame(() => {
    const { position: here } = position.getSnapshot();
    if (!here) return;
    trail.setAttribute('points', points.join(' '));
    const [x, y] = at(here.latitude, here.longitude);
    dot.setAttribute('cx', String(x));
    dot.setAttribute('cy', String(y));
    // Not from the corner to the first place.
    requestAnimationFrame(() => dot.classList.add('moves'));
    words.textContent = `Therapist ${here.therapistId}: ${here.latitude.toFixed(5)}, ${here.longitude.toFixed(5)}`;
    svg.setAttribute('aria-label', words.textContent);
  });
  position.subscribe(() => {
    const { position: here } = position.getSnapshot();
    if (!here) return;
    points.push(at(here.latitude, here.longitude).join(','));
    if (points.length > TRAIL_MAX) points.shift();
    draw();
  });

  const parts: Node[] = [svg, words];
  if (isTherapist) {
    const step = (label: string, sign: string, north: number, east: number): HTMLElement => {
      const button = element('button', { type: 'button', aria: { label } }, sign);
      button.onclick = () => {
        const here = position.getSnapshot().position ?? MIDDLE;
        position.report(here.latitude + north * STEP, here.longitude + east * STEP);
      };
      return button;
    };
    const steps = [
      step('Move west', '←', 0, -1),
      step('Move north', '↑', 1, 0),
      step('Move south', '↓', -1, 0),
      step('Move east', '→', 0, 1),
    ];
    parts.push(element('div', { className: 'steps', role: 'group', aria: { label: 'Move' } }, ...steps));
  }
  return element('section', { className: 'extra', aria: { label: 'Map' } }, element('h3', {}, 'Location'), ...parts);
}
