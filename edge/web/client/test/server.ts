// A real server in a process of its own, with the demonstration's people, and a network that can be cut.
import { spawn, type ChildProcess } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';

const SECRET = 'a secret for tests alone, of more than 32 bytes';
const BINARY = process.env.SWITCHBOARD_BINARY ?? fileURLToPath(new URL('../../../../target/debug/switchboard', import.meta.url));

/** Ids of the demonstration. */
export const CLINIC_CHAT = '550e8400-e29b-41d4-a716-446655440000';
export const CONSULTATION = 'c0500000-0000-4000-8000-000000000000';
export const DEVICE = 'abc123xyz';

/** A token of a user, good for some seconds. */
export function sign(userId: string, seconds = 3_600, roles?: string[]): string {
  const part = (value: object | Buffer): string =>
    (value instanceof Buffer ? value : Buffer.from(JSON.stringify(value))).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ user_id: userId, exp: Date.now() / 1_000 + seconds, roles })}`;
  return `${signed}.${part(createHmac('sha256', SECRET).update(signed).digest())}`;
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** `switchboard demo`, until it is stopped. */
export class Server {
  private child: ChildProcess | undefined;
  /** What it printed. */
  guide = '';

  private constructor(
    readonly port: number,
    private readonly grpcPort: number,
    private readonly data: string,
    private readonly settings: Record<string, string>,
    private readonly command: 'demo' | 'serve',
  ) {}

  static async start(settings: Record<string, string> = {}, command: 'demo' | 'serve' = 'demo'): Promise<Server> {
    if (!existsSync(BINARY)) throw new Error(`there is no ${BINARY}: run ./tests/run, or cargo build first`);
    const server = new Server(await freePort(), await freePort(), mkdtempSync(`${tmpdir()}/switchboard-web-`), settings, command);
    await server.begin();
    return server;
  }

  get host(): string {
    return `127.0.0.1:${this.port}`;
  }

  get url(): string {
    return `http://${this.host}`;
  }

  /** A session cookie of mentoring's student or teacher. */
  cookie(who: 'John' | 'Tess'): string {
    return new RegExp(`${who}[^]*?(sessionid=\\w+)`).exec(this.guide)![1]!;
  }

  /** Starts it, and waits until it says that it has started. */
  async begin(): Promise<void> {
    const child = spawn(BINARY, [this.command], {
      env: {
        SWITCHBOARD_DATA_DIR: this.data,
        SWITCHBOARD_EDGE__LISTEN: this.host,
        SWITCHBOARD_GRPC__LISTEN: `127.0.0.1:${this.grpcPort}`,
        SWITCHBOARD_ADMIN__LISTEN: '127.0.0.1:0',
        SWITCHBOARD_AUTH__JWT__SECRET: SECRET,
        SWITCHBOARD_EDGE__DRAIN_SPREAD_S: '0',
        SWITCHBOARD_DRAIN_TIMEOUT_S: '1',
        ...this.settings,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child = child;
    // A test that is given up leaves nothing behind.
    const abandon = (): void => void child.kill('SIGKILL');
    process.once('exit', abandon);
    child.once('exit', () => process.off('exit', abandon));
    this.guide = '';
    let complaint = '';
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (text) => {
        complaint = (complaint + text).slice(-4_000);
        if (this.command === 'serve' && complaint.includes('"message":"serving"')) resolve();
      });
      child.stdout.on('data', (text) => {
        this.guide += text;
        if (this.guide.includes('Stop with Ctrl-C')) resolve();
      });
      child.once('exit', () => reject(new Error(`the server ended: ${complaint}`)));
    });
  }

  /** Ends it, and waits until it has ended. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  async stop(): Promise<void> {
    await this.end('SIGKILL');
    rmSync(this.data, { recursive: true });
  }
}

/** A network between clients and a server. */
export class Network {
  private readonly sockets = new Set<net.Socket>();
  private isCut = false;
  private isSilent = false;
  private readonly gate: net.Server;

  private constructor(private readonly target: number) {
    this.gate = net.createServer((inner) => this.accept(inner));
  }

  static async to(server: Server): Promise<Network> {
    const network = new Network(server.port);
    await new Promise<void>((resolve) => network.gate.listen(0, '127.0.0.1', resolve));
    return network;
  }

  get host(): string {
    return `127.0.0.1:${(this.gate.address() as net.AddressInfo).port}`;
  }

  private accept(inner: net.Socket): void {
    if (this.isCut) return void inner.destroy();
    const outer = net.connect(this.target, '127.0.0.1');
    for (const [from, to] of [[inner, outer], [outer, inner]] as const) {
      this.sockets.add(from);
      from.on('data', (bytes) => this.isSilent || to.write(bytes));
      from.on('error', () => {});
      from.on('close', () => {
        this.sockets.delete(from);
        to.destroy();
      });
    }
  }

  /** Breaks every connection, and lets none through. */
  cut(): void {
    this.isCut = true;
    for (const socket of this.sockets) socket.destroy();
  }

  /** Swallows everything, and breaks nothing: the worst kind. */
  silence(): void {
    this.isSilent = true;
  }

  /** All is well again, for new connections. */
  mend(): void {
    this.isCut = this.isSilent = false;
  }

  close(): void {
    this.cut();
    this.gate.close();
  }
}
