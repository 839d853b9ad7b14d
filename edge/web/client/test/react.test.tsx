// @vitest-environment happy-dom
import { StrictMode, act, type ReactNode } from 'react';
import { createRoot } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createClinicChatWebSocket, type Options, type TokenSource } from '../src/index.js';
import {
  SwitchboardProvider,
  useChatWebSocket,
  useConversation,
  useLocation,
  useNotificationWebSocket,
  usePresence,
  type Chat,
} from '../src/react.js';
import { FakeWebSocket, token } from './fake.js';

const CLARA = token({ user_id: '801' });
const OPTIONS: Options = { url: 'wss://api.example.com', WebSocket: FakeWebSocket };

let unmount: (() => void) | undefined;
beforeEach(() => {
  (globalThis as any).IS_REACT_ACT_ENVIRONMENT = true;
  FakeWebSocket.all = [];
  vi.useFakeTimers();
});
afterEach(() => {
  unmount?.();
  unmount = undefined;
  vi.useRealTimers();
});

/** Renders, and gives what shows and a way to render something else. */
function render(node: ReactNode): { text: () => string; again: (other: ReactNode) => void; unmount: () => void } {
  const element = document.createElement('div');
  const root = createRoot(element);
  const again = (other: ReactNode): void => act(() => root.render(other));
  again(node);
  unmount = () => act(() => root.unmount());
  return { text: () => element.textContent!, again, unmount: () => { unmount!(); unmount = undefined; } };
}

const HELLO = { type: 'connection_established', message: 'Connected to chat', consultation_id: 'c' };
const told = (id: string, content: string, more: object = {}): object => ({
  type: 'chat_message',
  data: { id, sender_id: '802', sender_name: 'Ed', content, created_at: '2026-01-01T00:00:00Z', message_type: 'text' },
  ...more,
});
const says = (...frames: object[]): void => act(() => frames.forEach((frame) => FakeWebSocket.last.says(frame)));

test("the document's own component", () => {
  let chat!: Chat;
  function ChatComponent({ consultationId }: { consultationId: string }): ReactNode {
    chat = useChatWebSocket(consultationId);
    const { isConnected, messages, typing } = chat;
    return (
      <div>
        {isConnected ? 'Connected' : 'Disconnected'}
        {messages.map((msg) => (
          <div key={msg.key}>{` ${msg.content} ${msg.isOwn ? msg.status : msg.sender}`}</div>
        ))}
        {typing.map((name) => ` ${name} types`)}
      </div>
    );
  }
  const app = (id: string): ReactNode => (
    <SwitchboardProvider token={CLARA} options={OPTIONS}>
      <ChatComponent consultationId={id} />
    </SwitchboardProvider>
  );
  const page = render(app('c'));
  expect(page.text()).toBe('Disconnected');
  act(() => FakeWebSocket.last.open());
  says(HELLO, told('1', 'Hi'));
  expect(page.text()).toBe('Connected Hi Ed');
  expect(chat.unread).toBe(1);
  const key = chat.messages[0]!.key;
  act(() => void chat.sendMessage('Hello!'));
  expect(page.text()).toBe('Connected Hi Ed Hello! sent');
  const own = FakeWebSocket.last.sent.at(-1).client_message_id;
  says({ type: 'typing_indicator', user_id: '802', user_name: 'Ed', is_typing: true });
  expect(page.text()).toContain('Ed types');
  says(told('2', 'Hello!', { client_message_id: own }), told('3', 'Again'));
  expect(page.text()).toBe('Connected Hi Ed Hello! stored Again Ed');
  expect([chat.messages[0]!.key, chat.messages[1]!.key]).toEqual([key, own]);
  act(() => chat.markRead());
  expect([chat.unread, FakeWebSocket.last.sent.at(-1)]).toEqual([0, { type: 'read_receipt', message_id: '3' }]);
  says({ type: 'read_receipt', message_id: '3', user_id: '802' });
  expect(page.text()).toContain('Hello! read');
  // Who typed and is not heard of again no longer does.
  says({ type: 'typing_indicator', user_id: '802', user_name: 'Ed', is_typing: true });
  act(() => void vi.advanceTimersByTime(6_000));
  expect(page.text()).not.toContain('types');
  // Another consultation is another socket.
  const [first] = FakeWebSocket.all;
  expect(first!.readyState).toBe(1);
  page.again(app('d'));
  expect([first!.closedWith, FakeWebSocket.all.length, page.text()]).toEqual([1000, 2, 'Disconnected']);
});

test('mounted twice, as React does while one develops, one socket is left', () => {
  function Chat(): ReactNode {
    return <p>{useChatWebSocket('c', CLARA, OPTIONS).status}</p>;
  }
  const page = render(
    <StrictMode>
      <Chat />
    </StrictMode>,
  );
  // Not before it has opened, of which browsers would complain.
  const [first] = FakeWebSocket.all;
  expect([FakeWebSocket.all.length, first!.closedWith]).toEqual([2, undefined]);
  first!.open();
  expect(first!.closedWith).toBe(1000);
  act(() => FakeWebSocket.last.open().says(HELLO));
  expect(page.text()).toBe('connected');
  page.unmount();
  expect(FakeWebSocket.last.closedWith).toBe(1000);
  expect(vi.getTimerCount()).toBe(0);
});

test('a token function that is another one at every render keeps its socket, and the newest is asked', async () => {
  function Chat({ give }: { give: TokenSource }): ReactNode {
    return <p>{useChatWebSocket('c', give, OPTIONS).status}</p>;
  }
  const page = render(<Chat give={() => 'one'} />);
  await act(() => vi.advanceTimersByTimeAsync(0));
  page.again(<Chat give={() => 'two'} />);
  expect(FakeWebSocket.all.map(({ query }) => query.token)).toEqual(['one']);
  act(() => FakeWebSocket.last.open().says(HELLO).ends());
  await act(() => vi.advanceTimersByTimeAsync(2_000));
  expect(FakeWebSocket.all.map(({ query }) => query.token)).toEqual(['one', 'two']);
  // A token that is given as such is another socket when it is another token.
  page.again(<Chat give="three" />);
  expect(FakeWebSocket.last.query.token).toBe('three');
});

test('without a token or an id there is no socket', () => {
  function Nothing(): ReactNode {
    const chat = useChatWebSocket(undefined, CLARA, OPTIONS);
    const other = useChatWebSocket('c', undefined, OPTIONS);
    const location = useLocation(undefined, 1, CLARA, OPTIONS);
    chat.sendTyping();
    chat.markRead();
    return <p>{`${chat.sendMessage('x')}${other.isConnected} ${location.isConnected}`}</p>;
  }
  expect(render(<Nothing />).text()).toBe('false false');
  expect(FakeWebSocket.all).toEqual([]);
});

test('notifications, presence, location', () => {
  let markRead!: (id: string) => void;
  let report!: (latitude: number, longitude: number) => void;
  function Page(): ReactNode {
    const inbox = useNotificationWebSocket();
    const { online, isOnline } = usePresence();
    const location = useLocation(123, 456);
    markRead = inbox.markRead;
    report = location.report;
    return (
      <p>
        {`${inbox.unreadCount} ${inbox.notifications.map(({ title, is_read }) => `${title}${is_read ? '' : '!'}`).join()} `}
        {`${[...online.values()].join()} ${isOnline('802')} ${location.position?.latitude ?? '-'}`}
      </p>
    );
  }
  const page = render(
    <SwitchboardProvider token={CLARA} options={OPTIONS}>
      <Page />
    </SwitchboardProvider>,
  );
  const [inbox, presence, location] = FakeWebSocket.all as [FakeWebSocket, FakeWebSocket, FakeWebSocket];
  act(() => FakeWebSocket.all.forEach((socket) => socket.open()));
  const data = { id: 'n', title: 'News', message: '', notification_type: '', is_read: false, created_at: '' };
  act(() => {
    inbox.says({ type: 'connection_established', message: '' }).says({ type: 'notification', data }).says({ type: 'unread_count', count: 3 });
    presence.says({ type: 'user_online', user_id: '802', user_name: 'Ed' }).says({ type: 'user_online', user_id: '9', user_name: 'Al' });
    location.says({ type: 'location', latitude: 52.5, longitude: 13.4, therapist_id: '456' });
  });
  expect(page.text()).toBe('3 News! Ed,Al true 52.5');
  act(() => {
    markRead('n');
    inbox.says({ type: 'unread_count', count: 2 });
    presence.says({ type: 'user_offline', user_id: '9' });
  });
  report(1, 2);
  expect(page.text()).toBe('2 News Ed true 52.5');
  expect([inbox.sent, location.sent]).toEqual([[{ type: 'mark_read', notification_id: 'n' }], [{ latitude: 1, longitude: 2 }]]);
  // Whoever went while the connection was broken is not there when it is back.
  act(() => presence.ends());
  act(() => void vi.advanceTimersByTime(1_000));
  act(() => FakeWebSocket.last.open());
  expect(page.text()).toContain('false');
});

test('any protocol', () => {
  function Clinic({ chatId }: { chatId: string }): ReactNode {
    const { messages, isConnected, sendMessage } = useConversation(
      () => createClinicChatWebSocket(chatId, CLARA, OPTIONS),
      [chatId],
    );
    return <button onClick={() => sendMessage('Hi')}>{`${isConnected} ${messages.map(({ content }) => content).join()}`}</button>;
  }
  const page = render(<Clinic chatId="c" />);
  act(() => FakeWebSocket.last.open());
  says({ message: { id: 'm', content: 'Hello', sender_type: 'professional', created_at: '' } });
  expect(page.text()).toBe('true Hello');
});

test('on a server nothing is opened', () => {
  function Chat(): ReactNode {
    return <p>{`${useChatWebSocket('c', CLARA, OPTIONS).status} ${usePresence(CLARA, OPTIONS).online.size}`}</p>;
  }
  expect(renderToString(<Chat />)).toBe('<p>connecting 0</p>');
  expect(FakeWebSocket.all).toEqual([]);
});
