// Pages in Chromium, of which nothing may complain.
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { launch } from '../../client/test/chromium.js';

export interface Look {
  width?: number;
  colorScheme?: 'light' | 'dark';
  reducedMotion?: 'reduce' | 'no-preference';
  mayComplain?: RegExp;
  /** Runs before the page does. */
  first?: (page: Page) => Promise<unknown>;
}

/** Chromium for the tests of a file: each has windows of its own, and fails when errors, warnings or violations of the policy are told. */
export function inChromium(): { visit(url: string, look?: Look): Promise<Page> } {
  let browser: Browser;
  const contexts: BrowserContext[] = [];
  let complaints: string[] = [];
  beforeAll(async () => {
    browser = await launch();
  });
  afterAll(() => browser?.close());
  afterEach(async () => {
    for (const context of contexts.splice(0)) await context.close();
    const heard = complaints;
    complaints = [];
    expect(heard).toEqual([]);
  });
  return {
    async visit(url, { width = 1280, colorScheme = 'light', reducedMotion = 'no-preference', mayComplain, first } = {}) {
      const context = await browser.newContext({ viewport: { width, height: 850 }, colorScheme, reducedMotion });
      contexts.push(context);
      const page = await context.newPage();
      page.on('console', (message) => {
        if (['error', 'warning'].includes(message.type()) && !mayComplain?.test(message.text())) complaints.push(message.text());
      });
      page.on('pageerror', (error) => complaints.push(String(error)));
      await first?.(page);
      await page.goto(url);
      return page;
    },
  };
}

/** Text whose contrast with what is behind it is too low, and controls without a name. */
export const audit = (page: Page): Promise<string[]> =>
  page.evaluate(() => {
    const channels = (color: string): number[] => (color.match(/[\d.]+/g) ?? []).map(Number);
    const light = ([red = 0, green = 0, blue = 0]: number[]): number => {
      const linear = [red, green, blue].map((value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
    };
    const behind = (element: Element | null): number[] => {
      for (let at = element; at; at = at.parentElement) {
        const color = channels(getComputedStyle(at).backgroundColor);
        if (color.length === 3 || color[3]! > 0) return color;
      }
      return [255, 255, 255];
    };
    const wrong: string[] = [];
    for (const element of document.querySelectorAll('body *')) {
      const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent!.trim());
      if (!own || element.closest('svg, .unseen, option, noscript') || !(element as HTMLElement).offsetParent) continue;
      const [one, other] = [light(channels(getComputedStyle(element).color)), light(behind(element))];
      const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      if (contrast < 4.5) wrong.push(`contrast ${contrast.toFixed(2)}: ${element.outerHTML.slice(0, 120)}`);
    }
    for (const control of document.querySelectorAll<HTMLElement>('button, input, select, a')) {
      const name = control.getAttribute('aria-label') ?? (control as HTMLInputElement).labels?.[0]?.textContent ?? control.textContent;
      if (!name?.trim()) wrong.push(`no name: ${control.outerHTML.slice(0, 120)}`);
    }
    return wrong;
  });
