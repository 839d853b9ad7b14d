/**
 * What a page shows of a socket, kept up to date: messages with their ticks, who types, what is unread, who is online.
 * Made for any framework: `subscribe` and `getSnapshot` are what React's `useSyncExternalStore` takes.
 *
 * @module
 */
import type { Notification } from './frames.js';
import type {
  ChatSocket,
  ClinicChatSocket,
  LocationSocket,
  MentoringChatSocket,
  MobileChatSocket,
  NotificationSocket,
  PresenceSocket,
  TherapyChatSocket,
} from './index.js';
import { claims, type Delivery, type Socket } from './socket.js';

/** Any socket that chats. */
export type AnyChatSocket = ChatSocket | TherapyChatSocket | ClinicChatSocket | MobileChatSocket | MentoringChatSocket;

/** How far a message is: ours from `queued` on, others' from `stored` on. */
export type MessageStatus = Delivery['status'] | 'delivered' | 'read';

/** A message of any protocol. */
export interface Message {
  /** Stays the same from the moment that it is written: for lists. */
  key: string;
  /** The server's id; our own until it is stored. */
  id: string;
  content: string;
  isOwn: boolean;
  /** Who wrote it, as the protocol says it: a name, an id or a role. */
  sender: string;
  /** ISO 8601, UTC; empty until it is stored. */
  at: string;
  status: MessageStatus;
  /** Why it was refused. */
  error?: string;
}

/** A conversation as a page shows it. */
export interface ConversationState {
  /** Oldest first. */
  messages: readonly Message[];
  /** Who types just now. */
  typing: readonly string[];
  /** Who is in the conversation, of those who were heard of; mobile alone tells. */
  present: readonly string[];
  /** Messages of others that were not marked read. */
  unread: number;
  /** The last error that is about no message. */
  error: string | undefined;
}

/** Something that changes. */
export class Store<T> {
  private readonly listeners = new Set<() => void>();

  constructor(private state: T) {}

  /** Calls `listener` after every change, until the returned function is called. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  };

  /** What it is now: another object after every change, the same one until then. */
  readonly getSnapshot = (): T => this.state;

  protected update(changes: Partial<T>): void {
    this.state = { ...this.state, ...changes };
    for (const listener of [...this.listeners]) listener();
  }
}

/** Somebody who said to be typing, and was not heard of since, no longer is. */
const TYPING_MS = 6_000;

type Told = Pick<Message, 'id' | 'content' | 'isOwn' | 'sender' | 'at'> & { status?: MessageStatus };

interface Dialect {
  /** The name of the frame that tells a message. */
  told: string;
  read(told: any, socket: Socket): Told;
  /** The frame that says that these were read, the newest last. */
  markRead?(ids: string[]): [name: string, fields: object];
}

const who = (told: any): string => String(told.device_id ?? told.user_id);

/** Our role in a clinic's chat, if options or token say it. */
function clinicRole(socket: Socket): string | undefined {
  const { role, roles } = claims(socket.bearer);
  const own = [socket.options.me, role, roles].flat().find((name) => /^(patient|professional|provider)$/i.test(String(name)));
  return own && (/^patient$/i.test(own) ? 'patient' : 'professional');
}

const DIALECTS: Record<string, Dialect> = {
  consultation: {
    told: 'chat_message',
    read: (told, { me }) => ({
      id: told.id,
      content: told.content,
      isOwn: told.sender_id === me,
      sender: told.sender_name,
      at: told.created_at,
    }),
    markRead: (ids) => ['read_receipt', { message_id: ids.at(-1) }],
  },
  therapy: {
    told: 'message',
    read: (told, { me }) => ({
      id: told.message_id,
      content: told.message,
      isOwn: told.sender_id === me,
      sender: told.sender_id,
      at: told.timestamp,
    }),
  },
  clinic: {
    told: 'message',
    read: ({ message }, socket) => ({
      id: message.id,
      content: message.content,
      isOwn: message.sender_type === clinicRole(socket),
      sender: message.sender_type,
      at: message.created_at,
    }),
  },
  mobile: {
    told: 'chat_message',
    read: ({ message }, { me }) => {
      const { device_id, id, username } = message.sender_info;
      return {
        id: String(message.message_id),
        content: message.content || message.media_url,
        isOwn: String(device_id ?? id) === me,
        sender: device_id ?? username ?? String(id),
        at: message.sent_at,
        status: message.status === 'sent' ? 'stored' : message.status,
      };
    },
    markRead: (ids) => ['read_receipt', { message_ids: ids.map(Number) }],
  },
  mentoring: {
    told: 'new_message',
    read: ({ message }) => ({
      id: String(message.id),
      content: message.content,
      isOwn: message.is_own_message,
      sender: message.sender_profile.full_name || message.sender_profile.username,
      at: message.timestamp,
      status: message.is_read ? 'read' : 'stored',
    }),
    markRead: (ids) => ['mark_read', { message_id: Number(ids.at(-1)) }],
  },
};

const ORDER: MessageStatus[] = ['refused', 'queued', 'sent', 'stored', 'delivered', 'read'];

/**
 * A conversation over any of the five chat sockets. Messages of ours show from the moment that they are sent.
 */
export class Conversation extends Store<ConversationState> {
  private readonly dialect: Dialect;
  private readonly typists = new Map<string, ReturnType<typeof setTimeout>>();
  private unreadIds: string[] = [];

  /** @param messagesMax older ones are forgotten; default 1,000 */
  constructor(
    readonly socket: AnyChatSocket,
    private readonly messagesMax = 1_000,
  ) {
    super({ messages: [], typing: [], present: [], unread: 0, error: undefined });
    this.dialect = DIALECTS[socket.protocol.name]!;
    for (const delivery of socket.pending) this.delivered(delivery);
    socket.onDelivery((delivery) => this.delivered(delivery));
    (socket as Socket).onAny((name, told, frame) => this.heard(name, told, frame));
    // Who is here is told anew.
    socket.onDisconnect(() => {
      for (const typist of this.typists.keys()) this.types(typist, false);
      this.update({ present: [] });
    });
  }

  /** Sends a text. More fields of the frame may be given, such as clinic's `role` or mobile's `media_url`. */
  readonly sendMessage = (text: string, fields: object = {}): string => {
    const { name, stored } = this.socket.protocol;
    const words = name === 'clinic' || name === 'mobile' ? { content: text } : { message: text };
    return (this.socket as Socket).send(stored!, { ...words, ...fields });
  };

  /** To be called at every keystroke; `false` when the field is left. */
  readonly sendTyping = (isTyping = true): void => this.socket.typing(isTyping);

  /** Marks everything read, and tells the others where the protocol can. To be called when it is looked at. */
  readonly markRead = (): void => {
    if (this.unreadIds.length === 0) return;
    const frame = this.dialect.markRead?.(this.unreadIds);
    if (frame) (this.socket as Socket).send(...frame);
    this.unreadIds = [];
    this.update({ unread: 0 });
  };

  private heard(name: string, told: any, frame: any): void {
    const me = this.socket.me;
    // mobile tells who comes and goes, but not who is there already: whoever does something is.
    if (this.socket.protocol.name === 'mobile' && (name === 'typing_indicator' || name === 'read_receipt')) this.is(who(told), true);
    if (name === this.dialect.told) this.told(this.dialect.read(told, this.socket), frame);
    else if (name === 'typing_indicator') {
      const typist = who(told);
      if (typist !== me) this.types(told.user_name ?? typist, told.is_typing);
    } else if (name === 'read_receipt' && told.message_ids) {
      for (const id of told.message_ids) this.reached(String(id), 'read', false);
    } else if (name === 'read_receipt') {
      if (told.user_id === me) this.readElsewhere(told.message_id);
      else this.reached(told.message_id, 'read', true);
    } else if (name === 'message_status_update') this.reached(String(told.message_id), told.status, false);
    else if (name === 'update_message_status') this.reached(String(told.message_id), 'read', true);
    else if (name === 'mobile_user_joined' || name === 'user_joined') this.is(who(told), true);
    else if (name === 'mobile_user_left' || name === 'user_left') this.is(who(told), false);
    else if (name === 'error' && !told.client_message_id) this.update({ error: told.error ?? told.message });
  }

  private told(told: Told, frame: any): void {
    const { messages } = this.getSnapshot();
    const ours = frame.client_message_id as string | undefined;
    const message: Message = { status: 'stored', ...told, isOwn: told.isOwn || !!ours, key: ours ?? told.id };
    if (!message.isOwn) {
      this.types(told.sender, false);
      this.unreadIds.push(told.id);
      // The sender sees a second tick.
      if (this.socket.protocol.name === 'mobile' && message.status === 'stored') {
        (this.socket as Socket).send('message_status', { message_id: Number(told.id), status: 'delivered' });
      }
    }
    // A message of ours moves to its place: after what was stored, before what was not.
    const others = messages.filter(({ key }) => key !== message.key);
    let place = others.length;
    while (place > 0 && ORDER.indexOf(others[place - 1]!.status) < ORDER.indexOf('stored')) place -= 1;
    others.splice(place, 0, message);
    this.update({ messages: others.slice(-this.messagesMax), unread: this.unreadIds.length });
  }

  private delivered({ id, status, frame, error }: Delivery): void {
    // What is stored is told as a message.
    if (status === 'stored') return;
    const { messages } = this.getSnapshot();
    const content = String(frame.message ?? frame.content ?? '');
    const message: Message = { key: id, id, content, isOwn: true, sender: this.socket.me ?? '', at: '', status };
    if (error) message.error = error;
    const isKnown = messages.some(({ key }) => key === id);
    this.update({
      messages: isKnown ? messages.map((other) => (other.key === id ? message : other)) : [...messages, message],
    });
  }

  /** A message of ours got further; with `andBefore`, so did those before it. */
  private reached(id: string, status: MessageStatus, andBefore: boolean): void {
    const { messages } = this.getSnapshot();
    const index = messages.findIndex((message) => message.id === id);
    this.update({
      messages: messages.map((message, place) => {
        const isMeant = andBefore ? place <= index : place === index;
        const isFurther = ORDER.indexOf(status) > ORDER.indexOf(message.status) && message.at !== '';
        return isMeant && isFurther && message.isOwn ? { ...message, status } : message;
      }),
    });
  }

  /** Another tab of ours read up to a message. */
  private readElsewhere(id: string): void {
    this.unreadIds = this.unreadIds.slice(this.unreadIds.indexOf(id) + 1);
    this.update({ unread: this.unreadIds.length });
  }

  private types(typist: string, isTyping: boolean): void {
    if (!isTyping && !this.typists.has(typist)) return;
    clearTimeout(this.typists.get(typist));
    if (isTyping) this.typists.set(typist, setTimeout(() => this.types(typist, false), TYPING_MS));
    else this.typists.delete(typist);
    this.update({ typing: [...this.typists.keys()] });
  }

  private is(person: string, isHere: boolean): void {
    const present = this.getSnapshot().present.filter((other) => other !== person);
    this.update({ present: isHere ? [...present, person] : present });
  }
}

/** An inbox as a page shows it. */
export interface InboxState {
  /** Newest first: those that came while this page was here. */
  notifications: readonly Notification[];
  /** All unread ones, those of before included. */
  unreadCount: number;
}

/** A user's notifications. */
export class Inbox extends Store<InboxState> {
  /** @param notificationsMax older ones are forgotten; default 200 */
  constructor(
    readonly socket: NotificationSocket,
    notificationsMax = 200,
  ) {
    super({ notifications: [], unreadCount: 0 });
    socket.on('notification', (notification) => {
      const notifications = [notification, ...this.getSnapshot().notifications].slice(0, notificationsMax);
      this.update({ notifications });
    });
    socket.on('unread_count', ({ count }) => this.update({ unreadCount: count }));
  }

  /** Marks one read; without a connection as soon as there is one. */
  readonly markRead = (id: string): void => {
    this.socket.send('mark_read', { notification_id: id });
    const { notifications } = this.getSnapshot();
    this.update({ notifications: notifications.map((each) => (each.id === id ? { ...each, is_read: true } : each)) });
  };
}

/** Who is online, by id. */
export interface RosterState {
  /** Names by id. */
  online: ReadonlyMap<string, string>;
}

/** Who is online besides oneself. */
export class Roster extends Store<RosterState> {
  constructor(readonly socket: PresenceSocket) {
    super({ online: new Map() });
    const change = (id: string, name?: string): void => {
      const online = new Map(this.getSnapshot().online);
      if (name === undefined) online.delete(id);
      else online.set(id, name);
      this.update({ online });
    };
    socket.on('user_online', ({ user_id, user_name }) => change(user_id, user_name));
    socket.on('user_offline', ({ user_id }) => change(user_id));
    // Everybody who is there is told anew.
    socket.onConnect(() => this.update({ online: new Map() }));
  }
}

/** Where a therapist is. */
export interface PositionState {
  /** Nothing until it is known. */
  position: { latitude: number; longitude: number; therapistId: string } | undefined;
}

/** A therapist's position. */
export class Position extends Store<PositionState> {
  constructor(readonly socket: LocationSocket) {
    super({ position: undefined });
    socket.on('location', ({ latitude, longitude, therapist_id }) => {
      this.update({ position: { latitude, longitude, therapistId: therapist_id } });
    });
  }

  /** Reports one's own position, in degrees; therapists only. */
  readonly report = (latitude: number, longitude: number): void => {
    this.socket.send('location', { latitude, longitude });
  };
}
