import type { Inbox, Roster } from 'switchboard-client/state';
import { atNextFrame, element } from './dom.js';

const SHOWN_MAX = 20;

/** Notifications, newest first, with a badge for those that are unread. */
export function inboxView(inbox: Inbox, who: string): HTMLElement {
  const badge = element('span', { className: 'badge', aria: { live: 'polite' } });
  const list = element('ul', { className: 'news', tabIndex: 0, aria: { label: `Notifications of ${who}` } });
  const draw = atNextFrame(() => {
    const { notifications, unreadCount } = inbox.getSnapshot();
    badge.replaceChildren(String(unreadCount), element('span', { className: 'unseen' }, ' unread'));
    badge.dataset.count = String(unreadCount);
    const items = notifications.slice(0, SHOWN_MAX).map(({ id, title, message, is_read }) => {
      const button = element('button', { type: 'button' }, 'Mark read');
      button.onclick = () => {
        inbox.markRead(id);
        // The button goes: the keyboard stays in the list.
        list.focus();
      };
      return element('li', { className: is_read ? '' : 'unread' }, element('span', {}, `${title}. ${message}`), !is_read && button);
    });
    list.replaceChildren(...items);
    if (items.length === 0) list.append(element('li', {}, 'None since this page is open.'));
  });
  inbox.subscribe(draw);
  draw();
  return element('section', { className: 'extra', aria: { label: 'Notifications' } }, element('h3', {}, 'Notifications ', badge), list);
}

/** Who is online. */
export function rosterView(roster: Roster, who: string): HTMLElement {
  const list = element('ul', { className: 'here', aria: { label: `Online, as ${who} sees it`, live: 'polite' } });
  const draw = atNextFrame(() => {
    const { online } = roster.getSnapshot();
    const names = [...online].map(([id, name]) => element('li', { data: { user: id } }, name));
    list.replaceChildren(...names);
    if (names.length === 0) list.append(element('li', { className: 'nobody' }, 'Nobody else.'));
  });
  roster.subscribe(draw);
  draw();
  return element('section', { className: 'extra', aria: { label: 'Presence' } }, element('h3', {}, 'Online'), list);
}
