import type { Socket } from 'switchboard-client';
import { atNextFrame, element, isAtEnd } from './dom.js';

const LINES_MAX = 200;

/** What passes on somebody's sockets, as it passes. */
export class Wire {
  readonly log = element('div', { className: 'frames', tabIndex: 0, role: 'region' });
  readonly root: HTMLElement;
  private waiting: HTMLElement[] = [];

  constructor(who: string) {
    this.log.setAttribute('aria-label', `Frames of ${who}`);
    this.root = element('details', { className: 'wire', open: true }, element('summary', {}, 'Frames and close codes'), this.log);
  }

  /** Follows a socket. */
  follow(name: string, socket: Socket): void {
    socket.onStatus((status) => this.add(name, 'state', status === 'waiting' ? `waiting, next attempt in ${((socket.retryAt! - Date.now()) / 1_000).toFixed(1)} s` : status));
    socket.onTraffic((direction, text) => this.add(name, direction, text));
    socket.onDisconnect(({ code, reason, comeBack }) => {
      const next = { yes: 'comes back', later: 'comes back later', credential: 'needs another credential', no: 'does not come back' }[comeBack];
      this.add(name, 'closed', `${code} ${reason || '(no reason)'}: ${next}`);
    });
  }

  private readonly draw = atNextFrame(() => {
    const { log } = this;
    const stays = isAtEnd(log);
    log.append(...this.waiting);
    this.waiting = [];
    while (log.children.length > LINES_MAX) log.firstChild!.remove();
    if (stays) log.scrollTop = log.scrollHeight;
  });

  private add(name: string, kind: 'sent' | 'received' | 'closed' | 'state', text: string): void {
    const sign = { sent: '↑', received: '↓', closed: '×', state: '·' }[kind];
    this.waiting.push(element('div', { data: { kind } }, element('b', {}, `${sign} ${name} `), text));
    if (this.waiting.length > LINES_MAX) this.waiting.shift();
    this.draw();
  }
}
