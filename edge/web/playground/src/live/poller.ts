import { parse } from './openmetrics.js';
import type { Scrape } from './rates.js';

const INTERVAL_MS = 2_000;
const TIMEOUT_MS = 5_000;
const PAUSE_MAX_MS = 8_000;

/** Who is told of what was asked. */
export interface Listener {
  told(scrape: Scrape): void;
  /** Nothing was answered, or nothing of use; it is asked again. */
  lost(why: string): void;
  /** It is not asked again. */
  refused(why: string): void;
}

/** Asks the server what it counts, again and again. */
export class Poller {
  private asking: AbortController | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;

  constructor(
    private readonly token: string,
    private readonly listener: Listener,
  ) {}

  /** Asks at once, and then goes on. */
  start(): void {
    if (!this.asking) void this.ask((this.asking = new AbortController()));
  }

  stop(): void {
    clearTimeout(this.timer);
    this.asking?.abort();
    this.asking = undefined;
  }

  private async ask(run: AbortController): Promise<void> {
    let scrape: Scrape | undefined;
    let why = 'Lost the server';
    try {
      const answer = await fetch('playground.metrics', {
        headers: { authorization: `Bearer ${this.token}` },
        cache: 'no-store',
        credentials: 'omit',
        redirect: 'error',
        signal: AbortSignal.any([run.signal, AbortSignal.timeout(TIMEOUT_MS)]),
      });
      const text = await answer.text();
      if ([401, 403, 404].includes(answer.status)) {
        if (this.asking !== run) return;
        this.stop();
        return this.listener.refused(answer.status === 401 ? 'The server does not know this token.' : `The server answers ${answer.status}: ${text.trim()}`);
      }
      // The wall's clock goes on while the machine sleeps.
      if (answer.ok) scrape = { at: Date.now() / 1_000, told: parse(text) };
      else why = `The server answers ${answer.status}`;
    } catch {
      // Not reached, not in time, cut off, or not of the format.
    }
    if (this.asking !== run) return;
    this.failures = scrape ? 0 : this.failures + 1;
    this.timer = setTimeout(() => void this.ask(run), Math.min(INTERVAL_MS * 2 ** Math.max(0, this.failures - 1), PAUSE_MAX_MS));
    if (scrape) this.listener.told(scrape);
    else this.listener.lost(why);
  }
}
