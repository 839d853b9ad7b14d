// The library against the real server, in Node.
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
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
  type WebSocketLike,
} from '../src/index.js';
import { Conversation, Inbox, Position, Roster, type Message, type Store } from '../src/state.js';
import { CLINIC_CHAT, CONSULTATION, DEVICE, Network, Server, sign } from './server.js';

let server: Server;
let network: Network;
beforeAll(async () => {
  server = await Server.start();
  network = await Network.to(server);
});
afterAll(async () => {
  network?.close();
  await server?.stop();
});
const open: Socket[] = [];
afterEach(() => {
  for (const socket of open.splice(0)) socket.close();
  network.mend();
});

const Ws = WebSocket as unknown as new (url: string, protocols?: string[]) => WebSocketLike;
const options = (more: Options = {}): Options => ({ url: server.url, WebSocket: Ws, retryInitialMs: 50, ...more });

function kept<T extends Socket<any, any>>(socket: T): T {
  open.push(socket);
  return socket;
}

/** Until a store's state is as wanted. */
async function until<T>(store: Store<T>, isSo: (state: T) => boolean): Promise<T> {
  if (isSo(store.getSnapshot())) return store.getSnapshot();
  return new Promise((resolve) => {
    const stop = store.subscribe(() => {
      if (!isSo(store.getSnapshot())) return;
      stop();
      resolve(store.getSnapshot());
    });
  });
}

async function connected(socket: Socket<any, any>): Promise<void> {
  if (!socket.isConnected) await new Promise<void>((resolve) => socket.onConnect(resolve));
}

async function stopped(socket: Socket<any, any>): Promise<Socket['ended']> {
  if (socket.status !== 'stopped') await new Promise<void>((resolve) => socket.onStatus((status) => status === 'stopped' && resolve()));
  await Promise.resolve();
  return socket.ended;
}

const has = (content: string, more: Partial<Message> = {}) => ({ messages }: { messages: readonly Message[] }) =>
  messages.some((message) => message.content === content && Object.entries(more).every(([key, value]) => message[key as keyof Message] === value));

describe('each protocol, both sides', () => {
  test('consultation', async () => {
    const [clara, ed] = ['801', '802'].map((id) => new Conversation(kept(createChatWebSocket(CONSULTATION, sign(id), options())))) as [Conversation, Conversation];
    await Promise.all([connected(clara.socket), connected(ed.socket)]);
    clara.sendTyping();
    expect((await until(ed, ({ typing }) => typing.length > 0)).typing).toEqual(['Clara Client']);
    clara.sendMessage('Hello!');
    const { unread, typing } = await until(ed, has('Hello!', { isOwn: false, sender: 'Clara Client' }));
    expect([unread, typing]).toEqual([1, []]);
    await until(clara, has('Hello!', { isOwn: true, status: 'stored' }));
    ed.markRead();
    expect(ed.getSnapshot().unread).toBe(0);
    await until(clara, has('Hello!', { status: 'read' }));
    expect(clara.socket.pending).toEqual([]);
  });

  test('therapy, and a therapist who moves', async () => {
    const cleo = new Conversation(kept(createTherapyChatWebSocket(123, 456, sign('123'), options())));
    const theo = new Conversation(kept(createTherapyChatWebSocket(123, 456, sign('456'), options())));
    await Promise.all([connected(cleo.socket), connected(theo.socket)]);
    theo.sendMessage('How are you?');
    await until(cleo, has('How are you?', { isOwn: false, sender: '456' }));
    await until(theo, has('How are you?', { isOwn: true, status: 'stored' }));
    const seen = new Position(kept(createLocationWebSocket(123, 456, sign('123'), options())));
    const own = new Position(kept(createLocationWebSocket(123, 456, sign('456'), options())));
    own.report(-12.5, 0);
    const { position } = await until(seen, (state) => state.position?.latitude === -12.5);
    expect(position).toEqual({ latitude: -12.5, longitude: 0, therapistId: '456' });
  });

  test('clinic', async () => {
    const pat = new Conversation(kept(createClinicChatWebSocket(CLINIC_CHAT, sign('701'), options({ me: 'patient' }))));
    const dora = new Conversation(kept(createClinicChatWebSocket(CLINIC_CHAT, sign('702'), options({ credential: 'subprotocol', me: 'provider' }))));
    await Promise.all([connected(pat.socket), connected(dora.socket)]);
    pat.sendMessage('Hello, doctor!', { role: 'patient' });
    await until(dora, has('Hello, doctor!', { isOwn: false, sender: 'patient' }));
    dora.sendMessage('Not yours', { role: 'patient' });
    dora.sendMessage('Hello!');
    await until(pat, has('Hello!', { isOwn: false, sender: 'professional' }));
    pat.sendMessage('By whom?', { role: 'nobody' });
    const refused = await until(pat, has('By whom?', { status: 'refused' }));
    expect(refused.messages.find(({ content }) => content === 'By whom?')!.error).toMatch(/^Invalid role/);
  });

  test('mobile', async () => {
    const phone = new Conversation(kept(createMobileChatWebSocket(123, { deviceId: DEVICE }, options())));
    // Who was there before is not told of.
    await connected(phone.socket);
    const sam = new Conversation(kept(createMobileChatWebSocket(123, { token: sign('900') }, options())));
    await until(phone, ({ present }) => present.includes('900'));
    phone.sendTyping();
    await until(sam, ({ typing }) => typing.includes(DEVICE));
    phone.sendMessage('I need help', { is_urgent: true });
    await until(sam, has('I need help', { isOwn: false }));
    await until(phone, has('I need help', { status: 'delivered' }));
    sam.markRead();
    await until(phone, has('I need help', { status: 'read' }));
    sam.socket.close();
    await until(phone, ({ present }) => !present.includes('900'));
    phone.sendMessage('', { media_url: 'javascript:alert(1)', message_type: 'image' });
    await until(phone, ({ messages }) => messages.some(({ status }) => status === 'refused'));
  });

  test('mentoring', async () => {
    const withCookie = (who: 'John' | 'Tess'): Options =>
      options({
        WebSocket: class extends WebSocket {
          constructor(url: string) {
            super(url, { headers: { cookie: server.cookie(who) } });
          }
        } as unknown as typeof Ws,
      });
    const john = new Conversation(kept(createMentoringChatWebSocket('my-conversation', withCookie('John'))));
    const tess = new Conversation(kept(createMentoringChatWebSocket(123, withCookie('Tess'))));
    await Promise.all([connected(john.socket), connected(tess.socket)]);
    john.sendMessage(' Hello ');
    await until(tess, has(' Hello ', { isOwn: false, sender: 'John Student' }));
    tess.markRead();
    await until(john, has(' Hello ', { status: 'read' }));
  });

  test('notifications and presence', async () => {
    const inbox = new Inbox(kept(createNotificationWebSocket(sign('801'), options())));
    const roster = new Roster(kept(createPresenceWebSocket(sign('802'), options())));
    await connected(roster.socket);
    const clara = kept(createPresenceWebSocket(sign('801'), options()));
    expect((await until(roster, ({ online }) => online.has('801'))).online.get('801')).toBe('Clara Client');
    clara.close();
    await until(roster, ({ online }) => !online.has('801'));
    // She has no socket in the consultation, so she is notified.
    const ed = kept(createChatWebSocket(CONSULTATION, sign('802'), options()));
    ed.send('chat_message', { message: 'Are you there?' });
    const { notifications, unreadCount } = await until(inbox, (state) => state.notifications.some((each) => each.notification_type === 'chat_message'));
    const news = notifications.find((each) => each.notification_type === 'chat_message')!;
    expect(news).toMatchObject({ is_read: false, data: { conversation_id: CONSULTATION } });
    const before = (await until(inbox, (state) => state.unreadCount >= Math.max(1, unreadCount))).unreadCount;
    inbox.markRead(news.id);
    await until(inbox, (state) => state.unreadCount < before + 1 && state.notifications.some(({ id, is_read }) => id === news.id && is_read));
  });
});

describe('a bad network', () => {
  test('messages of both sides through cuts and silence: each once, in order', async () => {
    const through = options({ url: `http://${network.host}`, answerTimeoutMs: 300, connectTimeoutMs: 1_000, retryMaxMs: 200 });
    const clara = new Conversation(kept(createChatWebSocket(CONSULTATION, sign('801'), through)));
    const ed = new Conversation(kept(createChatWebSocket(CONSULTATION, sign('802'), options())));
    await Promise.all([connected(clara.socket), connected(ed.socket)]);
    const wanted: string[] = [];
    for (let round = 0; round < 12; round += 1) {
      const [mine, yours] = [`clara ${round}`, `ed ${round}`];
      wanted.push(mine, yours);
      // The message may be cut off on its way there, or its answer on the way back.
      if (round % 3 === 1) network.silence();
      clara.sendMessage(mine);
      ed.sendMessage(yours);
      if (round % 3 === 2) network.cut();
      await until(ed, has(yours, { status: 'stored' }));
      network.mend();
      await Promise.all([until(clara, has(mine, { status: 'stored' })), until(clara, has(yours))]);
      await until(ed, has(mine));
    }
    const of = (conversation: Conversation, who: string): string[] =>
      conversation.getSnapshot().messages.map(({ content }) => content).filter((content) => content.startsWith(who));
    for (const who of ['clara', 'ed']) {
      const all = wanted.filter((content) => content.startsWith(who));
      expect(of(clara, who), `what Clara saw of ${who}`).toEqual(all);
      expect(of(ed, who), `what Ed saw of ${who}`).toEqual(all);
    }
  });

  test('what was missed before anything was seen is told', async () => {
    const clara = new Conversation(kept(createTherapyChatWebSocket(123, 456, sign('123'), options({ url: `http://${network.host}`, retryMaxMs: 100 }))));
    const theo = new Conversation(kept(createTherapyChatWebSocket(123, 456, sign('456'), options())));
    await Promise.all([connected(theo.socket), new Promise<void>((resolve) => (clara.socket as Socket).on('place' as never, () => resolve()))]);
    network.cut();
    theo.sendMessage('missed');
    await until(theo, has('missed', { status: 'stored' }));
    expect(clara.getSnapshot().messages).toEqual([]);
    network.mend();
    await until(clara, has('missed'));
  });

  test('everything from the beginning, for who asks', async () => {
    const first = new Conversation(kept(createTherapyChatWebSocket(123, 456, sign('123'), options())));
    first.sendMessage('to be found again');
    await until(first, has('to be found again', { status: 'stored' }));
    const second = new Conversation(kept(createTherapyChatWebSocket(123, 456, sign('123'), options({ after: '@0' }))));
    await until(second, has('to be found again', { isOwn: true }));
    const third = new Conversation(
      kept(createTherapyChatWebSocket(123, 456, sign('123'), options({ after: second.getSnapshot().messages.at(-2)?.id ?? '@0' }))),
    );
    await until(third, has('to be found again'));
  });

  test('a server that restarts: what was said meanwhile is stored once', async () => {
    const other = await Server.start();
    try {
      const url = other.url;
      const clara = new Conversation(kept(createChatWebSocket(CONSULTATION, sign('801'), options({ url, retryMaxMs: 200 }))));
      const ed = new Conversation(kept(createChatWebSocket(CONSULTATION, sign('802'), options({ url, retryMaxMs: 200 }))));
      await Promise.all([connected(clara.socket), connected(ed.socket)]);
      const ends: number[] = [];
      ed.socket.onDisconnect(({ code }) => ends.push(code));
      await other.end();
      clara.sendMessage('while it was away');
      await other.begin();
      await until(clara, has('while it was away', { status: 'stored' }));
      await until(ed, has('while it was away'));
      expect(ends[0], 'it said that it would be back').toBe(1012);
    } finally {
      await other.stop();
    }
  });
});

describe('credentials', () => {
  test('a token that ends is renewed on the socket', async () => {
    const reasons: string[] = [];
    const socket = kept(
      createChatWebSocket(CONSULTATION, (reason) => {
        reasons.push(reason);
        return sign('801', reasons.length === 1 ? 4 : 600);
      }, options()),
    );
    const ends: number[] = [];
    socket.onDisconnect(({ code }) => ends.push(code));
    const { expires_at } = await new Promise<{ expires_at: string }>((resolve) => socket.on('refreshed', resolve));
    expect(Date.parse(expires_at) - Date.now()).toBeGreaterThan(500_000);
    expect([reasons, ends]).toEqual([['connect', 'expiring'], []]);
  });

  test('an expired one is replaced, or ends it', async () => {
    const reasons: string[] = [];
    const socket = kept(
      createClinicChatWebSocket(CLINIC_CHAT, (reason) => {
        reasons.push(reason);
        return sign('701', reason === 'refused' ? 600 : -10);
      }, options()),
    );
    const conversation = new Conversation(socket);
    conversation.sendMessage('with the second token');
    await until(conversation, has('with the second token', { status: 'stored' }));
    expect(reasons).toEqual(['connect', 'refused']);
    const once = kept(createClinicChatWebSocket(CLINIC_CHAT, sign('701', -10), options()));
    expect(await stopped(once)).toMatchObject({ code: 4001, comeBack: 'no' });
  });

  test('refusals for good are not tried again', async () => {
    const of = async (socket: Socket<any, any>): Promise<number | undefined> => (await stopped(kept(socket)))?.code;
    expect(await of(createChatWebSocket(CONSULTATION, sign('701'), options()))).toBe(4003);
    expect(await of(createClinicChatWebSocket('aaaaaaaa-0000-4000-8000-00000000dead', sign('701'), options()))).toBe(4004);
    expect(await of(createMobileChatWebSocket(123, { deviceId: 'unknown' }, options()))).toBe(4002);
    expect(await of(createMobileChatWebSocket(999, { deviceId: DEVICE }, options()))).toBe(4003);
    expect(await of(createTherapyChatWebSocket('', 456, sign('456'), options()))).toBe(4000);
    expect(await of(createMentoringChatWebSocket(123, options()))).toBe(4001);
  });

  test('too many frames: none is refused, and those that are too many wait', async () => {
    const limited = await Server.start({ SWITCHBOARD_EDGE__RATE_LIMITS__THERAPY: '60' });
    try {
      const socket = kept(createTherapyChatWebSocket(123, 456, sign('123'), options({ url: limited.url })));
      const conversation = new Conversation(socket);
      const told = new Promise<number>((resolve) => socket.on('error', ({ retry_after }) => resolve(retry_after!)));
      for (let index = 0; index < 63; index += 1) conversation.sendMessage(`${index}`);
      const { messages } = await until(conversation, (state) => state.messages.filter(({ status }) => status === 'stored').length === 60);
      expect(await told).toBeGreaterThan(0);
      expect(messages.map(({ content }) => content)).toEqual(Array.from({ length: 63 }, (_, index) => `${index}`));
      expect(socket.pending.map(({ status }) => status)).toEqual(['queued', 'queued', 'queued']);
    } finally {
      await limited.stop();
    }
  });
});
