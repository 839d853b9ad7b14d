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

// The therapist moves.
const dot = page.locator('#location-123 circle');
const place = () => dot.getAttribute('cx');
await page.waitForFunction(() => document.querySelector('#location-123 polyline').getAttribute('points')?.split(' ').length > 2);
assert.ok(await place());
// A notification arrives, and is read.
const inbox = page.locator('#notifications-801');
await inbox.locator('li.unread', { hasText: 'Daily Reading Ready' }).first().waitFor();
const unread = Number(await inbox.locator('.badge').textContent());
assert.ok(unread > 0);
await inbox.locator('li button').first().click();
await page.waitForFunction((count) => Number(document.querySelector('#notifications-801 .badge').textContent) < count, unread);
// People come and go.
const seenByEd = page.locator('#presence-802 li');
await seenByEd.filter({ hasText: 'Clara Client' }).waitFor();
await page.locator('#presence-801 button').click();
await seenByEd.filter({ hasText: 'Clara Client' }).waitFor({ state: 'detached' });
await page.locator('#presence-801 button').click();
await seenByEd.filter({ hasText: 'Clara Client' }).waitFor();
await seenByEd.filter({ hasText: 'Vera Visitor' }).waitFor();
assert.deepEqual(complaints, []);
if (process.argv[3]) await page.screenshot({ path: process.argv[3], fullPage: true });
await browser.close();
console.log('ok');
