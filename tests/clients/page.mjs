// The demonstration's page in Chromium: two people chat in each protocol, and nothing is complained of.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
assert.ok(executablePath, 'chromium is missing: run ./tests/run');
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
});
const page = await browser.newPage();
const complaints = [];
page.on('console', (message) => { if (message.type() === 'error') complaints.push(message.text()); });
page.on('pageerror', (error) => complaints.push(String(error)));
await page.goto(process.argv[2]);

async function say(from, to, text) {
  await page.locator(`#person-${from} input`).fill(text);
  await page.locator(`#person-${from} button`).click();
  await page.locator(`#person-${to} li:not(.mine)`, { hasText: text }).waitFor();
  await page.locator(`#person-${from} li.mine`, { hasText: text }).waitFor();
}

for (const id of [123, 456, 701, 702, 'abc123xyz', 900, 801, 802]) await page.locator(`#person-${id} [data-on=true]`).waitFor();
await say(123, 456, 'Hello, how are you today?');
await say(456, 123, 'Fine <b>thanks</b> & you');
await say(701, 702, 'Hello, doctor!');
await say(702, 701, 'Hello!');
await say('abc123xyz', 900, 'Hello, I need help!');
await say(900, 'abc123xyz', 'How can I help?');
await say(801, 802, 'Hello, expert!');
await say(802, 801, 'Hello, client!');
assert.equal(await page.locator('li b').count(), 0, 'what people write is text');
assert.deepEqual(complaints, []);
if (process.argv[3]) await page.screenshot({ path: process.argv[3], fullPage: true });
await browser.close();
console.log('ok');
