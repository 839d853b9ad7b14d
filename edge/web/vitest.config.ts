import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const source = (name: string): string => fileURLToPath(new URL(`client/src/${name}`, import.meta.url));

export default defineConfig({
  resolve: {
    alias: [
      { find: /^switchboard-client\/react$/, replacement: source('react.tsx') },
      { find: /^switchboard-client\/state$/, replacement: source('state.ts') },
      { find: /^switchboard-client$/, replacement: source('index.ts') },
    ],
  },
  test: {
    include: ['client/test/**/*.test.{ts,tsx}', 'playground/test/**/*.test.ts'],
    // Real processes and a browser, on machines with other things to do.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // A test that hangs says so, and one that fails is not tried again.
    retry: 0,
    expect: { poll: { timeout: 30_000 } },
    maxWorkers: 2,
  },
});
