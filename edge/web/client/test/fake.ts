import type { WebSocketLike } from '../src/index.js';

/** A WebSocket whose other end is the test. */
export class FakeWebSocket implements WebSocketLike {
  static all: FakeWebSocket[] = [];
  /** The newest. */
  static get last(): FakeWebSocket {
    return FakeWebSocket.all.at(-1)!;
  }

  readyState = 0;
  onopen: ((event: any) => void) | null = null;
  onmessage: ((event: any) => void) | null = null;
  onclose: ((event: any) => void) | null = null;
  onerror: ((event: any) => void) | null = null;
  readonly sent: any[] = [];
  closedWith: number | undefined;

  constructor(
    readonly url: string,
    readonly protocols?: string[],
  ) {
    FakeWebSocket.all.push(this);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  /** The client closes; whether the other side ever answers is for the test to say. */
  close(code?: number): void {
    this.readyState = 2;
    this.closedWith = code;
  }

  open(): this {
    this.readyState = 1;
    this.onopen?.({});
    return this;
  }

  says(frame: unknown): this {
    this.onmessage?.({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) });
    return this;
  }

  ends(code = 1006, reason = ''): this {
    this.readyState = 3;
    this.onclose?.({ code, reason });
    return this;
  }

  get query(): Record<string, string> {
    return Object.fromEntries(new URL(this.url).searchParams);
  }
}

/** A token with these claims; nobody here looks at its signature. */
export function token(claims: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'HS256' })}.${part(claims)}.signature`;
}
