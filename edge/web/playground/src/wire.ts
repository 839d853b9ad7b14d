import type { Socket } from 'switchboard-client';
import type { Call } from './calls.js';
import { atNextFrame, element, isAtEnd } from './dom.js';

const LINES_MAX = 200;

type Kind = 'sent' | 'received' | 'closed' | 'state';

/** The newest lines of what passes, as it passes. */
class Log {
  readonly root: HTMLElement;
  private readonly log: HTMLElement;
  private waiting: HTMLElement[] = [];

  constructor(className: 'frames' | 'calls', title: string, label: string) {
    this.log = element('div', { className, tabIndex: 0, role: 'region', aria: { label } });
    this.root = element('details', { className: 'wire', open: true }, element('summary', {}, title), this.log);
  }

  add(kind: Kind, head: string, text: string): void {
    this.waiting.push(element('div', { data: { kind } }, element('b', {}, `${head} `), text));
    if (this.waiting.length > LINES_MAX) this.waiting.shift();
    this.draw();
  }

  private readonly draw = atNextFrame(() => {
    const { log } = this;
    const stays = isAtEnd(log);
    log.append(...this.waiting);
    this.waiting = [];
    while (log.children.length > LINES_MAX) log.firstChild!.remove();
    if (stays) log.scrollTop = log.scrollHeight;
  });
}

/** What passes on somebody's sockets, and what the edge asks of the services for them. */
export class Wire {
  readonly roots: HTMLElement[];
  private readonly frames: Log;
  private readonly calls: Log;

  constructor(who: string, hasCalls: boolean) {
    this.frames = new Log('frames', 'Frames and close codes', `Frames of ${who}`);
    this.calls = new Log('calls', 'gRPC calls between the edge and the services', `gRPC calls for ${who}`);
    this.roots = hasCalls ? [this.frames.root, this.calls.root] : [this.frames.root];
  }

  /** Follows a socket. */
  follow(name: string, socket: Socket): void {
    const add = (kind: Kind, text: string): void => {
      const sign = { sent: '↑', received: '↓', closed: '×', state: '·' }[kind];
      this.frames.add(kind, `${sign} ${name}`, text);
    };
    socket.onStatus((status) => add('state', status === 'waiting' ? `waiting, next attempt in ${((socket.retryAt! - Date.now()) / 1_000).toFixed(1)} s` : status));
    socket.onTraffic((direction, text) => add(direction, text));
    socket.onDisconnect(({ code, reason, comeBack }) => {
      const next = { yes: 'comes back', later: 'comes back later', credential: 'needs another credential', no: 'does not come back' }[comeBack];
      add('closed', `${code} ${reason || '(no reason)'}: ${next}`);
    });
  }

  /** Shows a call. */
  called({ method, way, message, status, ms, missed }: Call): void {
    if (missed) this.calls.add('state', '·', `${missed} calls are not shown: too many at once`);
    // Packages and versions say little here.
    const name = method.slice(method.lastIndexOf('.') + 1);
    const outcome = status === undefined ? '' : `${status}, ${ms} ms `;
    const text = outcome + (message === undefined ? '' : JSON.stringify(message));
    const isFailed = status !== undefined && status !== 'Ok';
    this.calls.add(isFailed ? 'closed' : way === 'asked' ? 'sent' : 'received', `${way === 'asked' ? '→' : '←'} ${name}`, text);
  }
}
