/** What the edge asked a service for one of this page's sockets, or was answered: see `edge/src/calls.rs`. */
export interface Call {
  side: string;
  /** `switchboard.chat.v1.ChatService/Converse` */
  method: string;
  way: 'asked' | 'answered';
  /** Of a unary call: its number. */
  call?: number;
  message?: unknown;
  status?: string;
  ms?: number;
  /** Calls that were not told before this one, because there were too many. */
  missed?: number;
}

/** How long to wait before it is tried again, where the browser does not by itself. */
const AGAIN_MS = 3_000;
/** How long to wait for the server to tell, before the page goes on without. */
const READY_MS = 2_000;

/** The gRPC calls of this page's sockets, while the page is in sight: a browser has six such connections to a server. */
export class Calls {
  private readonly page = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  private readonly sides = new Map<string, (call: Call) => void>();
  private last = 0;
  /** Told from now on, or not at all: what sockets cause before that is not heard. */
  readonly ready: Promise<void>;

  constructor() {
    this.ready = new Promise((resolve) => {
      this.listen(resolve);
      setTimeout(resolve, READY_MS);
    });
  }

  /** Hears of the sockets of another side, which are opened with this `name` until `end`. */
  follow(hear: (call: Call) => void): { name: string; end(): void } {
    const side = `side-${++this.last}`;
    this.sides.set(side, hear);
    return { name: `${this.page}.${side}`, end: () => this.sides.delete(side) };
  }

  private listen(begun?: () => void): void {
    if (document.hidden) {
      document.addEventListener('visibilitychange', () => this.listen(), { once: true });
      return begun?.();
    }
    const events = new EventSource(`playground.calls?page=${this.page}`);
    events.onopen = () => begun?.();
    events.onmessage = ({ data }: MessageEvent<string>) => {
      const call = JSON.parse(data) as Call;
      this.sides.get(call.side)?.(call);
    };
    const hide = (): void => {
      events.close();
      this.listen();
    };
    document.addEventListener('visibilitychange', hide, { once: true });
    events.onerror = () => {
      begun?.();
      if (events.readyState !== EventSource.CLOSED) return;
      document.removeEventListener('visibilitychange', hide);
      setTimeout(() => this.listen(), AGAIN_MS);
    };
  }
}
