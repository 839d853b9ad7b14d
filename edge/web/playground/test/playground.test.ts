// The playground in Chromium, against the real server that carries it.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createChatWebSocket, type Options } from 'switchboard-client';
// @ts-expect-error: a script of Node's, without types
import { bundle } from '../../build.mjs';
import { CLINIC_CHAT, CONSULTATION, DEVICE, Network, Server, sign } from '../../client/test/server.js';
import { audit, inChromium, type Look } from './pages.js';

const files = fileURLToPath(new URL('..', import.meta.url));
const pictures = fileURLToPath(new URL('../../../../target/playground/', import.meta.url));

let server: Server;
const pages = inChromium();
beforeAll(async () => {
  server = await Server.start({ SWITCHBOARD_EDGE__RATE_LIMITS__CONSULTATION: '0' });
});
afterAll(() => server?.stop());

/** A page in a window of its own. */
const visit = (hash: string, { url = server.url, ...look }: Look & { url?: string } = {}): Promise<Page> => pages.visit(`${url}/#${hash}`, look);

const side = (page: Page, name: string): Locator => page.getByRole('region', { name, exact: true });
const connected = (locator: Locator): Promise<void> =>
  expect.poll(async () => `${await locator.getByRole('status').textContent()}; ${await locator.locator('.frames').textContent()}`).toMatch(/^connected;/);
const messages = (locator: Locator, name: string): Locator => locator.getByRole('log', { name: `Messages of ${name}` }).getByRole('listitem');

async function write(at: Locator, text: string): Promise<void> {
  const field = at.getByRole('textbox', { name: /^Write as/ });
  await field.fill(text);
  await field.press('Enter');
}

/** One person's end, in a page of its own. */
async function alone(protocol: string, id: string, name: string, look?: Look & { url?: string }): Promise<Locator> {
  const page = await visit(`${protocol}/${id}`, look);
  const end = side(page, name);
  await connected(end);
  return end;
}

/** Where a page hears of its gRPC calls. */
const NAME = '0123456789abcdef';
const CALLS = `/playground.calls?page=${NAME}`;

/** A line among somebody's gRPC calls. */
const call = (end: Locator, text: RegExp): Locator => end.locator('.calls > div', { hasText: text });

/** The texts that somebody sees. */
const texts = (end: Locator): Promise<string[]> => end.locator('.messages .text').allTextContents();

describe('what is served', () => {
  test('the script is the one that the sources make', async () => {
    expect(readFileSync(`${files}playground.js`, 'utf8'), 'npm run build in edge/web').toBe(await bundle());
    expect(await (await fetch(`${server.url}/playground.js`)).text(), 'cargo build').toBe(await bundle());
  });

  test('under a strict policy', async () => {
    for (const [path, type] of [['/', 'text/html'], ['/playground.js', 'text/javascript'], ['/playground.css', 'text/css'], ['/playground.json', 'application/json']]) {
      const { headers } = await fetch(server.url + path);
      expect(headers.get('content-type')).toContain(type);
      const policy = headers.get('content-security-policy')!;
      expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self';");
      expect(policy).not.toMatch(/unsafe|\*(?!;| |$)/);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
    }
  });

  test('only where it is switched on; then without people, for credentials of your own', async () => {
    const [off, on] = await Promise.all([Server.start({}, 'serve'), Server.start({ SWITCHBOARD_EDGE__PLAYGROUND: 'true' }, 'serve')]);
    try {
      for (const path of ['/', '/playground.js', '/playground.css', '/playground.json', '/playground.metrics', CALLS]) expect((await fetch(off.url + path)).status).toBe(404);
      expect(await (await fetch(`${on.url}/playground.json`)).json()).toEqual({ people: [], conversations: {} });
      expect((await fetch(on.url + CALLS)).status, 'services know more than people of a real system may see').toBe(404);
      // Both must be known before they can meet: a good token makes it so.
      for (const [id, role] of [['123', 'customer'], ['456', 'therapist']] as const) {
        const socket = new WebSocket(`ws://${on.host}/ws/presence/?token=${sign(id, 600, [role])}`);
        await once(socket, 'open');
        socket.close();
        await once(socket, 'close');
      }
      const page = await visit('therapy', { url: on.url });
      await page.getByText('Nobody is known here yet').waitFor();
      const form = page.locator('.somebody form');
      for (const [id, role] of [['123', 'customer'], ['456', 'therapist']]) {
        await form.getByLabel('Protocol').selectOption('therapy');
        await form.getByLabel('Conversation').fill('123, 456');
        await form.getByLabel('Role').fill(role!);
        await form.getByLabel('Credential').fill(sign(id!, 600, [role!]));
        await form.getByRole('button', { name: 'Add' }).click();
      }
      await connected(side(page, 'Somebody 1'));
      await write(side(page, 'Somebody 2'), 'by tokens of our own');
      await messages(side(page, 'Somebody 1'), 'Somebody 1').filter({ hasText: 'by tokens of our own' }).waitFor();
      expect(await page.locator('.calls').count()).toBe(0);
    } finally {
      await Promise.all([off.stop(), on.stop()]);
    }
  });
});

describe('gRPC calls beneath the frames', () => {
  test('what the edge asks for somebody, and what services answer', async () => {
    const [clara, ed] = [await alone('consultation', '801', 'Clara Client'), await alone('consultation', '802', 'Ed Expert')];
    await call(clara, /^→ IdentityService\/Authenticate {"token":"eyJ.*… \(\d+ characters\)"}$/).first().waitFor();
    await call(clara, /^← IdentityService\/Authenticate Ok, [\d.]+ ms {"principal":.*"full_name":"Clara Client"/).first().waitFor();
    for (const stream of ['ChatService/Converse', 'PresenceService/Track', 'NotificationService/Subscribe']) {
      await call(clara, new RegExp(`^→ ${stream} {"join":.*"session":"\\d+"}$`)).waitFor();
      await call(clara, new RegExp(`^← ${stream} {.*"joined":`)).waitFor();
    }
    await write(clara, 'seen below');
    await call(clara, /^→ ChatService\/Converse {"request":"\d+","send":{.*"content":"seen below"/).waitFor();
    await call(clara, /^← ChatService\/Converse {"answer":{.*"content":"seen below"/).waitFor();
    await call(ed, /^← ChatService\/Converse {"message":{.*"content":"seen below"/).waitFor();
    expect(await call(ed, /→ .*seen below/).count(), 'each side its own').toBe(0);
    await clara.getByRole('region', { name: 'Notifications' }).getByRole('button', { name: 'Mark read' }).first().click();
    await call(clara, /^→ NotificationService\/Subscribe {"read":/).waitFor();
  });

  test('a refusal is one', async () => {
    const page = await visit('clinic');
    await page.getByText('Somebody else').click();
    const form = page.locator('.somebody form');
    await form.getByLabel('Protocol').selectOption('clinic');
    await form.getByLabel('Conversation').fill(CLINIC_CHAT);
    await form.getByLabel('Role').fill('patient');
    await form.getByLabel('Credential').fill(sign('701', -10));
    await form.getByRole('button', { name: 'Add' }).click();
    await page.getByRole('combobox', { name: 'On the left' }).selectOption({ label: 'Somebody 13, patient' });
    const refused = call(side(page, 'Somebody 13'), /^← IdentityService\/Authenticate Unauthenticated: /);
    await refused.first().waitFor();
    expect(await refused.first().getAttribute('data-kind')).toBe('closed');
  });

  test('not while the page is out of sight: a browser has few such connections', async () => {
    const clara = await alone('clinic', '701', 'Pat Patient');
    const turn = (isHidden: boolean): Promise<void> =>
      clara.page().evaluate((hidden) => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
      }, isHidden);
    await turn(true);
    await write(clara, 'out of sight');
    await messages(clara, 'Pat Patient').filter({ hasText: 'out of sight' }).locator('.tick[title="stored"]').waitFor();
    await turn(false);
    await expect
      .poll(async () => {
        await write(clara, 'in sight');
        return call(clara, /→ ChatService\/Converse .*"in sight"/).count();
      }, { interval: 200 })
      .toBeGreaterThan(0);
    expect(await call(clara, /"out of sight"/).count()).toBe(0);
  });

  test('each page hears of its own sockets, and no other page may ask', async () => {
    const hear = async (page: string): Promise<{ text(): string; end(): void }> => {
      const stop = new AbortController();
      const { body, headers } = await fetch(`${server.url}/playground.calls?page=${page}`, { signal: stop.signal });
      expect(headers.get('content-type')).toBe('text/event-stream');
      expect(headers.get('cache-control')).toBe('no-store');
      let text = '';
      void body!.pipeThrough(new TextDecoderStream()).pipeTo(new WritableStream({ write: (chunk) => void (text += chunk) })).catch(() => {});
      return { text: () => text, end: () => stop.abort() };
    };
    const other = 'fedcba9876543210';
    const [own, others] = [await hear(NAME), await hear(other)];
    try {
      const talk = async (name: string, message: string): Promise<void> => {
        const socket = new WebSocket(`ws://${server.host}/ws/chat/${CONSULTATION}/?token=${sign('801')}&calls=${name}`);
        await once(socket, 'open');
        socket.send(JSON.stringify({ type: 'chat_message', message }));
        // What is still on its way would be heard by the next one, who is in the same conversation.
        await new Promise<void>((resolve) => socket.on('message', (frame) => String(frame).includes(message) && resolve()));
        socket.close();
        await once(socket, 'close');
      };
      await talk('not-a-name', 'of nobody');
      await talk(`${other}.x`, 'of another');
      await talk(`${NAME}.x`, 'of my own');
      await expect.poll(own.text).toMatch(/"leave"/);
      expect(own.text()).toContain('of my own');
      expect(own.text()).not.toMatch(/of another|of nobody/);
      expect(others.text()).toMatch(/of another/);
    } finally {
      own.end();
      others.end();
    }
    const status = async (path: string, init: RequestInit = {}): Promise<number> => {
      const answer = await fetch(server.url + path, init);
      await answer.body?.cancel();
      return answer.status;
    };
    expect(await status(CALLS, { method: 'POST' })).toBe(405);
    for (const path of ['/playground.calls', '/playground.calls?page=short', '/playground.calls?page=0123456789abcde%2F']) expect(await status(path)).toBe(400);
    expect(await status(CALLS, { headers: { origin: 'https://elsewhere.example' } })).toBe(403);
  });
});

describe('each protocol, between two pages', () => {
  test('consultation: typing, ticks, presence, notifications', async () => {
    const [clara, ed] = [await alone('consultation', '801', 'Clara Client'), await alone('consultation', '802', 'Ed Expert')];
    await clara.getByText('Ed Expert is here').waitFor();
    await clara.getByRole('textbox', { name: /^Write/ }).pressSequentially('Hel');
    await ed.getByText('Clara Client types').waitFor();
    await write(clara, 'Hello <b>expert</b> & co');
    await messages(ed, 'Ed Expert').filter({ hasText: 'Hello <b>expert</b> & co' }).waitFor();
    await ed.getByText('Clara Client types').waitFor({ state: 'detached' });
    const tick = messages(clara, 'Clara Client').last().locator('.tick');
    await expect.poll(() => tick.getAttribute('title')).toBe('stored');
    await ed.getByRole('log').focus();
    await expect.poll(() => tick.getAttribute('title')).toBe('read');
    expect(await clara.page().locator('.messages b').count(), 'what people write is text').toBe(0);
    // Ed goes: he is away, and what is written notifies him.
    const badge = (end: Locator): Promise<number> => end.getByRole('region', { name: 'Notifications' }).locator('.badge').evaluate((element) => Number((element as HTMLElement).dataset.count));
    const news = clara.getByRole('list', { name: 'Notifications of Clara Client' });
    await news.getByText('Daily Reading Ready').first().waitFor();
    const before = await badge(clara);
    expect(before).toBeGreaterThan(0);
    await news.getByRole('button', { name: 'Mark read' }).first().click();
    await expect.poll(() => badge(clara)).toBeLessThan(before);
    await ed.page().close();
    await clara.getByText('Ed Expert is away').waitFor();
  });

  test('therapy: a therapist moves, by the server and by hand', async () => {
    const [cleo, theo] = [await alone('therapy', '123', 'Cleo Customer'), await alone('therapy', '456', 'Theo Therapist')];
    await write(cleo, 'Hello, how are you today?');
    await messages(theo, 'Theo Therapist').filter({ hasText: 'Hello, how are you today?' }).waitFor();
    await write(theo, 'Fine');
    await messages(cleo, 'Cleo Customer').filter({ hasText: 'Fine' }).waitFor();
    const map = cleo.getByRole('img', { name: /^Therapist 456: 52\./ });
    await map.waitFor();
    const seen = new Set<string>();
    await expect.poll(async () => seen.add((await map.getAttribute('aria-label'))!).size).toBeGreaterThan(2);
    expect(await cleo.getByRole('button', { name: /^Move/ }).count()).toBe(0);
    await theo.getByRole('button', { name: 'Move east' }).press('Enter');
    await theo.locator('.frames [data-kind=sent]', { hasText: '"longitude"' }).waitFor();
  });

  test('clinic', async () => {
    const [pat, dora] = [await alone('clinic', '701', 'Pat Patient'), await alone('clinic', '702', 'Dora Doctor')];
    await write(pat, 'Hello, doctor!');
    await messages(dora, 'Dora Doctor').filter({ hasText: 'Hello, doctor!' }).and(dora.locator('li:not(.own)')).waitFor();
    await write(dora, 'Hello!');
    await messages(pat, 'Pat Patient').filter({ hasText: 'Hello!' }).waitFor();
    // Who comes later sees what was said, on the right sides.
    const again = await alone('clinic', '701', 'Pat Patient');
    await messages(again, 'Pat Patient').filter({ hasText: 'Hello, doctor!' }).and(again.locator('.own')).first().waitFor();
  });

  test('mobile: joins, typing, delivered and read', async () => {
    const [phone, sam] = [await alone('mobile', DEVICE, 'the device abc123xyz'), await alone('mobile', '900', 'Sam Staff')];
    await phone.getByText('Sam Staff is here').waitFor();
    await sam.getByRole('textbox', { name: /^Write/ }).pressSequentially('H');
    await phone.getByText('900 types').waitFor();
    await write(phone, 'Hello, I need help!');
    const tick = messages(phone, 'the device abc123xyz').last().locator('.tick');
    await expect.poll(() => tick.getAttribute('title')).toMatch(/delivered|read/);
    await sam.getByRole('log').focus();
    await expect.poll(() => tick.getAttribute('title')).toBe('read');
    await sam.page().close();
    await phone.getByText('Sam Staff is away').waitFor();
  });

  test('mentoring: by cookie, both in one browser', async () => {
    const page = await visit('mentoring');
    const [john, tess] = [side(page, 'John Student'), side(page, 'Tess Teacher')];
    await Promise.all([connected(john), connected(tess)]);
    await write(john, 'Hello, mentor');
    await messages(tess, 'Tess Teacher').filter({ hasText: 'Hello, mentor' }).waitFor();
    await tess.getByRole('log').focus();
    await expect.poll(() => messages(john, 'John Student').last().locator('.tick').getAttribute('title')).toBe('read');
  });

  test('from the first page to two windows in three clicks', async () => {
    const page = await visit('');
    await connected(side(page, 'Clara Client'));
    const windows: Page[] = [];
    for (const name of ['Clara Client', 'Ed Expert']) {
      const opened = page.waitForEvent('popup');
      await page.getByRole('link', { name: `Own window of ${name}` }).click();
      windows.push(await opened);
    }
    const [clara, ed] = [side(windows[0]!, 'Clara Client'), side(windows[1]!, 'Ed Expert')];
    await Promise.all([connected(clara), connected(ed)]);
    await write(clara, 'from my own window');
    await messages(ed, 'Ed Expert').filter({ hasText: 'from my own window' }).waitFor();
  });

  test('any two people may be picked', async () => {
    const page = await visit('consultation');
    await page.getByRole('combobox', { name: 'On the left' }).selectOption({ label: 'Sam Staff, staff' });
    const sam = side(page, 'Sam Staff');
    await connected(sam);
    await write(sam, 'I am of the staff');
    await messages(side(page, 'Ed Expert'), 'Ed Expert').filter({ hasText: 'I am of the staff' }).waitFor();
    // Nothing of the person before is left: one socket each for chat, presence and notifications.
    await page.getByRole('combobox', { name: 'On the right' }).selectOption({ label: 'Sam Staff, staff' });
    await expect.poll(() => page.locator('.side').count()).toBe(2);
    expect(new Set(await page.locator('.side').evaluateAll((all) => all.map(({ id }) => id))).size).toBe(2);
  });
});

describe('when things go wrong', () => {
  test('a network that is cut and returns: what was written meanwhile arrives once', async () => {
    const network = await Network.to(server);
    try {
      const clara = await alone('consultation', '801', 'Clara Client', { url: `http://${network.host}`, mayComplain: /WebSocket connection|ERR_/ });
      const ed = await alone('consultation', '802', 'Ed Expert');
      network.cut();
      await clara.getByRole('status').filter({ hasText: /not connected|connecting/ }).waitFor();
      const said = ['cut off 1', 'cut off 2', 'cut off 3'];
      for (const text of said) await write(clara, text);
      await expect.poll(() => messages(clara, 'Clara Client').last().locator('.tick').getAttribute('title')).toBe('waits for a connection');
      await write(ed, 'what Clara missed');
      network.mend();
      await messages(ed, 'Ed Expert').filter({ hasText: 'cut off 3' }).waitFor();
      await messages(clara, 'Clara Client').filter({ hasText: 'what Clara missed' }).waitFor();
      await expect.poll(() => clara.locator('.tick[title="waits for a connection"], .tick[title="on its way"]').count()).toBe(0);
      for (const end of [clara, ed]) expect((await texts(end)).filter((text) => text.startsWith('cut off'))).toEqual(said);
    } finally {
      network.close();
    }
  });

  test('the page has a plug of its own', async () => {
    const page = await visit('consultation');
    const [clara, ed] = [side(page, 'Clara Client'), side(page, 'Ed Expert')];
    await Promise.all([connected(clara), connected(ed)]);
    await clara.getByRole('switch', { name: 'Network' }).uncheck();
    await clara.locator('.frames [data-kind=closed]', { hasText: '1006' }).first().waitFor();
    await write(clara, 'unplugged');
    await messages(clara, 'Clara Client').filter({ hasText: 'unplugged' }).locator('.tick[data-status=queued]').waitFor();
    await clara.getByRole('switch', { name: 'Network' }).check();
    await messages(ed, 'Ed Expert').filter({ hasText: 'unplugged' }).waitFor();
    expect((await texts(ed)).filter((text) => text === 'unplugged')).toHaveLength(1);
  });

  test('a server that restarts under the page', async () => {
    const other = await Server.start();
    try {
      const look = { url: other.url, mayComplain: /WebSocket connection|ERR_/ };
      const [cleo, theo] = [await alone('therapy', '123', 'Cleo Customer', look), await alone('therapy', '456', 'Theo Therapist', look)];
      await other.end();
      await cleo.locator('.frames [data-kind=closed]', { hasText: '1012 restarting' }).first().waitFor();
      await write(cleo, 'while it was away');
      await other.begin();
      await messages(theo, 'Theo Therapist').filter({ hasText: 'while it was away' }).waitFor();
      expect((await texts(theo)).filter((text) => text === 'while it was away')).toHaveLength(1);
      // Its gRPC calls are told again, too, when the browser has asked again.
      await expect
        .poll(async () => {
          await write(theo, 'after it');
          return call(theo, /→ ChatService\/Converse .*"after it"/).count();
        }, { interval: 500 })
        .toBeGreaterThan(0);
    } finally {
      await other.stop();
    }
  });

  test('a token that ended, and one that ends', async () => {
    const page = await visit('clinic');
    await connected(side(page, 'Pat Patient'));
    await page.getByText('Somebody else').click();
    const form = page.locator('.somebody form');
    const add = async (token: string): Promise<void> => {
      await form.getByLabel('Protocol').selectOption('clinic');
      await form.getByLabel('Conversation').fill(CLINIC_CHAT);
      await form.getByLabel('Role').fill('patient');
      await form.getByLabel('Credential').fill(token);
      await form.getByRole('button', { name: 'Add' }).click();
    };
    await add(sign('701', -10));
    await page.getByRole('combobox', { name: 'On the left' }).selectOption({ label: 'Somebody 13, patient' });
    const ended = side(page, 'Somebody 13');
    await ended.getByRole('status').filter({ hasText: 'closed: 4001 not authenticated' }).waitFor();
    await ended.locator('.frames [data-kind=closed]', { hasText: '4001 not authenticated: does not come back' }).waitFor();
    await add(sign('701', 4));
    await page.getByRole('combobox', { name: 'On the left' }).selectOption({ label: 'Somebody 14, patient' });
    const ends = side(page, 'Somebody 14');
    await connected(ends);
    await ends.getByRole('status').filter({ hasText: 'closed: 4001' }).waitFor();
  });

  test('200 messages a second, and the page still answers', async () => {
    const page = await visit('consultation');
    const [clara, ed] = [side(page, 'Clara Client'), side(page, 'Ed Expert')];
    await Promise.all([connected(clara), connected(ed)]);
    const options: Options = { url: server.url, WebSocket: WebSocket as unknown as Options['WebSocket'] };
    const sender = createChatWebSocket(CONSULTATION, sign('900'), options);
    let count = 0;
    const flood = setInterval(() => {
      for (let index = 0; index < 10; index += 1) sender.send('chat_message', { message: `flood ${(count += 1)}` });
      if (count >= 1_000) clearInterval(flood);
    }, 50);
    try {
      await messages(ed, 'Ed Expert').filter({ hasText: /flood/ }).first().waitFor();
      // In the middle of it: what is typed is seen, sent, and read on the other side.
      await write(clara, 'in the middle of it');
      await expect.poll(() => clara.getByRole('textbox', { name: /^Write/ }).inputValue()).toBe('');
      const painted = await page.evaluate(
        () =>
          new Promise<number>((resolve) => {
            let frames = 0;
            const paint = (): void => {
              frames += 1;
              const all = document.querySelectorAll('#side-802 .messages .text');
              if ([...all].some(({ textContent }) => textContent === 'flood 1000')) resolve(frames);
              else requestAnimationFrame(paint);
            };
            paint();
          }),
      );
      expect(painted).toBeGreaterThan(20);
      const seen = (await texts(ed)).filter((text) => text.startsWith('flood'));
      expect(seen.at(-1)).toBe('flood 1000');
      expect(seen, 'in order, none twice').toEqual(Array.from({ length: seen.length }, (_, index) => `flood ${1_000 - seen.length + index + 1}`));
      for (const log of ['.frames', '.calls']) expect(await page.locator(`${log} > div`).count(), 'and does not grow for ever').toBeLessThanOrEqual(400);
    } finally {
      clearInterval(flood);
      sender.close();
    }
  });
});

describe('for everybody', () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const width of [390, 1280]) {
      test(`${width} pixels wide, ${colorScheme}`, async () => {
        await mkdir(pictures, { recursive: true });
        const page = await visit('', { width, colorScheme });
        for (const protocol of ['consultation', 'therapy', 'clinic', 'mobile', 'mentoring']) {
          await page.getByRole('link', { name: protocol, exact: true }).click();
          await page.locator('nav a[aria-current]', { hasText: protocol }).waitFor();
          for (const end of await page.locator('.side').all()) await connected(end);
          const last = page.locator('.side').last();
          await write(page.locator('.side').first(), `Hello from ${width} ${colorScheme}`);
          await last.locator('.messages li:not(.own)', { hasText: `Hello from ${width} ${colorScheme}` }).waitFor();
          await write(last, 'Fine, thank you. And you?');
          await page.locator('.side').first().locator('.messages li:not(.own)', { hasText: 'And you?' }).last().waitFor();
          if (protocol === 'therapy') await page.locator('.therapist[cx]').first().waitFor();
          await page.screenshot({ path: `${pictures}${protocol}-${width}-${colorScheme}.png`, fullPage: true });
          expect(await audit(page), protocol).toEqual([]);
          expect(await page.evaluate(() => document.documentElement.scrollWidth), 'nothing sticks out').toBe(width);
          const beneath = await page.evaluate(() => document.documentElement.scrollHeight - Math.max(innerHeight, document.body.getBoundingClientRect().bottom + scrollY));
          expect(beneath, 'nothing hangs out of what is scrolled').toBeLessThan(2);
        }
      });
    }
  }

  test('by keyboard alone', async () => {
    const page = await visit('clinic');
    await connected(side(page, 'Pat Patient'));
    const focused = (): Promise<string> =>
      page.evaluate(() => {
        const { activeElement: at } = document;
        return at?.getAttribute('aria-label') ?? at?.closest('label')?.textContent?.trim() ?? at?.textContent?.trim() ?? '';
      });
    const stops: string[] = [];
    for (let tab = 0; tab < 30 && !stops.includes('Somebody else, by a credential of yours'); tab += 1) {
      await page.keyboard.press('Tab');
      stops.push(await focused());
      if (stops.at(-1) === 'Write as Dora Doctor') {
        await page.keyboard.type('typed, not clicked');
        await page.keyboard.press('Enter');
      }
    }
    expect(stops).toEqual([
      ...['consultation', 'therapy', 'clinic', 'mobile', 'mentoring', 'live'],
      ...['On the left', 'Network', 'Own window of Pat Patient', 'Messages of Pat Patient', 'Write as Pat Patient', 'Send', 'Frames and close codes', 'Frames of Pat Patient', 'gRPC calls between the edge and the services', 'gRPC calls for Pat Patient'],
      ...['On the right', 'Network', 'Own window of Dora Doctor', 'Messages of Dora Doctor', 'Write as Dora Doctor', 'Send', 'Frames and close codes', 'Frames of Dora Doctor', 'gRPC calls between the edge and the services', 'gRPC calls for Dora Doctor'],
      'Somebody else, by a credential of yours',
    ]);
    await messages(side(page, 'Pat Patient'), 'Pat Patient').filter({ hasText: 'typed, not clicked' }).waitFor();
  });
});

describe("the documents' examples, pasted into the page's console", () => {
  const dialects = fileURLToPath(new URL('../../../src/dialect/', import.meta.url));
  /** The examples of a document that open a WebSocket and are for a browser's console: a component needs a page around it. */
  function examples(document: string): string[] {
    const text = readFileSync(`${dialects}${document}.md`, 'utf8');
    const fences = [...text.matchAll(/^[ ]*```(?:javascript|js)\n([^]*?)^[ ]*```$/gm)].map((found) => found[1]!);
    return fences.filter((fence) => fence.includes('new WebSocket(') && !fence.includes('import '));
  }
  /** With the addresses and credentials of here. */
  function here(example: string, token: string): string {
    return example
      .replace(/ws:\/\/localhost:8000|wss:\/\/hodi\.co\.ke|ws:\/\/api\.numerobuddy\.com/g, `ws://localhost:${server.port}`)
      .replace(/your-jwt-token-here|your-jwt-token|YOUR_JWT_TOKEN/g, token)
      .replace(/YOUR_CHAT_ID/g, CLINIC_CHAT);
  }
  /** A console, and what is logged in it or given to the functions that the examples leave to the page. */
  async function open(given: Record<string, string>): Promise<{ page: Page; type: (text: string) => Promise<unknown>; said: (text: string) => Promise<void> }> {
    const page = await visit('mentoring');
    await connected(side(page, 'Tess Teacher'));
    const logged: string[] = [];
    page.on('console', async (message) => {
      logged.push(message.text());
      // The page goes when the test ends, whatever it still says.
      const values = await Promise.all(message.args().map((given) => given.jsonValue())).catch((error: unknown) => {
        if (!String(error).includes('has been closed')) throw error;
      });
      if (values) logged.push(JSON.stringify(values));
    });
    const devtools = await page.context().newCDPSession(page);
    const type = async (expression: string): Promise<unknown> => {
      const { exceptionDetails, result } = await devtools.send('Runtime.evaluate', { expression, replMode: true, returnByValue: true });
      if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
      return result.value;
    };
    const theirs = ['displayMessage', 'updateMapLocation', 'updateMessageStatus', 'showTypingIndicator'];
    for (const name of theirs) await type(`function ${name}(...given) { console.log('${name}', JSON.stringify(given)); }`);
    for (const [name, value] of Object.entries(given)) await type(`var ${name} = ${JSON.stringify(value)}`);
    return { page, type, said: async (text) => void (await expect.poll(() => logged.join('\n')).toContain(text)) };
  }

  test('there are so many', () => {
    expect(['therapy', 'clinic', 'mobile', 'mentoring', 'consultation'].map((name) => examples(name).length)).toEqual([3, 2, 1, 0, 3]);
  });

  test('therapy', async () => {
    const [chat, location, manager] = examples('therapy') as [string, string, string];
    const customer = await open({ jwtToken: sign('123'), userRole: 'customer' });
    await customer.type(here(chat, ''));
    await customer.said('Chat WebSocket connected');
    await customer.type("sendMessage('from the document')");
    await customer.said('Message from 123: from the document');
    await customer.said('displayMessage ["from the document","123"');
    const therapist = await open({ jwtToken: sign('456'), userRole: 'therapist' });
    await therapist.type(here(location, ''));
    await therapist.said('Location WebSocket connected');
    await therapist.type('sendLocation(40.7128, -74.0060)');
    await therapist.said('updateMapLocation [40.7128,-74.006]');
    // The last lines of the class's usage send before the socket is open, which it checks: nothing is sent.
    const whole = await open({});
    await whole.type(here(manager, sign('123')));
    await whole.said('Chat connected');
    await whole.type("wsManager.sendMessage('from the manager')");
    await whole.said('New message: {type: message, message: from the manager');
  });

  test('clinic', async () => {
    const [native, devtools] = examples('clinic') as [string, string];
    const first = await open({});
    await first.type(here(native, sign('701')));
    await first.said('WebSocket connection opened');
    await first.said('Received message: Hello, doctor!');
    // Its last line is for when the socket is open.
    const second = await open({});
    const lines = here(devtools, sign('702')).trim().split('\n');
    await second.type(lines.slice(0, -1).join('\n'));
    await expect.poll(() => second.type('ws.readyState')).toBe(1);
    await second.type(lines.at(-1)!);
    await second.said('Test message');
  });

  test('mobile', async () => {
    const console = await open({});
    await console.type(here(examples('mobile')[0]!, ''));
    await console.said('Connection established:');
    await console.type("sendTypingIndicator(true); sendMessage('from the phone')");
    await console.said('showTypingIndicator ["abc123xyz",true]');
    await console.said('"content":"from the phone"');
  });

  test('consultation', async () => {
    for (const [index, heard] of ['Connected to chat', 'Connected to notifications', 'user_online'].entries()) {
      const console = await open({ consultationId: CONSULTATION, token: sign('801') });
      // Somebody is online.
      const other = await visit('consultation/802');
      await connected(side(other, 'Ed Expert'));
      await console.type(`${here(examples('consultation')[index]!, '')}\nws.onmessage = ({ data }) => console.log(data);`);
      await console.said(heard);
    }
  });
});
