import { element } from './dom.js';
import { PROTOCOLS, type ProtocolName, type World } from './people.js';

/** What the URL of each protocol's conversation takes. */
const IDS: Record<ProtocolName, string> = {
  consultation: 'consultation id',
  therapy: 'customer id, therapist id',
  clinic: 'chat id',
  mobile: 'conversation number',
  mentoring: 'conversation number',
};

function field(label: string, input: HTMLInputElement | HTMLSelectElement): HTMLElement {
  return element('label', {}, label, input);
}

/** A form for a person whom the server did not name: with a credential of one's own. */
export function somebodyElse(world: World, added: (protocol: ProtocolName) => void): HTMLElement {
  const protocol = element('select', {}, ...PROTOCOLS.map((name) => element('option', { value: name }, name)));
  const ids = element('input', { required: true, autocomplete: 'off' });
  const role = element('input', { autocomplete: 'off', placeholder: 'client, therapist, patient, student …' });
  const credential = element('input', { required: true, autocomplete: 'off', type: 'password' });
  const hint = (): void => {
    ids.placeholder = IDS[protocol.value as ProtocolName];
    credential.placeholder = { mobile: 'token or device id', mentoring: 'sessionid' }[protocol.value] ?? 'token';
  };
  protocol.onchange = hint;
  hint();
  const form = element(
    'form',
    {},
    field('Protocol', protocol),
    field('Conversation', ids),
    field('Role', role),
    field('Credential', credential),
    element('button', {}, 'Add'),
  );
  form.onsubmit = (event) => {
    event.preventDefault();
    const name = protocol.value as ProtocolName;
    const given = credential.value.trim();
    const isToken = given.split('.').length === 3;
    const kind = isToken ? { token: given } : name === 'mentoring' ? { session: given } : { device_id: given };
    const id = `somebody-${world.people.length + 1}`;
    world.people.push({ protocol: name, id, name: `Somebody ${world.people.length + 1}`, role: role.value.trim() || 'guest', ...kind });
    world.conversations[name] = ids.value.split(',').map((part) => part.trim());
    credential.value = '';
    added(name);
  };
  return element('details', { className: 'somebody', open: world.people.length === 0 }, element('summary', {}, 'Somebody else, by a credential of yours'), form);
}
