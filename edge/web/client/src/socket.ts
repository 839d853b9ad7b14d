import type { Received, Sent } from './frames.js';
import { comeBack, type ComeBack } from './goodbye.js';

/**
 * How a connection is: `connecting`; `connected`; `waiting` for the next attempt; `stopped`, because you closed it or
 * because it would be refused again (see {@link Socket.ended}).
 */
export type Status = 'connecting' | 'connected' | 'waiting' | 'stopped';

/** Why a token is asked for: for a new connection; because the one in use ends soon; because it was refused. */
export type TokenReason = 'connect' | 'expiring' | 'refused';

/** A token, or what gives one whenever one is needed. It may fail: then it is asked again after the usual pause. */
export type TokenSource = string | ((reason: TokenReason) => string | Promise<string>);

/** How a connection ended. */
export interface Ended {
  /** The close code; 1006 when there was none. */
  code: number;
  /** What the other side said, or what was wrong here. */
  reason: string;
  /** What follows from it. */
  comeBack: ComeBack;
}

/** How far a message of ours is. */
export interface Delivery {
  /** Its `client_message_id`. */
  id: string;
  /**
   * `queued` until there is a connection, `sent` until the server answers, `stored` for good, or `refused`: it will not
   * be sent again.
   */
  status: 'queued' | 'sent' | 'stored' | 'refused';
  /** What was sent. */
  frame: Record<string, unknown>;
  /** `stored`: the message as the server tells it. */
  answer?: Record<string, unknown>;
  /** `refused`: why. */
  error?: string;
}

/** The part of a WebSocket that is used. Browsers', `ws` and Node's (from 22) have it. */
export interface WebSocketLike {
  readonly readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** What may be set for any socket. Times are in milliseconds. */
export interface Options {
  /** Where the server is: `wss://api.example.com` or `https://...`, with or without a path. Default: the page's host. */
  url?: string;
  /** Another WebSocket than the global one. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocketLike;
  /** Connect at once; default true. Else call {@link Socket.connect}. */
  connect?: boolean;
  /** How the token travels; default `query`, as documented. `subprotocol` keeps it out of the logs of proxies. */
  credential?: 'query' | 'subprotocol';
  /** The pause before the first attempt, which doubles with each; default 1,000. Up to half of it is left to chance. */
  retryInitialMs?: number;
  /** The longest pause; default 30,000. */
  retryMaxMs?: number;
  /** Attempts in a row before it stops; default: it never does. */
  attemptsMax?: number;
  /** After this time an attempt has failed; default 10,000. */
  connectTimeoutMs?: number;
  /** After this time without an answer to a message the connection is taken for dead; default 10,000. */
  answerTimeoutMs?: number;
  /** The last message that you have (from a REST list, say): what came after it is told first. `@0`: everything. */
  after?: string | number;
  /** Who you are, if neither token nor device says so; in a clinic's chat, `patient` or `professional`. */
  me?: string;
  /** Where unanswered messages outlive the page: `sessionStorage`. Needs to know who you are. */
  storage?: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;
}

/** What a socket needs to know of its protocol. */
export interface Protocol {
  /** Its name, for what is built on it. */
  readonly name: string;
  /** It says `connection_established`; until then it is not connected. */
  readonly greets?: boolean;
  /** The name of the frame that stores a message. */
  readonly stored?: string;
  /** The names of frames that are sent without a `type`. */
  readonly untyped?: readonly string[];
  /** The name of the frame that says that one types. */
  readonly typing?: string;
  /** The name of the frame of which only the newest counts. */
  readonly newest?: string;
  /** It has mobile's close codes. */
  readonly isMobile?: boolean;
  /** The id of a message in a frame that tells one. */
  readonly id?: (frame: any) => string | number | undefined;
  /** Who is at this socket, in the parameters of the URL. */
  readonly me?: string;
}

/** Frames over 64 KiB would close the socket for good. */
const FRAME_BYTES_MAX = 65_536;
/** As many actions of one socket may be unanswered before the server stops reading. */
const WINDOW = 16;
/** So many ids of messages are remembered, to tell none twice. */
const SEEN_MAX = 1_000;
/** A connection that lived so long was a good one: the next pause is the first again. */
const STABLE_MS = 5_000;
/** A page that was away for so long does not trust its connection. */
const AWAY_MS = 30_000;
/** An attempt after `later`. */
const LATER_MS = 5_000;
/** That one types is said so often at most, and is over after the other. */
const TYPING_EVERY_MS = 3_000;
const TYPING_IDLE_MS = 5_000;
/** Timers cannot wait for longer. */
const TIMER_MAX_MS = 2 ** 31 - 1;

type Listener = (...given: any[]) => void;
type Timer = ReturnType<typeof setTimeout> | undefined;
type Frame = Record<string, any>;

/** The claims of a token, without looking at its signature. */
export function claims(token: string | undefined): Record<string, any> {
  try {
    const bytes = atob(token!.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/'));
    return JSON.parse(decodeURIComponent(bytes.replace(/[^]/g, (byte) => `%${byte.charCodeAt(0).toString(16).padStart(2, '0')}`)));
  } catch {
    return {};
  }
}

/**
 * A connection that comes back. `S` are the frames that it takes, `R` those that it says.
 *
 * What it promises: a message given to {@link Socket.send} is stored once, whatever the network does, or it is told why
 * not; a message of others is told once, in order, and none is missing after a reconnect.
 */
export class Socket<S = any, R = any> {
  /** How it is now. */
  status: Status = 'stopped';
  /** How the last connection ended; nothing while connected. */
  ended: Ended | undefined;
  /** When the next attempt is due, as `Date.now()` counts; while `waiting`. */
  retryAt: number | undefined;

  private readonly listeners = new Map<string, Set<Listener>>();
  private readonly unanswered: Delivery[] = [];
  private kept: Frame[] = [];
  private newest: Frame | undefined;
  private socket: WebSocketLike | undefined;
  /** Counts attempts, so that what belongs to an earlier one is not taken for the present one's. */
  private dials = 0;
  private attempts = 0;
  private after: string | undefined;
  private readonly seen = new Set<string>();
  private window = WINDOW;
  private token: string | undefined;
  private refused: string | undefined;
  private isRestored = false;
  private awaySince = 0;
  private isTyping = false;
  private isTypingSaid = false;
  private timers: Record<'dial' | 'stable' | 'answer' | 'hold' | 'expiry' | 'typing' | 'typingSaid', Timer> = {} as any;
  private stopWaking: (() => void) | undefined;

  /** Use the `create...` functions. */
  constructor(
    readonly protocol: Protocol,
    private readonly path: string,
    private readonly source: TokenSource | undefined,
    private readonly parameters: Record<string, string> = {},
    readonly options: Options = {},
  ) {
    if (typeof source === 'string') this.token = source;
    if (protocol.id) this.after = String(options.after ?? '@');
    if (options.connect ?? true) this.connect();
  }

  /** Who is at this socket: what the options, the device or the token say. */
  get me(): string | undefined {
    const { user_id, sub } = claims(this.token);
    const me = this.options.me ?? this.protocol.me ?? user_id ?? sub;
    return me === undefined ? undefined : String(me);
  }

  /** The token in use. */
  get bearer(): string | undefined {
    return this.token;
  }

  /** Whether frames go out now. */
  get isConnected(): boolean {
    return this.status === 'connected';
  }

  /** Messages that are not stored yet, oldest first. */
  get pending(): readonly Delivery[] {
    return this.unanswered;
  }

  /**
   * Listens to frames by their `type`. The listener gets what the frame wraps in `data`, or else the frame; and the frame.
   * Frames without a type are called `message` or `error`.
   *
   * @returns a function that stops listening
   */
  on<K extends keyof Received<R> & string>(
    name: K,
    listener: (told: Received<R>[K], frame: Frame) => void,
  ): () => void {
    return this.listen(name, listener);
  }

  /** Listens to any frame: its name, what a listener of that name gets, and the frame. */
  onAny(listener: (name: string, told: any, frame: Frame) => void): () => void {
    return this.listen('@any', listener);
  }

  /** Called whenever it is connected, first or again. */
  onConnect(listener: () => void): () => void {
    return this.listen('@connect', listener);
  }

  /** Called whenever a connection ended, with why and what follows. */
  onDisconnect(listener: (ended: Ended) => void): () => void {
    return this.listen('@disconnect', listener);
  }

  /** Called whenever {@link Socket.status} changes. */
  onStatus(listener: (status: Status) => void): () => void {
    return this.listen('@status', listener);
  }

  /** Called whenever a message of ours gets further. */
  onDelivery(listener: (delivery: Delivery) => void): () => void {
    return this.listen('@delivery', listener);
  }

  /** Called with the text of every frame, for looking on. Tokens are left out. */
  onTraffic(listener: (direction: 'sent' | 'received', text: string) => void): () => void {
    return this.listen('@traffic', listener);
  }

  /**
   * Sends a frame. A message is kept until it is stored, through reconnects, and stored once. Receipts are kept until
   * there is a connection; of positions the newest; typing is only sent when there is one.
   *
   * @returns the message's `client_message_id`; see {@link Socket.onDelivery}. Empty for other frames.
   */
  send<K extends keyof Sent<S> & string>(name: K, fields: Sent<S>[K]): string {
    const { protocol } = this;
    const frame: Frame = protocol.untyped?.includes(name) ? { ...(fields as Frame) } : { type: name, ...(fields as Frame) };
    if (name === protocol.stored) return this.store(frame);
    if (name === protocol.newest) {
      if (!this.isConnected) this.newest = frame;
      else this.transmit(frame);
    } else if (this.isConnected) {
      this.transmit(frame);
    } else if (name !== protocol.typing) {
      this.kept.push(frame);
    }
    return '';
  }

  /**
   * To be called at every keystroke. The others are told at most every three seconds, and that it is over after five
   * without a call, at `typing(false)`, or when a message is sent.
   */
  typing(isTyping = true): void {
    const { typing } = this.protocol;
    if (!typing) return;
    this.clear('typing');
    if (isTyping) this.set('typing', TYPING_IDLE_MS, () => this.typing(false));
    if (isTyping ? this.isTypingSaid : !this.isTyping) return;
    this.isTyping = this.isTypingSaid = isTyping;
    this.clear('typingSaid');
    if (isTyping) this.set('typingSaid', TYPING_EVERY_MS, () => (this.isTypingSaid = false));
    if (this.isConnected) this.transmit({ type: typing, is_typing: isTyping });
  }

  /** Connects, if it is stopped or waiting. */
  connect(): void {
    if (this.status !== 'stopped' && this.status !== 'waiting') return;
    if (this.status === 'stopped') this.refused = undefined;
    this.attempts = 0;
    this.stopWaking ??= this.wakeUp();
    this.dial();
  }

  /** Closes for good; {@link Socket.connect} begins again. What is not stored stays in {@link Socket.pending}. */
  close(): void {
    this.leave(1000, 'closed', true);
    this.stop();
  }

  // ---- connecting

  private dial(): void {
    const reason = this.refused === undefined ? 'connect' : 'refused';
    const dial = ++this.dials;
    const isPresent = (): boolean => dial === this.dials;
    this.retryAt = undefined;
    this.become('connecting');
    if (!isPresent()) return;
    this.set('dial', this.options.connectTimeoutMs ?? 10_000, () => this.fail('connecting took too long'));
    const { source } = this;
    if (typeof source !== 'function') return this.open(isPresent);
    // A token that throws, at once or later, is asked again.
    new Promise<string>((resolve) => resolve(source(reason))).then(
      (token) => {
        if (!isPresent()) return;
        if (token === this.refused) return this.end({ code: this.ended?.code ?? 4001, reason: 'the token was refused', comeBack: 'no' });
        this.token = token;
        this.open(isPresent);
      },
      (error: unknown) => isPresent() && this.fail(`no token: ${String(error)}`),
    );
  }

  private open(isPresent: () => boolean): void {
    const { protocol, options, token } = this;
    this.restore();
    const parameters = { ...this.parameters };
    if (token && options.credential !== 'subprotocol') parameters.token = token;
    if (this.after) parameters.after = this.after;
    const query = new URLSearchParams(parameters).toString();
    let socket: WebSocketLike;
    try {
      const base = options.url ?? location.origin;
      const url = `${base.replace(/^http/, 'ws').replace(/\/$/, '')}${this.path}${query && `?${query}`}`;
      const Dialled = options.WebSocket ?? (WebSocket as unknown as NonNullable<Options['WebSocket']>);
      socket = token && options.credential === 'subprotocol' ? new Dialled(url, ['bearer', token]) : new Dialled(url);
    } catch (error) {
      // A URL that is none will not become one.
      return this.end({ code: 1006, reason: String(error), comeBack: 'no' });
    }
    this.socket = socket;
    socket.onopen = () => isPresent() && !protocol.greets && this.ready();
    socket.onmessage = ({ data }) => isPresent() && this.hear(data);
    socket.onclose = ({ code, reason }) => isPresent() && this.closed(code, reason);
    socket.onerror = () => {};
  }

  private ready(): void {
    if (this.isConnected) return;
    this.clear('dial');
    this.ended = this.refused = undefined;
    this.set('stable', STABLE_MS, () => (this.attempts = 0));
    this.watchExpiry();
    this.become('connected');
    const kept = this.kept;
    this.kept = [];
    for (const frame of kept) this.transmit(frame);
    if (this.newest) this.transmit(this.newest);
    this.newest = undefined;
    this.flush();
    this.emit('@connect');
  }

  /** Lets go of the socket: nothing of it is heard any more, however long it takes to close. */
  private leave(code: number, reason: string, isPatient = false): void {
    this.dials += 1;
    const { socket } = this;
    this.socket = undefined;
    for (const timer of Object.keys(this.timers)) this.clear(timer as keyof typeof this.timers);
    this.isTyping = this.isTypingSaid = false;
    this.window = WINDOW;
    for (const delivery of this.unanswered) if (delivery.status === 'sent') this.deliver(delivery, 'queued');
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    const close = (): void => socket.close(code, reason);
    // Browsers complain of a socket that is closed before it has opened, as React's strict mode would do.
    if (isPatient && socket.readyState === 0) socket.onopen = close;
    else close();
  }

  /** Nothing can be had of this connection. */
  private fail(reason: string): void {
    this.closed(1006, reason);
  }

  private closed(code: number, reason: string): void {
    this.leave(1000, '');
    const ended: Ended = { code, reason, comeBack: comeBack(code, this.protocol.isMobile) };
    const { dials } = this;
    if (ended.comeBack === 'credential') {
      if (typeof this.source !== 'function') return this.end({ ...ended, comeBack: 'no' });
      this.refused = this.token;
    }
    if (ended.comeBack === 'no' || this.attempts >= (this.options.attemptsMax ?? Infinity)) return this.end(ended);
    this.ended = ended;
    this.emit('@disconnect', ended);
    // A listener may have closed it.
    if (dials === this.dials) this.retry(ended);
  }

  private retry({ comeBack }: Ended): void {
    const { retryInitialMs = 1_000, retryMaxMs = 30_000 } = this.options;
    let pause = Math.min(retryMaxMs, retryInitialMs * 2 ** this.attempts);
    pause *= 0.5 + Math.random() / 2;
    if (comeBack === 'later') pause += LATER_MS;
    // A new token is fetched at once, but not again and again.
    if (comeBack === 'credential' && this.attempts === 0) pause = 0;
    this.attempts += 1;
    this.retryAt = Date.now() + pause;
    const { dials } = this;
    this.become('waiting');
    if (dials === this.dials) this.set('dial', pause, () => this.dial());
  }

  /** Ends for good, because coming back would not help. */
  private end(ended: Ended): void {
    if (this.socket) this.leave(1000, '');
    this.stop();
    this.ended = ended;
    this.emit('@disconnect', ended);
  }

  private stop(): void {
    this.clear('dial');
    this.retryAt = undefined;
    this.stopWaking?.();
    this.stopWaking = undefined;
    this.become('stopped');
  }

  // ---- hearing

  private hear(data: unknown): void {
    this.clear('answer');
    this.emit('@traffic', 'received', String(data));
    let frame: Frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return;
    }
    if (typeof frame !== 'object' || frame === null) return;
    const name: string = frame.type ?? ('error' in frame ? 'error' : 'message');
    if (name === 'connection_established') this.ready();
    if (name === 'place') this.after = frame.after;
    if (name === 'error' && frame.retry_after !== undefined) this.hold(frame.retry_after);
    const delivery = frame.client_message_id && this.unanswered.find(({ id }) => id === frame.client_message_id);
    if (delivery && name !== 'error') this.deliver(delivery, 'stored', { answer: frame });
    else if (delivery && frame.retry_after === undefined) {
      this.deliver(delivery, 'refused', { error: typeof frame.error === 'string' ? frame.error : frame.message });
    }
    this.flush();
    const id = this.protocol.id?.(frame);
    if (id !== undefined) {
      const key = String(id);
      // The answer to a repeat, which came before.
      if (this.seen.has(key)) return;
      this.seen.add(key);
      if (this.seen.size > SEEN_MAX) this.seen.delete(this.seen.values().next().value!);
      this.after = key;
    }
    const told = frame.data ?? frame;
    this.emit(name, told, frame);
    this.emit('@any', name, told, frame);
  }

  // ---- sending

  private store(frame: Frame): string {
    const id: string = (frame.client_message_id ??= newId());
    const delivery: Delivery = { id, status: 'queued', frame };
    const text = frame.message ?? frame.content ?? '';
    // The same rules as the server's, which would not say which message it ignored, or would close the socket.
    if (!/\P{White_Space}/u.test(text) && !frame.media_url) return this.refuse(delivery, 'the message is empty');
    if (new TextEncoder().encode(encode(frame)).length > FRAME_BYTES_MAX) {
      return this.refuse(delivery, 'the message is over 64 KiB');
    }
    if (this.isTyping) this.typing(false);
    this.unanswered.push(delivery);
    this.deliver(delivery, 'queued');
    this.flush();
    return id;
  }

  private refuse(delivery: Delivery, error: string): string {
    this.emit('@delivery', Object.assign(delivery, { status: 'refused', error }));
    return delivery.id;
  }

  /** Sends what waits, in order, and not more at a time than the server takes. */
  private flush(): void {
    if (this.isConnected && !this.timers.hold) {
      let inFlight = this.unanswered.filter(({ status }) => status === 'sent').length;
      for (const delivery of [...this.unanswered]) {
        if (inFlight >= this.window) break;
        if (delivery.status !== 'queued') continue;
        inFlight += 1;
        this.transmit(delivery.frame);
        this.deliver(delivery, 'sent');
      }
    }
    if (this.unanswered.some(({ status }) => status === 'sent')) this.expectAnswer();
  }

  private deliver(delivery: Delivery, status: Delivery['status'], more?: Partial<Delivery>): void {
    Object.assign(delivery, { status }, more);
    const index = this.unanswered.indexOf(delivery);
    if ((status === 'stored' || status === 'refused') && index >= 0) this.unanswered.splice(index, 1);
    if (this.unanswered.length === 0) this.window = WINDOW;
    if (status !== 'sent') this.remember();
    this.emit('@delivery', delivery);
  }

  /** The server takes no more for some seconds: one at a time from then on, so that the order stays. */
  private hold(seconds: number): void {
    this.window = 1;
    for (const delivery of this.unanswered) if (delivery.status === 'sent') this.deliver(delivery, 'queued');
    this.set('hold', seconds * 1_000, () => {
      this.clear('hold');
      this.flush();
    });
  }

  private transmit(frame: Frame): void {
    const text = encode(frame);
    this.socket?.send(text);
    this.emit('@traffic', 'sent', frame.type === 'refresh' ? encode({ ...frame, token: '...' }) : text);
  }

  private expectAnswer(): void {
    this.timers.answer ??= setTimeout(() => this.fail('no answer'), this.options.answerTimeoutMs ?? 10_000);
  }

  // ---- staying

  /** Looks after the connection when the machine or the page was away. */
  private wakeUp(): () => void {
    const { document: page, window: frame } = globalThis as { document?: Document; window?: Window };
    if (!frame?.addEventListener || !page) return () => {};
    const online = (): void => this.wake(true);
    const visible = (): void => {
      if (page.visibilityState === 'hidden') this.awaySince = Date.now();
      else this.wake(this.awaySince > 0 && Math.abs(Date.now() - this.awaySince) > AWAY_MS);
    };
    const shown = (event: PageTransitionEvent): void => this.wake(event.persisted);
    frame.addEventListener('online', online);
    frame.addEventListener('pageshow', shown);
    page.addEventListener('visibilitychange', visible);
    return () => {
      frame.removeEventListener('online', online);
      frame.removeEventListener('pageshow', shown);
      page.removeEventListener('visibilitychange', visible);
    };
  }

  private wake(isDoubtful: boolean): void {
    this.awaySince = 0;
    // A socket may be dead without knowing. Its token sent again must be answered; who has none dials anew.
    if (isDoubtful && this.isConnected) {
      if (this.token) {
        this.transmit({ type: 'refresh', token: this.token });
        this.expectAnswer();
      } else this.fail('the page was away');
    }
    if (this.status === 'waiting') this.connect();
  }

  /** Asks for a new token before the one in use ends, so that the socket lives on. */
  private watchExpiry(): void {
    const { source } = this;
    const left = claims(this.token).exp * 1_000 - Date.now();
    // Whoever's clock is wrong learns of the end by the close code.
    if (typeof source !== 'function' || !(left > 0)) return;
    const pause = Math.max(left - 60_000, left / 2, 1_000);
    if (pause > TIMER_MAX_MS) return void this.set('expiry', TIMER_MAX_MS, () => this.watchExpiry());
    const { dials } = this;
    const isPresent = (): boolean => dials === this.dials && this.isConnected;
    this.set('expiry', pause, () => {
      new Promise<string>((resolve) => resolve(source('expiring'))).then(
        (token) => {
          if (!isPresent()) return;
          if (token !== this.token) this.transmit({ type: 'refresh', token: (this.token = token) });
          this.watchExpiry();
        },
        () => isPresent() && this.watchExpiry(),
      );
    });
  }

  // ---- small things

  private get key(): string | undefined {
    return this.me === undefined ? undefined : `switchboard:${this.me}:${this.path}`;
  }

  private restore(): void {
    const { storage } = this.options;
    if (!storage || this.isRestored) return;
    if (!this.key) throw new Error('storage needs to know who you are: set `me`');
    this.isRestored = true;
    let frames: Frame[] = [];
    try {
      frames = JSON.parse(storage.getItem(this.key) ?? '[]');
    } catch {
      // It was not ours.
    }
    const restored = frames.map((frame): Delivery => ({ id: frame.client_message_id, status: 'queued', frame }));
    this.unanswered.unshift(...restored);
    for (const delivery of restored) this.deliver(delivery, 'queued');
  }

  private remember(): void {
    const { storage } = this.options;
    if (!storage || !this.isRestored) return;
    try {
      if (this.unanswered.length > 0) storage.setItem(this.key!, JSON.stringify(this.unanswered.map(({ frame }) => frame)));
      else storage.removeItem(this.key!);
    } catch {
      // It is full: they are still in memory.
    }
  }

  private listen(name: string, listener: Listener): () => void {
    const listeners = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  private emit(name: string, ...given: unknown[]): void {
    for (const listener of [...(this.listeners.get(name) ?? [])]) {
      try {
        listener(...given);
      } catch (error) {
        // One listener's mistake is its own, and is seen where mistakes are.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }

  private become(status: Status): void {
    if (this.status === status) return;
    this.status = status;
    this.emit('@status', status);
  }

  private set(name: keyof typeof this.timers, ms: number, done: () => void): void {
    this.clear(name);
    this.timers[name] = setTimeout(done, ms);
  }

  private clear(name: keyof typeof this.timers): void {
    clearTimeout(this.timers[name]);
    this.timers[name] = undefined;
  }
}

/** As JSON, with halves of characters replaced, which are no text. */
function encode(frame: Frame): string {
  return JSON.stringify(frame, (_, value) => (typeof value === 'string' ? value.replace(/\p{Surrogate}/gu, '\ufffd') : value));
}

/** An id that nobody else has; also where `crypto.randomUUID` is missing, as on a plain http page. */
function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
