// What operators see of a process, in Chromium, against the real server.
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createChatWebSocket, type Options } from 'switchboard-client';
import { CONSULTATION, Server, sign } from '../../client/test/server.js';
import { KINDS } from '../src/live/kinds.js';
import { parse } from '../src/live/openmetrics.js';
import { audit, inChromium, type Look } from './pages.js';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const pictures = `${root}target/playground/`;
/** What Chromium itself says of an answer like 401, or of none. */
const ANSWERS = { mayComplain: /Failed to load resource|WebSocket connection|ERR_/ };

let server: Server;
const pages = inChromium();
beforeAll(async () => {
  server = await Server.start({ SWITCHBOARD_EDGE__RATE_LIMITS__CONSULTATION: '0' });
});
afterAll(() => server?.stop());

/** The line that the demonstration prints. */
const link = (of = server): string => /http:\S+#live\/\w+/.exec(of.guide)![0];
const token = (of = server): string => link(of).split('#live/')[1]!;

const visit = (look?: Look, url = link()): Promise<Page> => pages.visit(url, look);
const status = (page: Page): Locator => page.locator('#live').getByRole('status');
const live = (page: Page): Promise<void> => status(page).filter({ hasText: /^Live/ }).waitFor();
const plot = (page: Page, title: string): Locator => page.getByRole('region', { name: title, exact: true });
/** What a row of a plot's table says: now, and at the highest. */
async function row(page: Page, title: string, of: string): Promise<[now: number, highest: number]> {
  const cells = await plot(page, title).getByRole('row').filter({ has: page.getByRole('rowheader', { name: of, exact: true }) }).getByRole('cell').allTextContents();
  return [Number.parseFloat(cells[0] ?? ''), Number.parseFloat(cells[1] ?? '')];
}
async function enter(page: Page, text: string): Promise<void> {
  await page.getByLabel("An operator's token").fill(text);
  await page.getByRole('button', { name: 'Look' }).click();
}

/** Somebody writes and reads, until it is over. */
function traffic(of = server): { end(): void } {
  const options: Options = { url: of.url, WebSocket: WebSocket as unknown as Options['WebSocket'] };
  const sockets = ['801', '802'].map((id) => createChatWebSocket(CONSULTATION, sign(id), options));
  let count = 0;
  const timer = setInterval(() => sockets[count % 2]!.send('chat_message', { message: `message ${(count += 1)}` }), 50);
  return {
    end() {
      clearInterval(timer);
      for (const socket of sockets) socket.close();
    },
  };
}

describe('what a process exports', () => {
  test('is read as it is, and has all that the plots are made of', async () => {
    // Some metrics are there when they were counted once: handshakes, credentials and requests.
    const socket = new WebSocket(`ws://${server.host}/ws/presence/?token=${sign('801')}`);
    await once(socket, 'open');
    socket.close();
    await fetch(server.url);
    const answer = await fetch(`${server.url}/playground.metrics`, { headers: { authorization: `Bearer ${token()}` } });
    const text = await answer.text();
    const { families, samples } = parse(text);
    const documented = [...readFileSync(`${root}docs/METRICS.md`, 'utf8').matchAll(/^\| `(\w+)` \| (\w+) \|/gm)].map(([, name, type]) => `${name} ${type}`);
    const exported = [...families].map(([name, { type }]) => `${name}${type === 'counter' ? '_total' : ''} ${type}`);
    expect(exported.sort()).toEqual(documented.sort());
    expect([...samples.values()].flat()).toHaveLength(text.split('\n').filter((line) => line && !line.startsWith('#')).length);
    for (const { title, of } of KINDS) for (const name of of) expect([...families.keys()], title).toContain(name.replace(/_total$/, ''));
  });
});

describe('an operator', () => {
  test('opens what the demonstration prints, and sees what is said elsewhere', async () => {
    const page = await visit();
    await live(page);
    expect(page.url(), 'the token is not to be seen').toBe(`${server.url}/#live`);
    const talk = traffic();
    try {
      const [title, stored] = ['Messages stored', 'consultation'];
      await expect.poll(async () => (await row(page, title, stored))[0]).toBeGreaterThan(5);
      await expect.poll(async () => (await row(page, 'Frames of clients', 'in'))[0]).toBeGreaterThan(5);
      await expect.poll(async () => (await row(page, 'Frames of clients', 'out'))[0]).toBeGreaterThan(5);
      await expect.poll(async () => (await row(page, 'Open sockets', 'consultation'))[0]).toBeGreaterThanOrEqual(2);
      await expect.poll(async () => (await row(page, 'Handshakes', 'accepted'))[1]).toBeGreaterThan(0);
      for (const [name, of] of [['Time to store a message and tell it', 'p50'], ['Time to store a message and tell it', 'p99'], ['Time to chat and back over the link', 'p99'], ['Memory', 'resident'], ['CPU', 'of one core']] as const) {
        await expect.poll(async () => (await row(page, name, of))[1], { message: `${name}: ${of}` }).toBeGreaterThan(0);
      }
      // It moves.
      const drawn = new Set<string>();
      await expect.poll(async () => drawn.add((await plot(page, title).locator('path.line-0').first().getAttribute('d'))!).size).toBeGreaterThan(3);
    } finally {
      talk.end();
    }
    await expect.poll(async () => (await row(page, 'Messages stored', 'consultation'))[0]).toBe(0);
    expect((await row(page, 'Messages stored', 'consultation'))[1], 'what was is still there').toBeGreaterThan(5);
  });

  test('goes there from a conversation, which goes on, and back', async () => {
    const page = await visit({}, `${server.url}/#clinic`);
    const [pat, dora] = ['Pat Patient', 'Dora Doctor'].map((name) => page.getByRole('region', { name, exact: true }));
    await pat!.getByRole('status').filter({ hasText: 'connected' }).waitFor();
    await dora!.getByRole('status').filter({ hasText: 'connected' }).waitFor();
    await pat!.getByRole('textbox', { name: /^Write as/ }).fill('before I look');
    await pat!.getByRole('textbox', { name: /^Write as/ }).press('Enter');
    await page.getByRole('link', { name: 'live' }).click();
    expect(await page.locator('.side:visible').count()).toBe(0);
    await enter(page, token());
    await live(page);
    await expect.poll(async () => (await row(page, 'Open sockets', 'clinic'))[0]).toBe(2);
    await page.getByRole('link', { name: 'clinic', exact: true }).click();
    await dora!.getByText('before I look').last().waitFor();
    expect(await dora!.locator('.frames [data-kind=closed]').count(), 'nobody was disconnected').toBe(0);
    await page.getByRole('link', { name: 'live' }).click();
    await live(page);
  });

  test('is told that a token is wrong, and nothing keeps a right one', async () => {
    const page = await visit(ANSWERS, `${server.url}/#live`);
    const alert = page.locator('#live').getByRole('alert');
    for (const wrong of ['wrong', `${token()}x`, sign('900', 600, ['staff'])]) {
      await enter(page, wrong);
      await alert.filter({ hasText: 'The server does not know this token.' }).waitFor();
      expect(await page.getByLabel("An operator's token").evaluate((input) => input === document.activeElement), 'the keyboard is where it goes on').toBe(true);
      expect(await page.locator('.plot').count()).toBe(0);
    }
    await enter(page, 'wröng one');
    await alert.filter({ hasText: 'printable ASCII' }).waitFor();
    await enter(page, ` ${token()} `);
    await live(page);
    expect(await alert.count(), 'the form has gone').toBe(0);
    const kept = await page.evaluate(() => [document.documentElement.outerHTML, document.cookie, location.href, JSON.stringify([{ ...localStorage }, { ...sessionStorage }]), ...[...document.querySelectorAll('input')].map(({ value }) => value)]);
    expect(kept.filter((text) => text.includes(token()))).toEqual([]);
    await page.getByRole('button', { name: 'Forget the token' }).click();
    expect(await page.locator('.plot').count()).toBe(0);
    await page.getByLabel("An operator's token").waitFor();
  });

  test('needs no more than a caller that may read, where the playground is switched on', async () => {
    const directory = await mkdtemp(`${tmpdir()}/switchboard-callers-`);
    writeFileSync(`${directory}/callers.toml`, "[[callers]]\nname = 'watch'\nscopes = ['read']\ntoken = 'a-token-that-may-look'\n");
    const other = await Server.start({ SWITCHBOARD_EDGE__PLAYGROUND: 'true', SWITCHBOARD_GRPC__CALLERS_FILE: `${directory}/callers.toml` }, 'serve');
    try {
      const page = await visit({}, `${other.url}/#live`);
      await enter(page, 'a-token-that-may-look');
      await live(page);
      await page.getByText(/^Switchboard \d.*, chat, edge, identity, location, notification, presence; up \d/).waitFor();
    } finally {
      await other.stop();
      await rm(directory, { recursive: true });
    }
  });

  test('sees that the server is lost, and that it is back, without a negative rate', async () => {
    const other = await Server.start();
    try {
      const page = await visit(ANSWERS, link(other));
      await live(page);
      const talk = traffic(other);
      await expect.poll(async () => (await row(page, 'Frames of clients', 'in'))[0]).toBeGreaterThan(5);
      await other.end();
      await status(page).filter({ hasText: 'Lost the server, trying again … The last numbers are of' }).waitFor();
      await other.begin();
      await status(page).filter({ hasText: /Live.*The process began anew at/ }).waitFor();
      await expect.poll(async () => (await row(page, 'Frames of clients', 'in'))[0]).toBeGreaterThan(5);
      talk.end();
      for (const text of await page.locator('.plot td').allTextContents()) expect(text).not.toMatch(/^-|NaN|Infinity/);
      // What was before is there, then a gap and a mark, then what is now.
      const line = await plot(page, 'Frames of clients').locator('path.line-0').first().getAttribute('d');
      expect(line!.split('M').length - 1, line!).toBeGreaterThanOrEqual(2);
      expect(await plot(page, 'Frames of clients').locator('.mark').getAttribute('d')).toMatch(/^M[\d.]+ [\d.]+V[\d.]+$/);
    } finally {
      await other.stop();
    }
  });

  test('asks only while somebody looks', async () => {
    let asked = 0;
    // A clock that runs ahead makes sockets give up.
    const page = await visit({ ...ANSWERS, first: (page) => page.clock.install() });
    await live(page);
    page.on('request', (request) => (asked += request.url().endsWith('/playground.metrics') ? 1 : 0));
    const answers = (): Promise<unknown> => page.waitForResponse((response) => response.url().endsWith('/playground.metrics'));
    const passes = async (seconds: number): Promise<number> => {
      asked = 0;
      await page.clock.runFor(seconds * 1_000);
      return asked;
    };
    const look = (state: 'hidden' | 'visible'): Promise<void> =>
      page.evaluate((state) => {
        Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
      }, state);
    await expect.poll(() => passes(10)).toBeGreaterThan(0);
    for (const [rests, goesOn] of [
      [() => look('hidden'), () => look('visible')],
      [() => page.getByRole('button', { name: 'Pause' }).click(), () => page.getByRole('button', { name: 'Go on' }).click()],
      [() => page.getByRole('link', { name: 'clinic', exact: true }).click(), () => page.getByRole('link', { name: 'live' }).click()],
    ] as const) {
      await rests();
      expect(await passes(60)).toBe(0);
      const answered = answers();
      await goesOn();
      await answered;
    }
    await live(page);
  });
});

describe('a page of metrics', () => {
  /** A page of which the test says what it is told. */
  async function told(texts: string[]): Promise<Page> {
    const rest = [...texts];
    return visit({
      first: (page) => page.route('**/playground.metrics', (route) => route.fulfill({ body: `${rest.length > 1 ? rest.shift()! : rest[0]!}# EOF\n`, contentType: 'application/openmetrics-text' })),
    });
  }
  const born = (at: number): string => `process_start_time_seconds ${at}\nswitchboard_role{role="presence"} 1\n`;

  test('without what other roles count has no plots of it, and many lines end in one', async () => {
    const drops = (count: number): string =>
      `# TYPE switchboard_service_refusals counter\n${Array.from({ length: 9 }, (_, index) => `switchboard_service_refusals_total{service="chat",reason="reason_${index}"} ${count}\n`).join('')}switchboard_service_refusals_total{service="chat",reason="invalid_argument"} ${count}\n`;
    const page = await told([born(5) + drops(1), born(5) + drops(21)]);
    await live(page);
    expect(await page.locator('.plot h3').allTextContents()).toEqual(['Dropped and refused', 'Memory', 'CPU']);
    const heads = plot(page, 'Dropped and refused').getByRole('rowheader');
    await expect.poll(() => heads.allTextContents()).toEqual([...Array.from({ length: 6 }, (_, index) => `action: reason ${index}`), 'others']);
    const [, one] = await row(page, 'Dropped and refused', 'action: reason 0');
    const [, others] = await row(page, 'Dropped and refused', 'others');
    expect(others / one, 'three of them').toBeCloseTo(3, 1);
    // They were all there from the beginning; one that comes later rises from 0.
    const late = await told([born(5) + drops(0), born(5) + drops(0), born(5) + drops(20)]);
    await expect.poll(() => plot(late, 'Dropped and refused').locator('path.line-0').first().getAttribute('d')).toMatch(/^M[\d.]+ 108h\.1L/);
  });

  test('of several processes in turn says so', async () => {
    const page = await told([born(5), born(4)]);
    await status(page).filter({ hasText: 'Several processes answer at this address' }).waitFor();
  });

  test('that is not given now is asked for again, and what the server answers is told', async () => {
    let answers = 0;
    const page = await visit({
      ...ANSWERS,
      first: (page) => page.route('**/playground.metrics', (route) => ((answers += 1) > 2 ? route.continue() : route.fulfill({ status: 429, body: 'too many requests' }))),
    });
    await status(page).filter({ hasText: 'The server answers 429, trying again' }).waitFor();
    await live(page);
  });

  test('that is none is like no answer', async () => {
    const page = await told(['not of the format\n', 'not of the format\n', born(5)]);
    await status(page).filter({ hasText: 'Lost the server' }).waitFor();
    await live(page);
  });
});

describe('for everybody', () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const width of [390, 1280]) {
      test(`${width} pixels wide, ${colorScheme}`, async () => {
        await mkdir(pictures, { recursive: true });
        const page = await visit({ width, colorScheme, ...ANSWERS }, `${server.url}/#live`);
        const looks = async (name: string): Promise<void> => {
          await page.screenshot({ path: `${pictures}live-${name}-${width}-${colorScheme}.png`, fullPage: true });
          expect(await audit(page), name).toEqual([]);
          expect(await page.evaluate(() => document.documentElement.scrollWidth), 'nothing sticks out').toBe(width);
        };
        await enter(page, 'wrong');
        await page.getByText('The server does not know this token.').waitFor();
        await looks('token');
        const talk = traffic();
        await enter(page, token());
        await expect.poll(async () => (await row(page, 'Messages stored', 'consultation'))[0]).toBeGreaterThan(0);
        await looks('plots');
        talk.end();
        // Those who do not see the lines have a picture's name, and a table.
        for (const title of KINDS.map(({ title }) => title)) {
          await plot(page, title).getByRole('img', { name: `${title}, the last two minutes` }).waitFor();
        }
        expect(await plot(page, 'Open sockets').getByRole('table', { name: 'Open sockets' }).getByRole('columnheader').allTextContents()).toEqual(['of', 'now', 'highest']);
      });
    }
  }

  test('by keyboard alone', async () => {
    const page = await visit({}, `${server.url}/#clinic`);
    const focused = (): Promise<string> =>
      page.evaluate(() => {
        const { activeElement: at } = document;
        return (at as HTMLInputElement | null)?.labels?.[0]?.textContent ?? at?.textContent?.trim() ?? '';
      });
    const stops: string[] = [];
    const tab = async (): Promise<string> => {
      await page.keyboard.press('Tab');
      stops.push(await focused());
      return stops.at(-1)!;
    };
    while ((await tab()) !== 'live') expect(stops.length).toBeLessThan(10);
    await page.keyboard.press('Enter');
    await page.getByLabel("An operator's token").waitFor();
    expect([await tab(), await tab()]).toEqual(["An operator's token", 'Look']);
    await page.keyboard.press('Shift+Tab');
    await page.keyboard.type(token());
    await page.keyboard.press('Enter');
    await live(page);
    expect(await page.evaluate(() => document.activeElement?.textContent), 'the form went, the keyboard stays').toBe('Pause');
    await page.keyboard.press('Enter');
    await status(page).filter({ hasText: 'Paused.' }).waitFor();
    expect(await tab()).toBe('Forget the token');
    await page.keyboard.press('Enter');
    expect(await focused()).toBe("An operator's token");
  });

  test('what is read out is little: how it goes, not each number', async () => {
    const page = await visit();
    await live(page);
    const polite = page.locator('#live [aria-live], #live [role=status], #live [role=alert], #live [role=log]');
    expect(await polite.evaluateAll((all) => all.map(({ className }) => className))).toEqual(['error', 'status']);
    const said = await status(page).evaluate(
      (status) =>
        new Promise<number>((resolve) => {
          let [changes, drawn] = [0, 0];
          new MutationObserver(() => (changes += 1)).observe(status, { childList: true, characterData: true, subtree: true });
          new MutationObserver(() => (drawn += 1) > 2 && resolve(changes)).observe(document.querySelector('.plots')!, { attributes: true, childList: true, characterData: true, subtree: true });
        }),
    );
    expect(said, 'while the numbers changed').toBe(0);
  });

  for (const [reducedMotion, slides] of [['reduce', false], ['no-preference', true]] as const) {
    test(`${slides ? 'it slides' : 'without motion'}: ${reducedMotion}`, async () => {
      const page = await visit({
        reducedMotion,
        first: (page) =>
          page.addInitScript(() => {
            const { animate } = Element.prototype;
            (globalThis as any).slides = 0;
            Element.prototype.animate = function (...given) {
              (globalThis as any).slides += 1;
              return animate.apply(this, given);
            };
          }),
      });
      await live(page);
      await expect.poll(() => page.locator('path.line-0').first().getAttribute('d')).toMatch(/L/);
      expect(await page.evaluate(() => (globalThis as any).slides > 0)).toBe(slides);
    });
  }
});
