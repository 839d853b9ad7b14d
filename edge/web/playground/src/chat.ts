import type { Conversation, Message, MessageStatus } from 'switchboard-client/state';
import { atNextFrame, element, isAtEnd } from './dom.js';

const SHOWN_MAX = 200;

const TICKS: Record<MessageStatus, [sign: string, words: string]> = {
  queued: ['◷', 'waits for a connection'],
  sent: ['○', 'on its way'],
  stored: ['✓', 'stored'],
  delivered: ['✓✓', 'delivered'],
  read: ['✓✓', 'read'],
  refused: ['!', 'refused'],
};

/** One side of a conversation: messages with ticks, who types, and a field to write in. */
export function chatView(conversation: Conversation, who: string, canType: boolean): HTMLElement[] {
  const list = element('ol', { className: 'messages', role: 'log', tabIndex: 0, aria: { label: `Messages of ${who}`, live: 'polite' } });
  const typing = element('p', { className: 'typing', aria: { live: 'polite' } });
  const input = element('input', {
    autocomplete: 'off',
    placeholder: 'Write a message',
    enterKeyHint: 'send',
    aria: { label: `Write as ${who}` },
  });
  const form = element('form', { className: 'write' }, input, element('button', {}, 'Send'));
  form.onsubmit = (event) => {
    event.preventDefault();
    if (!input.value.trim()) return;
    conversation.sendMessage(input.value);
    input.value = '';
  };
  if (canType) {
    input.oninput = () => conversation.sendTyping(input.value !== '');
    input.onblur = () => conversation.sendTyping(false);
  }

  const items = new Map<string, { message: Message; item: HTMLElement }>();
  const draw = atNextFrame(() => {
    const state = conversation.getSnapshot();
    const stays = isAtEnd(list);
    const shown = state.messages.slice(-SHOWN_MAX);
    const keys = new Set(shown.map(({ key }) => key));
    for (const [key, { item }] of items) {
      if (keys.has(key)) continue;
      item.remove();
      items.delete(key);
    }
    shown.forEach((message, index) => {
      let known = items.get(message.key);
      if (known?.message !== message) {
        const item = known?.item ?? element('li');
        item.className = message.isOwn ? 'own' : '';
        item.replaceChildren(...bubble(message));
        items.set(message.key, (known = { message, item }));
      }
      if (list.children[index] !== known!.item) list.insertBefore(known!.item, list.children[index] ?? null);
    });
    if (stays) list.scrollTop = list.scrollHeight;
    typing.textContent = state.typing.length > 0 ? `${state.typing.join(', ')} types …` : '';
  });
  conversation.subscribe(draw);
  draw();
  return [list, typing, form];
}

function bubble(message: Message): (Node | string)[] {
  const [sign, words] = TICKS[message.status];
  const tick = element('span', { className: 'tick', title: words, data: { status: message.status } }, element('span', { aria: { hidden: 'true' } }, sign), element('span', { className: 'unseen' }, words));
  const from = message.isOwn ? 'me' : message.sender;
  const parts: (Node | string)[] = [element('span', { className: 'unseen' }, `${from}: `), element('span', { className: 'text' }, message.content)];
  if (message.isOwn) parts.push(' ', tick);
  if (message.error) parts.push(element('span', { className: 'error' }, message.error));
  return parts;
}
