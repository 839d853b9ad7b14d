import {
  createChatWebSocket,
  createClinicChatWebSocket,
  createLocationWebSocket,
  createMentoringChatWebSocket,
  createMobileChatWebSocket,
  createNotificationWebSocket,
  createPresenceWebSocket,
  createTherapyChatWebSocket,
  type Options,
  type Socket,
  type Status,
} from 'switchboard-client';
import { Conversation, Inbox, Position, Roster, type AnyChatSocket } from 'switchboard-client/state';
import type { Calls } from './calls.js';
import { chatView } from './chat.js';
import { element } from './dom.js';
import { mapView } from './map.js';
import { Network } from './network.js';
import { inboxView, rosterView } from './people-here.js';
import type { Person, World } from './people.js';
import { Wire } from './wire.js';

const STATUS: Record<Status, string> = {
  connecting: 'connecting …',
  connected: 'connected',
  waiting: 'not connected, tries again',
  stopped: 'closed',
};

/** One person's end of a conversation, with everything else that this person's sockets tell. */
export interface Side {
  root: HTMLElement;
  close(): void;
}

function chatSocket(person: Person, [id = '', second = '']: string[], options: Options): AnyChatSocket {
  const token = person.token ?? '';
  switch (person.protocol) {
    case 'consultation':
      return createChatWebSocket(id, token, options);
    case 'therapy':
      return createTherapyChatWebSocket(id, second, token, options);
    case 'clinic':
      return createClinicChatWebSocket(id, token, { ...options, me: person.role });
    case 'mobile':
      return createMobileChatWebSocket(id, person.device_id ? { deviceId: person.device_id } : { token }, options);
    case 'mentoring':
      return createMentoringChatWebSocket(cookie(person, id), options);
  }
}

/** Lets the browser send the person's session cookie, to this person's URL alone; where that is. */
function cookie(person: Person, id: string): string {
  const conversation = person.role === 'student' ? 'my-conversation' : id;
  const path = person.role === 'student' ? conversation : `conversations/${id}`;
  if (person.session) {
    document.cookie = `sessionid=${person.session}; path=/ws/chat/${path}/; SameSite=Strict`;
    // The browser writes it in its own time, but before it answers what there is; only then may the socket be dialled.
    void document.cookie;
  }
  return conversation;
}

/** Opens a person's sockets and shows them. `partner` is whose presence is looked at. */
export function openSide(person: Person, partner: Person | undefined, { world, calls }: { world: World; calls: Calls | undefined }, choice: HTMLElement, ownWindow: HTMLElement): Side {
  const wire = new Wire(person.name, calls !== undefined);
  const called = calls?.follow((call) => wire.called(call));
  const network = new Network(called?.name);
  const options: Options = { WebSocket: network.WebSocket, after: '@0' };
  const conversation = new Conversation(chatSocket(person, world.conversations[person.protocol] ?? [], options));
  const sockets: Socket[] = [];
  const follow = <S extends Socket<any, any>>(name: string, socket: S): S => {
    wire.follow(name, socket as Socket);
    sockets.push(socket as Socket);
    return socket;
  };
  follow('chat', conversation.socket as Socket);

  const status = element('span', { className: 'status', role: 'status' });
  const showStatus = (): void => {
    const { ended } = conversation.socket;
    const now = conversation.socket.status;
    status.textContent = now === 'stopped' && ended ? `closed: ${ended.code} ${ended.reason}` : STATUS[now];
    status.dataset.status = now;
  };
  conversation.socket.onStatus(showStatus);
  (conversation.socket as Socket).onDisconnect(showStatus);
  showStatus();

  const partnerDot = element('span', { className: 'partner' });
  const showPartner = (isHere: boolean): void => {
    partnerDot.dataset.here = String(isHere);
    partnerDot.textContent = partner ? `${partner.name} is ${isHere ? 'here' : 'away'}` : '';
  };

  const extras: HTMLElement[] = [];
  if (person.protocol === 'consultation' && person.token) {
    const roster = new Roster(follow('presence', createPresenceWebSocket(person.token, options)));
    const inbox = new Inbox(follow('notifications', createNotificationWebSocket(person.token, options)));
    roster.subscribe(() => showPartner(roster.getSnapshot().online.has(partner?.id ?? '')));
    showPartner(false);
    extras.push(inboxView(inbox, person.name), rosterView(roster, person.name));
  }
  if (person.protocol === 'therapy' && person.token) {
    const [customer = '', therapist = ''] = world.conversations.therapy ?? [];
    const position = new Position(follow('location', createLocationWebSocket(customer, therapist, person.token, options)));
    extras.push(mapView(position, person.role === 'therapist'));
  }
  if (person.protocol === 'mobile') {
    // Whoever was there before is not told of: nothing is known until the partner comes, goes or does something.
    let isKnown = false;
    conversation.subscribe(() => {
      const isHere = conversation.getSnapshot().present.includes(partner?.id ?? '');
      isKnown ||= isHere;
      if (isKnown) showPartner(isHere);
    });
  }

  const canType = person.protocol === 'consultation' || person.protocol === 'mobile';
  const chat = chatView(conversation, person.name, canType);
  const cable = element('input', { type: 'checkbox', checked: true, role: 'switch' });
  cable.onchange = () => {
    network.set(cable.checked);
    // As when a browser is online again: at once.
    if (cable.checked) for (const socket of sockets) socket.connect();
  };

  const unread = element('span', { className: 'badge', title: 'unread messages' });
  const root = element(
    'section',
    { className: 'side', id: `side-${person.id}`, aria: { label: person.name } },
    element('header', {}, choice, status),
    element('div', { className: 'line' }, partnerDot, element('span', {}, 'Unread ', unread), element('label', {}, cable, ' Network'), ownWindow),
    ...chat,
    ...extras,
    ...wire.roots,
  );
  // What is looked at is read: where the keyboard or the pointer is.
  let isLookedAt = false;
  const look = (now: boolean) => () => {
    isLookedAt = now;
    showUnread();
  };
  const showUnread = (): void => {
    if (isLookedAt && document.visibilityState === 'visible') conversation.markRead();
    unread.textContent = unread.dataset.count = String(conversation.getSnapshot().unread);
  };
  root.addEventListener('focusin', look(true));
  root.addEventListener('focusout', look(false));
  root.addEventListener('pointerenter', look(true));
  root.addEventListener('pointerleave', () => look(root.contains(document.activeElement))());
  conversation.subscribe(showUnread);
  showUnread();
  const close = (): void => {
    for (const socket of sockets) socket.close();
    called?.end();
  };
  return { root, close };
}
