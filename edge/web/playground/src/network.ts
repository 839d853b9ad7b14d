import type { Options, WebSocketLike } from 'switchboard-client';

/** A network that can be pulled out, as far as the sockets of one person are concerned. */
export class Network {
  private readonly sockets = new Set<{ cut(): void }>();
  private isUp = true;
  readonly WebSocket: NonNullable<Options['WebSocket']>;

  /** `calls`: the name under which somebody hears of the sockets' gRPC calls. */
  constructor(calls?: string) {
    const network = this;
    this.WebSocket = class extends WebSocket {
      constructor(url: string, protocols?: string[]) {
        if (!network.isUp) return nowhere() as never;
        const to = new URL(url, location.href);
        if (calls) to.searchParams.set('calls', calls);
        super(to, protocols);
        const cut = { cut: (): void => this.cut() };
        network.sockets.add(cut);
        this.addEventListener('close', () => network.sockets.delete(cut));
      }

      /** As if nothing arrived any more: what is heard is that it is closed, without a word from the server. */
      private cut(): void {
        const heard = this.onclose;
        this.onopen = this.onmessage = this.onclose = null;
        this.close();
        heard?.call(this, new CloseEvent('close', { code: 1006 }));
      }
    } as unknown as NonNullable<Options['WebSocket']>;
  }

  set(isUp: boolean): void {
    this.isUp = isUp;
    if (!isUp) for (const socket of [...this.sockets]) socket.cut();
  }
}

/** What dialling comes to without a network. */
function nowhere(): WebSocketLike {
  const socket: WebSocketLike = {
    readyState: WebSocket.CLOSED,
    onopen: null,
    onmessage: null,
    onclose: null,
    onerror: null,
    send() {},
    close() {},
  };
  setTimeout(() => socket.onclose?.(new CloseEvent('close', { code: 1006 })), 100);
  return socket;
}
