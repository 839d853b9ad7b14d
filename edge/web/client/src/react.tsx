/**
 * React hooks. Sockets are opened in effects, so pages may be rendered on a server, and closed when their component goes.
 *
 * @module
 */
import {
  createContext,
  createElement,
  useContext,
  useEffect,
  useRef,
  useState,
  useSyncExternalStore,
  type DependencyList,
  type ReactNode,
} from 'react';
import {
  createChatWebSocket,
  createLocationWebSocket,
  createNotificationWebSocket,
  createPresenceWebSocket,

  type Notification,
  type Options,
  type Socket,
  type Status,
  type TokenSource,
} from './index.js';
import {
  Conversation,
  Inbox,
  Position,
  Roster,
  Store,
  type AnyChatSocket,
  type ConversationState,
  type PositionState,
} from './state.js';

/** What a {@link SwitchboardProvider} gives to the hooks below it. */
export interface Settings {
  /** The token, or what gives one. */
  token?: TokenSource;
  /** For every socket. */
  options?: Options;
}

const Context = createContext<Settings>({});

/** Gives token and options to the hooks below it, so that `useChatWebSocket(consultationId)` is enough. */
export function SwitchboardProvider({ children, ...settings }: Settings & { children?: ReactNode }): ReactNode {
  return createElement(Context.Provider, { value: settings }, children);
}


/** A socket and what is kept of it, for as long as the component is there and the dependencies stay. */
function useLive<T, L extends Store<T> & { socket: unknown }>(make: () => L | undefined, dependencies: DependencyList): L | undefined {
  const [live, setLive] = useState<L>();
  useEffect(() => {
    const made = make();
    setLive(made);
    return () => (made?.socket as Socket | undefined)?.close();
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the caller names them
  }, dependencies);
  return live;
}

const NOTHING = (): (() => void) => () => {};

function useSnapshot<T>(store: Store<T> | undefined, none: T): T {
  const snapshot = store?.getSnapshot ?? (() => none);
  return useSyncExternalStore(store?.subscribe ?? NOTHING, snapshot, () => none);
}

/** How a socket is, as it changes. */
export function useStatus(socket: Socket | undefined): Status {
  const subscribe = (listener: () => void): (() => void) => socket?.onStatus(listener) ?? (() => {});
  return useSyncExternalStore(subscribe, () => socket?.status ?? 'connecting', () => 'connecting');
}

/** The token and options in force. A function may be another one at every render: the newest is called. */
function useSettings(token?: TokenSource, options?: Options): { token: TokenSource | undefined; options: Options | undefined; key: string } {
  const around = useContext(Context);
  const source = token ?? around.token;
  const newest = useRef(source);
  newest.current = source;
  const asked = useRef<TokenSource>((reason) => {
    const { current } = newest;
    return typeof current === 'function' ? current(reason) : (current ?? '');
  });
  const stable = typeof source === 'function' ? asked.current : source;
  return {
    token: stable,
    options: { ...around.options, ...options },
    key: typeof source === 'function' ? 'function' : `token ${source ?? ''}`,
  };
}

const QUIET: ConversationState = { messages: [], typing: [], present: [], unread: 0, error: undefined };

/** What hooks of a chat give. */
export interface Chat extends ConversationState {
  isConnected: boolean;
  status: Status;
  /** Sends a text; its id, as in `messages[].key`. */
  sendMessage: (text: string, fields?: object) => string;
  /** To be called at every keystroke; `false` when the field is left. */
  sendTyping: (isTyping?: boolean) => void;
  /** To be called when the messages are looked at. */
  markRead: () => void;
  /** For everything else. */
  socket: AnyChatSocket | undefined;
}

/**
 * A chat over any of the protocols:
 * `useConversation(() => createClinicChatWebSocket(chatId, token), [chatId, token])`.
 */
export function useConversation(make: () => AnyChatSocket | undefined, dependencies: DependencyList): Chat {
  const conversation = useLive<ConversationState, Conversation>(() => {
    const socket = make();
    return socket && new Conversation(socket);
  }, dependencies);
  const state = useSnapshot(conversation, QUIET);
  const status = useStatus(conversation?.socket as Socket | undefined);
  return {
    ...state,
    status,
    isConnected: status === 'connected',
    sendMessage: conversation?.sendMessage ?? (() => ''),
    sendTyping: conversation?.sendTyping ?? (() => {}),
    markRead: conversation?.markRead ?? (() => {}),
    socket: conversation?.socket,
  };
}

/** A consultation's chat. Token and options may come from a {@link SwitchboardProvider}. */
export function useChatWebSocket(consultationId: string | undefined, token?: TokenSource, options?: Options): Chat {
  const settings = useSettings(token, options);
  return useConversation(
    () => (consultationId && settings.token ? createChatWebSocket(consultationId, settings.token, settings.options) : undefined),
    [consultationId, settings.key, settings.options?.url],
  );
}

const EMPTY = { notifications: [] as readonly Notification[], unreadCount: 0 };

/** The user's notifications: those that came meanwhile, newest first, and how many are unread in all. */
export function useNotificationWebSocket(token?: TokenSource, options?: Options) {
  const settings = useSettings(token, options);
  const inbox = useLive<typeof EMPTY, Inbox>(
    () => (settings.token ? new Inbox(createNotificationWebSocket(settings.token, settings.options)) : undefined),
    [settings.key, settings.options?.url],
  );
  const status = useStatus(inbox?.socket as Socket | undefined);
  return {
    ...useSnapshot(inbox, EMPTY),
    status,
    isConnected: status === 'connected',
    markRead: inbox?.markRead ?? (() => {}),
  };
}

const NOBODY = { online: new Map<string, string>() as ReadonlyMap<string, string> };

/** Who is online. While a component with this hook is there, so is its user. */
export function usePresence(token?: TokenSource, options?: Options) {
  const settings = useSettings(token, options);
  const roster = useLive<typeof NOBODY, Roster>(
    () => (settings.token ? new Roster(createPresenceWebSocket(settings.token, settings.options)) : undefined),
    [settings.key, settings.options?.url],
  );
  const status = useStatus(roster?.socket as Socket | undefined);
  const { online } = useSnapshot(roster, NOBODY);
  return { online, status, isConnected: status === 'connected', isOnline: (userId: string) => online.has(userId) };
}

const NOWHERE: PositionState = { position: undefined };

/** Where a therapist is; `report` is for the therapist. */
export function useLocation(
  customerId: string | number | undefined,
  therapistId: string | number | undefined,
  token?: TokenSource,
  options?: Options,
) {
  const settings = useSettings(token, options);
  const position = useLive<PositionState, Position>(
    () =>
      customerId !== undefined && therapistId !== undefined && settings.token
        ? new Position(createLocationWebSocket(customerId, therapistId, settings.token, settings.options))
        : undefined,
    [customerId, therapistId, settings.key, settings.options?.url],
  );
  const status = useStatus(position?.socket as Socket | undefined);
  return {
    ...useSnapshot(position, NOWHERE),
    status,
    isConnected: status === 'connected',
    report: position?.report ?? (() => {}),
  };
}

