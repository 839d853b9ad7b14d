// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  createChatWebSocket,
  createClinicChatWebSocket,
  createLocationWebSocket,
  createMentoringChatWebSocket,
  createMobileChatWebSocket,
  createNotificationWebSocket,
  createPresenceWebSocket,
  createTherapyChatWebSocket,
  type ChatSocket,
  type Delivery,
  type Ended,
  type Options,
} from '../src/index.js';
import { FakeWebSocket, token } from './fake.js';

const CLARA = token({ user_id: '801' });
const open: { close(): void }[] = [];
/** Where chance comes down: at the longest pause. */
const CHANCE = 0.999_999;

beforeEach(() => {
  FakeWebSocket.all = [];
  vi.useFakeTimers({ now: new Date('2026-01-01T00:00:00Z') });
  vi.spyOn(Math, 'random').mockReturnValue(CHANCE);
});
afterEach(() => {
  for (const socket of open.splice(0)) socket.close();
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const OPTIONS: Options = { url: 'wss://api.example.com', WebSocket: FakeWebSocket };

function kept<T extends { close(): void }>(socket: T): T {
  open.push(socket);
  return socket;
}

function chat(options: Options = {}, source: Parameters<typeof createChatWebSocket>[1] = CLARA): ChatSocket {
  return kept(createChatWebSocket('c-1', source, { ...OPTIONS, ...options }));
}

const HELLO = { type: 'connection_established', message: 'Connected to chat', consultation_id: 'c-1' };

/** A chat that is connected. */
function connected(options: Options = {}): ChatSocket {
  const socket = chat(options);
  FakeWebSocket.last.open().says(HELLO);
  return socket;
}

let number = 0;
/** A message as the server tells it. */
function told(content: string, id = `m-${(number += 1)}`, more: object = {}): object {
  const data = { id, sender_id: '802', sender_name: 'Ed', content, created_at: '2026-01-01T00:00:00Z', message_type: 'text' };
  return { type: 'chat_message', data, ...more };
}

/** What a socket's messages came to. */
function deliveries(socket: ChatSocket): string[] {
  const seen: string[] = [];
  socket.onDelivery(({ frame, status }) => seen.push(`${String(frame.message)} ${status}`));
  return seen;
}

const messages = (socket: FakeWebSocket): string[] =>
  socket.sent.filter((frame) => frame.type === 'chat_message').map((frame) => frame.message);

describe('as the documents use it', () => {
  test('consultation', () => {
    const ws = chat();
    const heard: string[] = [];
    ws.onConnect(() => heard.push('connected'));
    ws.on('chat_message', (data) => heard.push(data.content));
    expect(FakeWebSocket.last.url).toBe(`wss://api.example.com/ws/chat/c-1/?token=${CLARA}&after=%40`);
    FakeWebSocket.last.open();
    expect(ws.status).toBe('connecting');
    FakeWebSocket.last.says(HELLO).says(told('Hi'));
    expect(heard).toEqual(['connected', 'Hi']);
    ws.send('chat_message', { message: 'Hello!' });
    expect(FakeWebSocket.last.sent).toMatchObject([{ type: 'chat_message', message: 'Hello!' }]);
    ws.send('read_receipt', { message_id: 'm' });
    expect(FakeWebSocket.last.sent.at(-1)).toEqual({ type: 'read_receipt', message_id: 'm' });
  });

  test('notifications and presence', () => {
    const inbox = kept(createNotificationWebSocket(CLARA, OPTIONS));
    expect(FakeWebSocket.last.url).toBe(`wss://api.example.com/ws/notifications/?token=${CLARA}`);
    FakeWebSocket.last.open().says({ type: 'connection_established', message: 'Connected to notifications' });
    const counts: number[] = [];
    inbox.on('unread_count', ({ count }) => counts.push(count));
    FakeWebSocket.last.says({ type: 'unread_count', count: 5 });
    expect(counts).toEqual([5]);
    inbox.send('mark_read', { notification_id: 'n' });
    expect(FakeWebSocket.last.sent).toEqual([{ type: 'mark_read', notification_id: 'n' }]);
    const presence = kept(createPresenceWebSocket(CLARA, OPTIONS));
    const online: string[] = [];
    presence.on('user_online', ({ user_name }) => online.push(user_name));
    FakeWebSocket.last.open().says({ type: 'user_online', user_id: '802', user_name: 'Ed' });
    expect([presence.status, online]).toEqual(['connected', ['Ed']]);
  });

  test('therapy', () => {
    const socket = kept(createTherapyChatWebSocket(123, 456, CLARA, OPTIONS));
    expect(FakeWebSocket.last.url).toContain('/ws/chat/123/456/?token=');
    FakeWebSocket.last.open();
    const id = socket.send('message', { message: 'Hello' });
    expect(FakeWebSocket.last.sent).toEqual([{ message: 'Hello', client_message_id: id }]);
    const location = kept(createLocationWebSocket(123, 456, CLARA, OPTIONS));
    expect(FakeWebSocket.last.url).toBe(`wss://api.example.com/ws/location/123/456/?token=${CLARA}`);
    location.send('location', { latitude: 1, longitude: 2 });
    location.send('location', { latitude: 3, longitude: 4 });
    FakeWebSocket.last.open();
    expect(FakeWebSocket.last.sent, 'of positions only the newest waits').toEqual([{ latitude: 3, longitude: 4 }]);
  });

  test('clinic', () => {
    const socket = kept(createClinicChatWebSocket('c', CLARA, OPTIONS));
    FakeWebSocket.last.open();
    const id = socket.send('message', { content: 'Hello', role: 'patient' });
    expect(FakeWebSocket.last.sent).toEqual([{ content: 'Hello', role: 'patient', client_message_id: id }]);
    const heard: string[] = [];
    socket.on('message', ({ message }) => heard.push(message.content));
    socket.on('error', ({ error }) => heard.push(error));
    const message = { id: 'm', content: 'Hi', sender_type: 'professional', created_at: '' };
    FakeWebSocket.last.says({ message }).says({ error: 'Invalid JSON' });
    expect(heard).toEqual(['Hi', 'Invalid JSON']);
  });

  test('mobile, as a device and as staff', () => {
    const device = kept(createMobileChatWebSocket(123, { deviceId: 'abc 1' }, OPTIONS));
    expect(FakeWebSocket.last.url).toBe('wss://api.example.com/ws/mobile/chat/123/?device_id=abc+1&after=%40');
    expect(device.me).toBe('abc 1');
    kept(createMobileChatWebSocket(123, { token: CLARA }, OPTIONS));
    expect(FakeWebSocket.last.query).toEqual({ token: CLARA, after: '@' });
  });

  test('mentoring', () => {
    kept(createMentoringChatWebSocket('my-conversation', OPTIONS));
    expect(FakeWebSocket.last.url).toBe('wss://api.example.com/ws/chat/my-conversation/?after=%40');
    const socket = kept(createMentoringChatWebSocket(123, OPTIONS));
    expect(FakeWebSocket.last.url).toBe('wss://api.example.com/ws/chat/conversations/123/?after=%40');
    FakeWebSocket.last.open().says({ type: 'connection_established', conversation_id: '123', room_group_name: 'chat_123' });
    socket.send('mark_read', { message_id: 101 });
    const id = socket.send('message', { message: 'Well done' });
    expect(FakeWebSocket.last.sent).toEqual([
      { type: 'mark_read', message_id: 101 },
      { message: 'Well done', client_message_id: id },
    ]);
  });

  test('an address of any spelling, and the token out of it', () => {
    for (const [url, begin] of [
      ['https://example.com/api/v1/', 'wss://example.com/api/v1/ws/presence/?token='],
      ['http://127.0.0.1:8000', 'ws://127.0.0.1:8000/ws/presence/?token='],
    ] as const) {
      kept(createPresenceWebSocket(CLARA, { ...OPTIONS, url }));
      expect(FakeWebSocket.last.url).toBe(begin + CLARA);
    }
    kept(createPresenceWebSocket(CLARA, { ...OPTIONS, credential: 'subprotocol' }));
    expect(FakeWebSocket.last.url).toBe('wss://api.example.com/ws/presence/');
    expect(FakeWebSocket.last.protocols).toEqual(['bearer', CLARA]);
    kept(createTherapyChatWebSocket('a/b', 'c?d', CLARA, OPTIONS));
    expect(FakeWebSocket.last.url).toContain('/ws/chat/a%2Fb/c%3Fd/');
  });

  test('without an address, the page is the address', () => {
    (globalThis as any).happyDOM.setURL('https://app.example.com/x');
    kept(createPresenceWebSocket(CLARA, { WebSocket: FakeWebSocket }));
    expect(FakeWebSocket.last.url).toBe(`wss://app.example.com/ws/presence/?token=${CLARA}`);
  });

  test('an address that is none is told, and not tried again', () => {
    class Picky extends FakeWebSocket {
      constructor(url: string) {
        super(new URL(url).href);
      }
    }
    const socket = chat({ url: 'not an address', WebSocket: Picky });
    expect(socket.status).toBe('stopped');
    expect(socket.ended).toMatchObject({ comeBack: 'no', reason: expect.stringContaining('URL') });
  });
});

describe('coming back', () => {
  test('pauses double up to the longest, half of each left to chance', () => {
    const socket = chat();
    const pauses: number[] = [];
    for (let attempt = 0; attempt < 8; attempt += 1) {
      FakeWebSocket.last.ends();
      expect(socket.status).toBe('waiting');
      pauses.push(Math.round((socket.retryAt! - Date.now()) / 1_000));
      vi.advanceTimersByTime(socket.retryAt! - Date.now() - 2);
      expect(socket.status).toBe('waiting');
      vi.advanceTimersByTime(3);
      expect(socket.status).toBe('connecting');
    }
    expect(pauses).toEqual([1, 2, 4, 8, 16, 30, 30, 30]);
    expect(FakeWebSocket.all).toHaveLength(9);
    vi.mocked(Math.random).mockReturnValue(0);
    FakeWebSocket.last.ends();
    expect(socket.retryAt! - Date.now()).toBe(15_000);
  });

  test('only a connection that lived makes the next pause short again', () => {
    const socket = connected();
    FakeWebSocket.last.ends();
    vi.advanceTimersByTime(1_000);
    FakeWebSocket.last.open().says(HELLO).ends();
    expect(Math.round(socket.retryAt! - Date.now()), 'it was open for a moment only').toBe(2_000);
    vi.advanceTimersByTime(2_000);
    FakeWebSocket.last.open().says(HELLO);
    vi.advanceTimersByTime(6_000);
    FakeWebSocket.last.ends();
    expect(Math.round(socket.retryAt! - Date.now())).toBe(1_000);
  });

  test('attempts may be counted, as the document of consultation does', () => {
    const ends: Ended[] = [];
    const socket = chat({ attemptsMax: 5 });
    socket.onDisconnect((ended) => ends.push(ended));
    for (let attempt = 0; attempt < 6; attempt += 1) {
      FakeWebSocket.last.ends();
      vi.advanceTimersByTime(60_000);
    }
    expect([socket.status, FakeWebSocket.all.length, ends.length]).toEqual(['stopped', 6, 6]);
    socket.connect();
    expect([socket.status, FakeWebSocket.all.length]).toEqual(['connecting', 7]);
  });

  test('a socket that neither opens nor closes is given up, and no longer listened to', () => {
    const socket = chat();
    const [stuck] = FakeWebSocket.all;
    vi.advanceTimersByTime(10_000);
    expect(socket.status).toBe('waiting');
    expect(socket.ended).toMatchObject({ code: 1006, reason: 'connecting took too long' });
    expect(stuck!.closedWith).toBe(1000);
    vi.advanceTimersByTime(1_000);
    FakeWebSocket.last.open().says(HELLO);
    stuck!.open().says(told('ghost')).ends();
    expect(socket.status).toBe('connected');
    expect(FakeWebSocket.all).toHaveLength(2);
  });

  test('nor is one that opens and says nothing', () => {
    const socket = chat();
    FakeWebSocket.last.open();
    vi.advanceTimersByTime(10_000);
    expect(socket.status).toBe('waiting');
  });

  test('what listeners do while it happens', () => {
    const socket = chat();
    socket.onDisconnect(() => socket.close());
    FakeWebSocket.last.ends();
    vi.advanceTimersByTime(60_000);
    expect([socket.status, FakeWebSocket.all.length]).toEqual(['stopped', 1]);
    const other = chat();
    other.onStatus((status) => status === 'waiting' && other.close());
    FakeWebSocket.last.ends();
    vi.advanceTimersByTime(60_000);
    expect([other.status, FakeWebSocket.all.length]).toEqual(['stopped', 2]);
    const third = chat();
    third.onStatus((status) => status === 'connecting' && third.close());
    FakeWebSocket.last.ends();
    vi.advanceTimersByTime(60_000);
    expect([third.status, FakeWebSocket.all.length]).toEqual(['stopped', 3]);
  });

  test('closed is closed', () => {
    const socket = connected();
    const statuses: string[] = [];
    socket.onStatus((status) => statuses.push(status));
    socket.close();
    socket.close();
    expect(FakeWebSocket.last.closedWith).toBe(1000);
    FakeWebSocket.last.ends(1000);
    window.dispatchEvent(new Event('online'));
    vi.advanceTimersByTime(3_600_000);
    expect([FakeWebSocket.all.length, statuses]).toEqual([1, ['stopped']]);
    socket.connect();
    FakeWebSocket.last.open().says(HELLO);
    expect(socket.status).toBe('connected');
  });

  test('nothing is left behind', () => {
    const socket = connected();
    socket.send('chat_message', { message: 'x' });
    socket.typing();
    socket.close();
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('a message is stored once', () => {
  test('what is said before the connection and while it is broken waits, in order', () => {
    const socket = chat();
    const seen = deliveries(socket);
    socket.send('chat_message', { message: 'one' });
    socket.send('chat_message', { message: 'two' });
    FakeWebSocket.last.open();
    expect(FakeWebSocket.last.sent).toEqual([]);
    FakeWebSocket.last.says(HELLO);
    expect(messages(FakeWebSocket.last)).toEqual(['one', 'two']);
    const [one, two] = FakeWebSocket.last.sent.map((frame) => frame.client_message_id);
    expect(one).not.toBe(two);
    FakeWebSocket.last.says(told('one', 'm1', { client_message_id: one })).ends();
    socket.send('chat_message', { message: 'three' });
    vi.advanceTimersByTime(1_000);
    expect(FakeWebSocket.last.query.after).toBe('m1');
    FakeWebSocket.last.open().says(HELLO);
    expect(messages(FakeWebSocket.last), 'stored ones are not sent again').toEqual(['two', 'three']);
    expect(FakeWebSocket.last.sent[0].client_message_id, 'under its old name').toBe(two);
    expect(seen).toEqual([
      'one queued', 'two queued', 'one sent', 'two sent', 'one stored', 'two queued', 'three queued', 'two sent', 'three sent',
    ]);
    expect(socket.pending.map(({ id }) => id)).toContain(two);
  });

  test('a repeat that is answered with the first message is told once', () => {
    const socket = connected();
    const heard: string[] = [];
    socket.on('chat_message', ({ content }) => heard.push(content));
    const id = socket.send('chat_message', { message: 'one' });
    FakeWebSocket.last.ends();
    vi.advanceTimersByTime(1_000);
    // The replay tells it, and so does the answer to the repeat.
    FakeWebSocket.last.open().says(HELLO).says(told('one', 'm1', { client_message_id: id })).says(told('next', 'm2'));
    FakeWebSocket.last.says(told('one', 'm1', { client_message_id: id }));
    expect([heard, socket.pending]).toEqual([['one', 'next'], []]);
    FakeWebSocket.last.ends();
    vi.advanceTimersByTime(2_000);
    expect(FakeWebSocket.last.query.after, 'and does not turn the clock back').toBe('m2');
  });

  test('who has seen nothing yet comes back to the place where it was', () => {
    const socket = connected();
    FakeWebSocket.last.says({ type: 'place', after: '@41' }).ends();
    vi.advanceTimersByTime(1_000);
    expect(FakeWebSocket.last.query.after).toBe('@41');
    FakeWebSocket.last.open().says(HELLO).says(told('Hi', 'm7')).ends();
    vi.advanceTimersByTime(2_000);
    expect(FakeWebSocket.last.query.after).toBe('m7');
    expect(socket.status).toBe('connecting');
    kept(createMobileChatWebSocket(1, { deviceId: 'd' }, { ...OPTIONS, after: 455 }));
    expect(FakeWebSocket.last.query.after).toBe('455');
  });

  test('not more are on their way than the server takes', () => {
    const socket = connected();
    for (let index = 0; index < 40; index += 1) socket.send('chat_message', { message: String(index) });
    expect(messages(FakeWebSocket.last)).toHaveLength(16);
    for (let index = 0; index < 40; index += 1) {
      FakeWebSocket.last.says(told(String(index), `n${index}`, { client_message_id: FakeWebSocket.last.sent[index].client_message_id }));
    }
    expect(messages(FakeWebSocket.last)).toEqual(Array.from({ length: 40 }, (_, index) => String(index)));
    expect(socket.pending).toEqual([]);
  });

  test('a refused one is not sent again', () => {
    const socket = connected();
    const refused: Delivery[] = [];
    socket.onDelivery((delivery) => delivery.status === 'refused' && refused.push(delivery));
    const id = socket.send('chat_message', { message: 'x' });
    FakeWebSocket.last.says({ type: 'error', message: 'Conversation is closed', client_message_id: id });
    expect(refused).toMatchObject([{ id, error: 'Conversation is closed' }]);
    FakeWebSocket.last.ends();
    vi.advanceTimersByTime(1_000);
    FakeWebSocket.last.open().says(HELLO);
    expect(FakeWebSocket.last.sent).toEqual([]);
  });

  test('too many: it waits as long as it is told, then goes on one by one', () => {
    const socket = connected();
    for (const message of ['one', 'two', 'three']) socket.send('chat_message', { message });
    const [one, two, three] = FakeWebSocket.last.sent.map((frame) => frame.client_message_id);
    FakeWebSocket.last.says(told('one', 'o1', { client_message_id: one }));
    for (const _ of [two, three]) FakeWebSocket.last.says({ type: 'error', message: 'Rate limit exceeded', retry_after: 3 });
    socket.send('chat_message', { message: 'four' });
    vi.advanceTimersByTime(2_999);
    expect(messages(FakeWebSocket.last)).toEqual(['one', 'two', 'three']);
    vi.advanceTimersByTime(1);
    expect(messages(FakeWebSocket.last)).toEqual(['one', 'two', 'three', 'two']);
    FakeWebSocket.last.says(told('two', 'o2', { client_message_id: two }));
    expect(messages(FakeWebSocket.last).at(-1)).toBe('three');
    // It could not be stored just now: that is not its fault.
    FakeWebSocket.last.says({ type: 'error', message: 'temporarily unavailable', client_message_id: three, retry_after: 1 });
    vi.advanceTimersByTime(1_000);
    expect(messages(FakeWebSocket.last).at(-1)).toBe('three');
    FakeWebSocket.last.says(told('three', 'o3', { client_message_id: three }));
    expect(messages(FakeWebSocket.last).at(-1)).toBe('four');
  });

  test('a connection that answers nothing is dead', () => {
    const socket = connected();
    socket.send('chat_message', { message: 'x' });
    vi.advanceTimersByTime(9_999);
    expect(socket.status).toBe('connected');
    vi.advanceTimersByTime(1);
    expect([socket.status, socket.ended?.reason]).toEqual(['waiting', 'no answer']);
    vi.advanceTimersByTime(1_000);
    FakeWebSocket.last.open().says(HELLO);
    expect(messages(FakeWebSocket.last)).toEqual(['x']);
    // One that says anything at all is not.
    vi.advanceTimersByTime(9_000);
    FakeWebSocket.last.says(told('from another'));
    vi.advanceTimersByTime(9_000);
    expect(socket.status).toBe('connected');
  });

  test('what the server would ignore or close for is refused here', () => {
    const socket = connected();
    const seen: (string | undefined)[] = [];
    socket.onDelivery(({ status, error }) => seen.push(status === 'refused' ? error : status));
    for (const message of ['', ' \n\t\u00a0\u2003\u0085', 'é'.repeat(33_000)]) socket.send('chat_message', { message });
    expect(seen).toEqual(['the message is empty', 'the message is empty', 'the message is over 64 KiB']);
    expect([FakeWebSocket.last.sent, socket.pending]).toEqual([[], []]);
    // Half a character is no text; a byte order mark is, for the server.
    socket.send('chat_message', { message: 'a\ud800b' });
    socket.send('chat_message', { message: '\ufeff' });
    expect(messages(FakeWebSocket.last)).toEqual(['a\ufffdb', '\ufeff']);
    const mobile = kept(createMobileChatWebSocket(1, { deviceId: 'd' }, OPTIONS));
    mobile.send('chat_message', { message_type: 'image', media_url: 'https://example.com/i.png' });
    expect(mobile.pending).toHaveLength(1);
  });

  test('receipts wait, typing does not', () => {
    const socket = chat();
    socket.send('read_receipt', { message_id: 'a' });
    socket.send('typing', { is_typing: true });
    FakeWebSocket.last.open().says(HELLO);
    expect(FakeWebSocket.last.sent).toEqual([{ type: 'read_receipt', message_id: 'a' }]);
  });

  test('messages outlive the page where they may, for their own user alone', () => {
    const stored = new Map<string, string>();
    const storage = {
      getItem: (key: string) => stored.get(key) ?? null,
      setItem: (key: string, value: string) => void stored.set(key, value),
      removeItem: (key: string) => void stored.delete(key),
    };
    const before = chat({ storage });
    const id = before.send('chat_message', { message: 'kept' });
    before.close();
    expect([...stored.keys()]).toEqual(['switchboard:801:/ws/chat/c-1/']);
    chat({ storage }, token({ user_id: 802 }));
    FakeWebSocket.last.open().says(HELLO);
    expect(messages(FakeWebSocket.last)).toEqual([]);
    const after = chat({ storage });
    FakeWebSocket.last.open().says(HELLO);
    expect(FakeWebSocket.last.sent).toEqual([{ type: 'chat_message', message: 'kept', client_message_id: id }]);
    FakeWebSocket.last.says(told('kept', 'k1', { client_message_id: id }));
    expect([after.pending, stored.size]).toEqual([[], 0]);
    // A full storage loses nothing that is in memory; rubbish in it is no queue.
    stored.set('switchboard:801:/ws/chat/c-1/', 'rubbish');
    const full = chat({ storage: { ...storage, setItem: () => { throw new Error('full'); } } });
    full.send('chat_message', { message: 'x' });
    expect(full.pending).toHaveLength(1);
    expect(() => createMentoringChatWebSocket(1, { ...OPTIONS, storage })).toThrow('who you are');
  });
});

describe('tokens', () => {
  test('are asked for at every connection, and again when refused', async () => {
    const asked: string[] = [];
    const socket = chat({}, async (reason) => {
      asked.push(reason);
      return `token-${asked.length}`;
    });
    expect(FakeWebSocket.all).toHaveLength(0);
    await vi.advanceTimersByTimeAsync(0);
    expect(FakeWebSocket.last.query.token).toBe('token-1');
    FakeWebSocket.last.open().says(HELLO).ends();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(FakeWebSocket.last.query.token).toBe('token-2');
    FakeWebSocket.last.open().ends(4001, 'not authenticated');
    await vi.advanceTimersByTimeAsync(2_000);
    expect(FakeWebSocket.last.query.token).toBe('token-3');
    FakeWebSocket.last.open().ends(4001, 'not authenticated');
    expect(socket.retryAt! - Date.now(), 'but not faster and faster').toBeGreaterThan(3_000);
    expect(asked).toEqual(['connect', 'connect', 'refused']);
  });

  test('the first refusal is answered at once', async () => {
    let count = 0;
    chat({}, () => `token-${(count += 1)}`);
    await vi.advanceTimersByTimeAsync(0);
    FakeWebSocket.last.open().ends(4001);
    await vi.advanceTimersByTimeAsync(0);
    expect(FakeWebSocket.last.query.token).toBe('token-2');
  });

  test('the same one again is no answer', async () => {
    const socket = chat({}, () => 'stale');
    await vi.advanceTimersByTimeAsync(0);
    FakeWebSocket.last.open().ends(4001, 'not authenticated');
    await vi.advanceTimersByTimeAsync(60_000);
    expect([socket.status, FakeWebSocket.all.length]).toEqual(['stopped', 1]);
    expect(socket.ended).toMatchObject({ code: 4001, reason: 'the token was refused', comeBack: 'no' });
  });

  test('one that was given once cannot be renewed', () => {
    const socket = connected();
    FakeWebSocket.last.ends(4001, 'not authenticated');
    vi.advanceTimersByTime(60_000);
    expect([socket.status, FakeWebSocket.all.length]).toEqual(['stopped', 1]);
    expect(socket.ended).toMatchObject({ code: 4001, comeBack: 'no' });
  });

  test('who gives none is asked again', async () => {
    let count = 0;
    const socket = chat({}, () => {
      if ((count += 1) < 3) throw new Error('offline');
      return 'token';
    });
    await vi.advanceTimersByTimeAsync(0);
    expect([socket.status, socket.ended?.reason]).toEqual(['waiting', 'no token: Error: offline']);
    await vi.advanceTimersByTimeAsync(3_000);
    expect(FakeWebSocket.last.query.token).toBe('token');
  });

  test('who never answers is given up', async () => {
    const socket = chat({}, () => new Promise(() => {}));
    await vi.advanceTimersByTimeAsync(10_000);
    expect(socket.status).toBe('waiting');
  });

  test('are renewed on the open socket before they end', async () => {
    const now = Date.now() / 1_000;
    const asked: string[] = [];
    const traffic: string[] = [];
    const socket = chat({}, (reason) => {
      asked.push(reason);
      return token({ user_id: 801, exp: now + 600 * asked.length });
    });
    socket.onTraffic((direction, text) => traffic.push(`${direction} ${text}`));
    await vi.advanceTimersByTimeAsync(0);
    FakeWebSocket.last.open().says(HELLO);
    await vi.advanceTimersByTimeAsync(539_000);
    expect(asked).toEqual(['connect']);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(asked).toEqual(['connect', 'expiring']);
    expect(FakeWebSocket.last.sent).toEqual([{ type: 'refresh', token: token({ user_id: 801, exp: now + 1_200 }) }]);
    expect(traffic.at(-1), 'and stay out of what is shown').toBe('sent {"type":"refresh","token":"..."}');
    expect(FakeWebSocket.all).toHaveLength(1);
  });

  test('that end in a year, or ended by this clock, start no storm', async () => {
    for (const exp of [Date.now() / 1_000 + 365 * 86_400, Date.now() / 1_000 - 3_600]) {
      const asked: string[] = [];
      chat({}, (reason) => {
        asked.push(reason);
        return token({ user_id: 801, exp });
      });
      await vi.advanceTimersByTimeAsync(0);
      FakeWebSocket.last.open().says(HELLO);
      await vi.advanceTimersByTimeAsync(86_400_000);
      expect(asked).toEqual(['connect']);
    }
  });

  test('who one is may be any text', () => {
    expect(chat({}, token({ sub: 'Zoë ✓' })).me).toBe('Zoë ✓');
    expect(chat({}, token({ user_id: 7 })).me).toBe('7');
    expect(chat({}, 'junk').me).toBeUndefined();
    expect(chat({ me: 'x' }, 'junk').me).toBe('x');
  });
});

describe('a page that was away', () => {
  const hide = (isHidden: boolean): void => {
    Object.defineProperty(document, 'visibilityState', { value: isHidden ? 'hidden' : 'visible', configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  };

  test('does not wait for its next attempt when the network is back', () => {
    const socket = chat();
    for (let attempt = 0; attempt < 6; attempt += 1) {
      FakeWebSocket.last.ends();
      if (attempt < 5) vi.advanceTimersByTime(socket.retryAt! - Date.now() + 1);
    }
    expect(socket.retryAt! - Date.now()).toBeGreaterThan(20_000);
    window.dispatchEvent(new Event('online'));
    expect(socket.status).toBe('connecting');
    FakeWebSocket.last.ends();
    expect(Math.round(socket.retryAt! - Date.now())).toBe(1_000);
    hide(true);
    hide(false);
    expect(socket.status, 'nor when it is looked at').toBe('connecting');
  });

  test('asks whether its connection still lives', () => {
    const socket = connected();
    hide(true);
    vi.setSystemTime(Date.now() + 10_000);
    hide(false);
    expect(FakeWebSocket.last.sent, 'not after a moment').toEqual([]);
    hide(true);
    vi.setSystemTime(Date.now() + 600_000);
    hide(false);
    expect(FakeWebSocket.last.sent).toEqual([{ type: 'refresh', token: CLARA }]);
    FakeWebSocket.last.says({ type: 'refreshed', expires_at: '2027-01-01T00:00:00Z' });
    vi.advanceTimersByTime(20_000);
    expect(socket.status).toBe('connected');
    window.dispatchEvent(new Event('online'));
    vi.advanceTimersByTime(10_000);
    expect(socket.status, 'it does not').toBe('waiting');
    vi.advanceTimersByTime(1_000);
    expect(FakeWebSocket.all).toHaveLength(2);
  });

  test('also with a clock that was set back', () => {
    connected();
    hide(true);
    vi.setSystemTime(Date.now() - 86_400_000);
    hide(false);
    expect(FakeWebSocket.last.sent).toHaveLength(1);
  });

  test('dials anew where nothing can be asked', () => {
    const socket = kept(createMobileChatWebSocket(1, { deviceId: 'd' }, OPTIONS));
    FakeWebSocket.last.open().says({ type: 'connection_established', conversation_id: 1, device_id: 'd', timestamp: '' });
    window.dispatchEvent(new Event('online'));
    expect([socket.status, FakeWebSocket.all.length]).toEqual(['connecting', 2]);
  });

  test('frames that come while it is hidden are told', () => {
    const socket = connected();
    const heard: string[] = [];
    socket.on('chat_message', ({ content }) => heard.push(content));
    hide(true);
    FakeWebSocket.last.says(told('while hidden'));
    hide(false);
    expect(heard).toEqual(['while hidden']);
  });
});

describe('typing', () => {
  const typed = (): boolean[] => FakeWebSocket.last.sent.filter(({ type }) => type === 'typing').map(({ is_typing }) => is_typing);

  test('is said now and then, and when it is over', () => {
    const socket = connected();
    for (let key = 0; key < 40; key += 1) {
      socket.typing();
      vi.advanceTimersByTime(100);
    }
    expect(typed()).toEqual([true, true]);
    vi.advanceTimersByTime(5_000);
    expect(typed()).toEqual([true, true, false]);
    socket.typing(false);
    expect(typed()).toHaveLength(3);
  });

  test('is over when the message is sent', () => {
    const socket = connected();
    socket.typing();
    socket.send('chat_message', { message: 'x' });
    expect(FakeWebSocket.last.sent.map(({ type }) => type)).toEqual(['typing', 'typing', 'chat_message']);
    expect(typed()).toEqual([true, false]);
    vi.advanceTimersByTime(9_000);
    expect(typed()).toHaveLength(2);
  });

  test('is not said where the protocol has no word for it', () => {
    const socket = kept(createClinicChatWebSocket('c', CLARA, OPTIONS));
    FakeWebSocket.last.open();
    socket.typing();
    expect(FakeWebSocket.last.sent).toEqual([]);
  });
});

describe('listeners', () => {
  test("one's mistake is its own", () => {
    const socket = connected();
    const heard: string[] = [];
    socket.on('chat_message', () => {
      throw new Error('mine');
    });
    const stop = socket.on('chat_message', ({ content }) => heard.push(content));
    FakeWebSocket.last.says(told('a'));
    expect(() => vi.runAllTimers(), 'it is seen').toThrow('mine');
    stop();
    FakeWebSocket.last.says(told('b'));
    expect(() => vi.runAllTimers()).toThrow('mine');
    expect(heard).toEqual(['a']);
  });

  test('what is no frame is nothing', () => {
    const socket = connected();
    FakeWebSocket.last.says('not JSON').says('null').says('5').says('[]').says({ type: 'of tomorrow' });
    expect(socket.status).toBe('connected');
  });
});
