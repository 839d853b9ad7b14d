import { element } from '../dom.js';
import { KINDS, type Kind, type Look } from './kinds.js';
import { Plot } from './plot.js';
import { Poller } from './poller.js';
import { Span, bornAt, levels, type Scrape } from './rates.js';

/** Over how much quantiles are taken, in seconds. */
const RECENT_S = 11;
/** After such a pause the past says nothing of now, in seconds. */
const PAUSE_MAX_S = 15;

const clock = (seconds: number): string => new Date(seconds * 1_000).toLocaleTimeString();

function lasted(seconds: number): string {
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

/**
 * What a process does, for operators: asked every two seconds while it is looked at, with a token that is kept in this page's
 * memory and nowhere else, so that it is gone with the page.
 */
export class Live {
  private poller: Poller | undefined;
  private isShown = false;
  private isPaused = false;
  private scrapes: Scrape[] = [];
  private plots = new Map<Kind, Plot>();
  private notice = '';

  private readonly status = element('p', { className: 'status', role: 'status' });
  private readonly facts = element('p', { className: 'facts' });
  private readonly pause = element('button', { type: 'button' });
  private readonly forget = element('button', { type: 'button' }, 'Forget the token');
  private readonly bar = element('div', { className: 'live-bar' }, this.status, this.pause, this.forget);
  private readonly grid = element('div', { className: 'plots' });
  private readonly token = element('input', { type: 'password', required: true, autocomplete: 'off', spellcheck: false, id: 'live-token', aria: { describedby: 'live-hint' } });
  private readonly error = element('p', { className: 'error', role: 'alert' });
  private readonly form = element(
    'form',
    { className: 'live-form' },
    element('label', { htmlFor: 'live-token' }, "An operator's token"),
    element('div', { className: 'write' }, this.token, element('button', {}, 'Look')),
    this.error,
    element(
      'p',
      { className: 'hint', id: 'live-hint' },
      element('code', {}, 'grpc.token'),
      ' of this deployment (without a setting it is in the file ',
      element('code', {}, 'grpc-token'),
      ' of the data directory), or better that of a caller in ',
      element('code', {}, 'grpc.callers_file'),
      ' with the scope ',
      element('code', {}, 'read'),
      ', which can do nothing else. It stays in the memory of this page, and is gone when the page is closed or loaded anew.',
    ),
    !isSecureContext && element('p', { className: 'error' }, 'This page came by plain HTTP, so whoever is on the way could read the token: use HTTPS, or a tunnel to the machine.'),
  );

  constructor(private readonly root: HTMLElement) {
    root.append(element('h2', {}, 'Live'), this.form, this.bar, this.facts, this.grid);
    this.form.onsubmit = (event) => {
      event.preventDefault();
      const given = this.token.value.trim();
      this.token.value = '';
      this.use(given);
      // The form goes, the keyboard stays.
      if (this.poller) this.pause.focus();
    };
    this.pause.onclick = () => {
      this.isPaused = !this.isPaused;
      this.turn();
    };
    this.forget.onclick = () => {
      this.end('');
      this.token.focus();
    };
    document.addEventListener('visibilitychange', () => this.turn());
    this.end('');
  }

  /** It is looked at now, or not any more. */
  show(isShown: boolean): void {
    this.isShown = isShown;
    this.root.hidden = !isShown;
    this.turn();
  }

  /** Looks with a token. */
  use(token: string): void {
    this.end('');
    if (!/^[\x21-\x7e]+$/.test(token)) return this.end('A token is printable ASCII without blanks.');
    const poller = new Poller(token, {
      told: (scrape) => this.told(scrape),
      lost: (why) => {
        const last = this.scrapes.at(-1);
        this.say('lost', `${why}, trying again …${last ? ` The last numbers are of ${clock(last.at)}.` : ''}`);
      },
      refused: (why) => {
        this.end(why);
        this.token.focus();
      },
    });
    this.poller = poller;
    this.form.hidden = true;
    this.bar.hidden = false;
    this.isPaused = false;
    this.turn();
  }

  /** Asks, or rests. */
  private turn(): void {
    this.pause.textContent = this.isPaused ? 'Go on' : 'Pause';
    if (!this.poller) return;
    if (this.isShown && !this.isPaused && document.visibilityState === 'visible') {
      if (this.status.dataset.status !== 'connected') this.say('asking', 'Asking the server …');
      this.poller.start();
    } else {
      this.poller.stop();
      if (this.isPaused) this.say('paused', 'Paused.');
    }
  }

  /** Forgets everything. */
  private end(why: string): void {
    this.poller?.stop();
    this.poller = undefined;
    this.scrapes = [];
    this.plots = new Map();
    this.notice = '';
    this.grid.replaceChildren();
    this.facts.textContent = '';
    this.error.textContent = why;
    this.form.hidden = false;
    this.bar.hidden = true;
    this.say('', '');
  }

  /** Says how it is; only what is new is read out. */
  private say(status: string, words: string): void {
    this.status.dataset.status = status;
    if (this.status.textContent !== words) this.status.textContent = words;
  }

  private told(now: Scrape): void {
    const before = this.scrapes.at(-1);
    const span = before && now.at - before.at < PAUSE_MAX_S ? Span.between(before, now) : undefined;
    const [born, wasBorn] = [bornAt(now), before && bornAt(before)];
    if (before && born !== wasBorn) {
      this.notice =
        born! < wasBorn!
          ? ' Several processes answer at this address, in turn: look at each by an address of its own.'
          : ` The process began anew at ${clock(born!)}.`;
    }
    this.say('connected', `Live, every two seconds.${this.notice}`);
    this.scrapes = (span ? this.scrapes : []).concat(now).filter(({ at }) => at > now.at - RECENT_S);
    const look: Look = { now, span, recent: Span.between(this.scrapes[0], now) };
    const roles = levels(now, 'switchboard_role', 'role');
    for (const kind of KINDS.filter(({ role }) => !role || roles.has(role))) {
      const plot = this.plotOf(kind);
      if (before && !span && born !== wasBorn) plot.mark(now.at);
      plot.add(now.at, kind.read(look));
      plot.draw(now.at, now.at - (before?.at ?? now.at));
    }
    const version = now.told.samples.get('switchboard_build_info')?.[0]?.labels.version ?? '';
    this.facts.textContent = `Switchboard ${version}, ${[...roles.keys()].join(', ')}; up ${lasted(now.at - (born ?? now.at))}.`;
  }

  private plotOf(kind: Kind): Plot {
    let plot = this.plots.get(kind);
    if (!plot) {
      plot = new Plot(kind.title, kind.unit, kind.nothing);
      this.plots.set(kind, plot);
      this.grid.append(plot.root);
    }
    return plot;
  }
}
