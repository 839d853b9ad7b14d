// The library in Chromium, from a page of another origin, against the real server.
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type * as client from '../src/index.js';
import type * as state from '../src/state.js';
import { launch } from './chromium.js';
import { CONSULTATION, Network, Server, sign } from './server.js';

declare global {
  interface Window {
    switchboard: typeof client & typeof state;
    made: any;
    heard: any[];
  }
}

let server: Server;
let network: Network;
let browser: Browser;
let pages: http.Server;
let origin: string;
beforeAll(async () => {
  server = await Server.start();
  network = await Network.to(server);
  browser = await launch();
  const { outputFiles } = await build({
    stdin: {
      contents: "import * as client from './index.js'; import * as state from './state.js'; window.switchboard = { ...client, ...state };",
      resolveDir: fileURLToPath(new URL('../src', import.meta.url)),
    },
    bundle: true,
    write: false,
  });
  pages = http.createServer((request, response) => {
    const isScript = request.url === '/client.js';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? outputFiles[0]!.text : '<!doctype html><link rel=icon href=data:,><script src=client.js></script>');
  });
  await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
});
afterAll(async () => {
  await browser?.close();
  pages?.close();
  network?.close();
  await server?.stop();
});

const mistakes: string[] = [];
async function open(): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  page.on('pageerror', (error) => mistakes.push(String(error)));
  await page.goto(origin);
  return page;
}

/** A conversation in a page, as `window.made`. */
async function converse(page: Page, token: string, url = server.url): Promise<void> {
  await page.evaluate(
    ({ id, token, url }) => {
      const { createChatWebSocket, Conversation } = window.switchboard;
      window.made = new Conversation(createChatWebSocket(id, token, { url, storage: sessionStorage, retryInitialMs: 50, retryMaxMs: 200 }));
    },
    { id: CONSULTATION, token, url },
  );
}

const stored = (page: Page, text: string): Promise<unknown> =>
  page.waitForFunction(
    (text) => window.made.getSnapshot().messages.some((message: state.Message) => message.content === text && message.at !== ''),
    text,
  );
const send = (page: Page, text: string): Promise<void> => page.evaluate((text) => void window.made.sendMessage(text), text);
const texts = (page: Page): Promise<string[]> =>
  page.evaluate(() => window.made.getSnapshot().messages.map(({ content }: state.Message) => content));

test('two pages chat; a cut, a reload and a return of the network lose and double nothing', async () => {
  const [clara, ed] = [await open(), await open()];
  await converse(clara, sign('801'), `http://${network.host}`);
  await converse(ed, sign('802'));
  for (const page of [clara, ed]) await page.waitForFunction(() => window.made.socket.isConnected);
  await send(clara, 'one');
  await Promise.all([stored(clara, 'one'), stored(ed, 'one')]);
  network.cut();
  await clara.waitForFunction(() => !window.made.socket.isConnected);
  await send(clara, 'two');
  await send(ed, 'from Ed');
  await stored(ed, 'from Ed');
  network.mend();
  await Promise.all([stored(clara, 'two'), stored(clara, 'from Ed'), stored(ed, 'two')]);
  // The page goes while a message waits.
  network.cut();
  await clara.waitForFunction(() => !window.made.socket.isConnected);
  await send(clara, 'three');
  await clara.reload();
  network.mend();
  await converse(clara, sign('801'), `http://${network.host}`);
  await Promise.all([stored(clara, 'three'), stored(ed, 'three')]);
  expect(await texts(ed)).toEqual(['one', 'from Ed', 'two', 'three']);
});

test('what Chromium says when it is offline is heard', async () => {
  const page = await open();
  // It would wait for a minute by itself.
  await page.evaluate(
    ({ token, url }) => {
      const { createPresenceWebSocket } = window.switchboard;
      window.made = createPresenceWebSocket(token, { url, retryInitialMs: 60_000, retryMaxMs: 60_000 });
    },
    { token: sign('801'), url: `http://${network.host}` },
  );
  await page.waitForFunction(() => window.made.isConnected);
  await page.context().setOffline(true);
  network.cut();
  await page.waitForFunction(() => window.made.status === 'waiting');
  network.mend();
  await page.context().setOffline(false);
  await page.waitForFunction(() => window.made.isConnected);
});

test('close codes reach a page', async () => {
  const page = await open();
  const ended = await page.evaluate(
    ({ id, token, url }) =>
      new Promise((resolve) => window.switchboard.createChatWebSocket(id, token, { url }).onDisconnect(resolve)),
    { id: CONSULTATION, token: sign('801', -5), url: server.url },
  );
  expect(ended).toEqual({ code: 4001, reason: 'not authenticated', comeBack: 'no' });
});

test('200 messages a second do not stop the page', async () => {
  const [clara, ed] = [await open(), await open()];
  const url = (await (fast ??= Server.start({ SWITCHBOARD_EDGE__RATE_LIMITS__CONSULTATION: '0' }))).url;
  await converse(clara, sign('801'), url);
  await converse(ed, sign('802'), url);
  for (const page of [clara, ed]) await page.waitForFunction(() => window.made.socket.isConnected);
  await clara.evaluate(() => {
    let count = 0;
    const timer = setInterval(() => {
      for (let index = 0; index < 4; index += 1) window.made.sendMessage(`fast ${(count += 1)}`);
      if (count >= 1_000) clearInterval(timer);
    }, 20);
  });
  // Frames are painted all the while.
  const painted = ed.evaluate(
    () =>
      new Promise<number>((resolve) => {
        let frames = 0;
        const paint = (): void => {
          frames += 1;
          const { messages } = window.made.getSnapshot();
          if (messages.at(-1)?.content === 'fast 1000') resolve(frames);
          else requestAnimationFrame(paint);
        };
        paint();
      }),
  );
  expect(await painted).toBeGreaterThan(20);
  expect(await texts(ed)).toEqual(Array.from({ length: 1_000 }, (_, index) => `fast ${index + 1}`));
});
let fast: Promise<Server> | undefined;
afterAll(async () => {
  await (await fast)?.stop();
});

test('no page threw anything', () => expect(mistakes).toEqual([]));
