// mentoring.jsx in Chromium, twice: a student's page and a teacher's, each with its own session cookie.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const [address, pagePort, studentSession, teacherSession, number] = process.argv.slice(2);
const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL('mentoring.jsx', import.meta.url))],
  bundle: true, write: false, jsx: 'transform', define: { 'process.env.NODE_ENV': '"development"' },
});
const server = http.createServer((request, response) => {
  if (request.url === '/page.js') response.setHeader('content-type', 'text/javascript').end(outputFiles[0].text);
  else response.setHeader('content-type', 'text/html').end('<!doctype html><link rel="icon" href="data:,"><div id="root"></div><script src="/page.js"></script>');
});
await new Promise((resolve) => server.listen(Number(pagePort), '127.0.0.1', resolve));

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-sync', '--no-first-run'] });
async function open(session, path) {
  const context = await browser.newContext();
  if (session) await context.addCookies([{ name: 'sessionid', value: session, domain: '127.0.0.1', path: '/', httpOnly: true }]);
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${pagePort}/?host=${address}&path=${encodeURIComponent(path)}`);
  return page;
}
const say = async (page, text) => { await page.fill('input', text); await page.click('button'); };

const student = await open(studentSession, '/my-conversation/');
const teacher = await open(teacherSession, `/conversations/${number}/`);
for (const page of [student, teacher]) await page.locator('output', { hasText: /^Connected$/ }).waitFor();
await say(student, 'Hello, how are you today?');
await student.locator('.my-message', { hasText: 'Hello, how are you today?' }).waitFor();
const received = teacher.locator('.other-message', { hasText: 'johndoe: Hello, how are you today?' });
await received.waitFor();
await say(teacher, 'Fine, thanks');
await teacher.locator('.my-message', { hasText: 'Fine, thanks' }).waitFor();
await student.locator('.other-message', { hasText: 'tess: Fine, thanks' }).waitFor();
assert.equal(await student.locator('.my-message').getAttribute('data-read'), 'false');
await received.click();
await student.locator('.my-message[data-read=true]').waitFor();
await say(student, '   ');
await student.locator('em', { hasText: 'Message content cannot be empty.' }).waitFor();
const stranger = await open('', '/my-conversation/');
await stranger.locator('em', { hasText: 'closed 4001' }).waitFor();
await browser.close();
server.close();
console.log('ok');
