import { levels, type Scrape, type Span, type Values, type Which } from './rates.js';
import type { Unit } from './units.js';

/** What there is to see of a process: now, since the last look, and over some ten seconds. */
export interface Look {
  now: Scrape;
  span: Span | undefined;
  recent: Span | undefined;
}

/** A plot of something. */
export interface Kind {
  title: string;
  unit: Unit;
  /** What is said while there is no line. */
  nothing: string;
  /** What a process must be to have it. */
  role?: 'edge' | 'chat';
  /** The metrics that it is made of, as docs/METRICS.md names them. */
  of: string[];
  /** Nothing where it cannot be said. */
  read(look: Look): Values | undefined;
}

const named = (name: string, values: Values | undefined): [string, number][] => [...(values ?? [])].map(([, value]) => [name, value]);
const prefixed = (prefix: string, values: Values | undefined): [string, number][] => [...(values ?? [])].map(([of, value]) => [`${prefix}${of.replaceAll('_', ' ')}`, value]);

/** Half of all are faster than p50, 99 of 100 faster than p99; in ten seconds, as in two there are too few. */
function durations(name: string, which?: Which): (look: Look) => Values | undefined {
  return ({ recent }) => {
    const parts = ([['p50', 0.5], ['p99', 0.99]] as const).flatMap(([words, q]): [string, number][] => {
      const value = recent?.quantile(q, name, which);
      return value === undefined ? [] : [[words, value]];
    });
    return parts.length > 0 ? new Map(parts) : undefined;
  };
}

const SOCKETS = 'switchboard_edge_sockets';
const HANDSHAKES = 'switchboard_edge_handshakes_total';
const RECEIVED = 'switchboard_edge_frames_received_total';
const SENT = 'switchboard_edge_frames_sent_total';
const STORED = 'switchboard_chat_messages_stored_total';
const COMMIT = 'switchboard_store_commit_duration_seconds';
const LINK = 'switchboard_edge_link_round_trip_seconds';
const FRAMES_DROPPED = 'switchboard_edge_frames_dropped_total';
const SESSIONS_DROPPED = 'switchboard_edge_sessions_dropped_total';
const NO_ROOM = 'switchboard_edge_room_refusals_total';
const CALLS_LIMITED = 'switchboard_edge_http_rate_limited_total';
const ACTIONS_REFUSED = 'switchboard_service_refusals_total';
const COMMITS_REFUSED = 'switchboard_store_commit_refusals_total';
const BUS_DROPPED = 'switchboard_bus_dropped_total';
const MEMORY = 'process_resident_memory_bytes';
const CPU = 'process_cpu_seconds_total';

export const KINDS: Kind[] = [
  {
    title: 'Open sockets',
    unit: 'count',
    nothing: '',
    role: 'edge',
    of: [SOCKETS],
    read: ({ now }) => levels(now, SOCKETS, 'protocol'),
  },
  {
    title: 'Handshakes',
    unit: 'rate',
    nothing: 'None since the process began.',
    role: 'edge',
    of: [HANDSHAKES],
    read: ({ span }) => span && new Map(prefixed('', span.rates(HANDSHAKES, 'result'))),
  },
  {
    title: 'Frames of clients',
    unit: 'rate',
    nothing: 'None since the process began.',
    role: 'edge',
    of: [RECEIVED, SENT],
    read: ({ span }) => span && new Map([...named('in', span.rates(RECEIVED)), ...named('out', span.rates(SENT))]),
  },
  {
    title: 'Messages stored',
    unit: 'rate',
    nothing: 'None since the process began.',
    role: 'chat',
    of: [STORED],
    read: ({ span }) => span?.rates(STORED, 'kind'),
  },
  {
    title: 'Time to store a message and tell it',
    unit: 'seconds',
    nothing: 'No message in the last ten seconds.',
    role: 'chat',
    of: [COMMIT],
    read: durations(COMMIT, ({ writer }) => writer === 'chat writer'),
  },
  {
    title: 'Time to chat and back over the link',
    unit: 'seconds',
    nothing: 'Tried every five seconds.',
    role: 'edge',
    of: [LINK],
    read: durations(LINK, ({ service }) => service === 'chat'),
  },
  {
    title: 'Dropped and refused',
    unit: 'rate',
    nothing: 'Nothing since the process began.',
    of: [FRAMES_DROPPED, SESSIONS_DROPPED, NO_ROOM, CALLS_LIMITED, ACTIONS_REFUSED, COMMITS_REFUSED, BUS_DROPPED],
    read: ({ span }) =>
      span &&
      new Map([
        ...prefixed('frame: ', span.rates(FRAMES_DROPPED, 'reason')),
        ...prefixed('slow reader: ', span.rates(SESSIONS_DROPPED, 'service')),
        ...prefixed('no room: ', span.rates(NO_ROOM, 'limit')),
        ...named('call: rate limited', span.rates(CALLS_LIMITED)),
        // An edge that times its link asks for something invalid every five seconds.
        ...prefixed('action: ', span.rates(ACTIONS_REFUSED, 'reason', ({ reason }) => reason !== 'invalid_argument')),
        ...prefixed('not stored: ', span.rates(COMMITS_REFUSED, 'writer')),
        ...prefixed('bus: ', span.rates(BUS_DROPPED, 'reason')),
      ]),
  },
  {
    title: 'Memory',
    unit: 'bytes',
    nothing: '',
    of: [MEMORY],
    read: ({ now }) => new Map(named('resident', levels(now, MEMORY))),
  },
  {
    title: 'CPU',
    unit: 'cores',
    nothing: '',
    of: [CPU],
    read: ({ span }) => span && new Map(named('of one core', span.rates(CPU))),
  },
];
