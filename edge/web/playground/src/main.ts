// The playground: pick a protocol and two people, and see both sides. `#therapy` shows both, `#therapy/123` one alone, and
// `#live` what the process does.
import { Calls } from './calls.js';
import { element } from './dom.js';
import { Live } from './live/view.js';
import { PROTOCOLS, fetchWorld, type Person, type ProtocolName, type World } from './people.js';
import { openSide, type Side } from './side.js';
import { somebodyElse } from './somebody.js';

const tabs = document.getElementById('protocols')!;
const stage = document.getElementById('sides')!;
const others = document.getElementById('others')!;
const hint = document.getElementById('hint')!;
const operators = document.querySelector<HTMLAnchorElement>('#operators a')!;
const live = new Live(document.getElementById('live')!);

/** Who is on the left and on the right of each protocol. */
const chosen = new Map<ProtocolName, [left: string, right: string]>();
let open: Side[] = [];
/** The place that `open` is of. */
let shown: string | undefined;

function place(): { protocol: ProtocolName; alone: string | undefined } {
  const [protocol, alone] = decodeURIComponent(location.hash.slice(1)).split('/');
  return { protocol: PROTOCOLS.find((name) => name === protocol) ?? 'consultation', alone };
}

function choice(world: World, person: Person, label: string, choose: (id: string) => void): HTMLElement {
  const select = element('select', { aria: { label } });
  for (const other of world.people.filter(({ protocol }) => protocol === person.protocol)) {
    select.append(element('option', { value: other.id, selected: other.id === person.id }, `${other.name}, ${other.role}`));
  }
  select.onchange = () => choose(select.value);
  return select;
}

/** Shows the part of the page that the URL names. Whoever chats goes on while operators look. */
function turn(world: World | undefined): void {
  const [, name, token] = /^#([^/]*)\/?([^]*)$/.exec(location.hash) ?? [];
  const isLive = name === 'live';
  for (const part of [hint, stage, others]) part.hidden = isLive;
  for (const tab of [...tabs.querySelectorAll('a'), operators]) {
    if (tab.hash === `#${isLive ? 'live' : place().protocol}`) tab.setAttribute('aria-current', 'page');
    else tab.removeAttribute('aria-current');
  }
  if (isLive && token) {
    // Not to be seen, or kept in the history.
    history.replaceState(null, '', '#live');
    live.use(token);
  }
  live.show(isLive);
  if (world && !isLive && shown !== location.hash) void begin(world);
}

/** The calls are listened to before the first socket is opened, and not where none is. */
async function begin(world: World): Promise<void> {
  if (world.calls) await (calls ??= new Calls()).ready;
  if (shown !== location.hash && !location.hash.startsWith('#live')) show(world);
}

function show(world: World): void {
  const { protocol, alone } = place();
  shown = location.hash;
  for (const side of open) side.close();
  open = [];
  document.body.classList.toggle('alone', alone !== undefined);
  const people = world.people.filter((person) => person.protocol === protocol);
  const byId = (id: string | undefined): Person | undefined => people.find((person) => person.id === id);
  let [left, right] = chosen.get(protocol) ?? [];
  left = (byId(left) ?? people[0])?.id;
  right = (byId(right) ?? people[1] ?? people[0])?.id;
  const sides: [Person, Person | undefined, string, (id: string) => void][] = [];
  if (alone !== undefined) {
    const person = byId(alone) ?? people[0];
    const choose = (id: string): void => void (location.hash = `${protocol}/${encodeURIComponent(id)}`);
    if (person) sides.push([person, people.find((other) => other.id !== person.id), 'Who am I?', choose]);
  } else if (left && right) {
    const set = (pair: [string, string]): void => {
      chosen.set(protocol, pair);
      show(world);
    };
    sides.push([byId(left)!, byId(right), 'On the left', (id) => set([id, right!])]);
    sides.push([byId(right)!, byId(left), 'On the right', (id) => set([left!, id])]);
  }
  open = sides.map(([person, partner, label, choose]) => {
    const href = `#${protocol}/${encodeURIComponent(person.id)}`;
    const window = element('a', { href, target: '_blank', rel: 'noopener', className: 'own-window' }, 'Own window', element('span', { className: 'unseen' }, ` of ${person.name}`));
    return openSide(person, partner, { world, calls }, choice(world, person, label, choose), window);
  });
  stage.replaceChildren(...open.map(({ root }) => root));
  if (open.length === 0) stage.append(element('p', {}, 'Nobody is known here yet: add two people below.'));
  // The same person on both sides would be two elements of one name.
  stage.querySelectorAll('.side').forEach((side, index, all) => {
    if (index > 0 && side.id === all[0]!.id) side.id += '-again';
  });
}

for (const protocol of PROTOCOLS) tabs.append(element('a', { href: `#${protocol}` }, protocol));

let world: World | undefined;
let calls: Calls | undefined;
window.addEventListener('hashchange', () => turn(world));
turn(world);
try {
  const known = await fetchWorld();
  others.append(
    somebodyElse(known, (protocol) => {
      if (place().protocol === protocol) show(known);
      else location.hash = protocol;
    }),
  );
  world = known;
  turn(world);
} catch (error) {
  stage.replaceChildren(element('p', { role: 'alert' }, `The server does not say who is there: ${String(error)}. Load the page again.`));
}
