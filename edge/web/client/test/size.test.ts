import { gzipSync } from 'node:zlib';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { expect, test } from 'vitest';

/** What a page loads, in bytes: the README states it. */
const GZIP_BYTES_MAX = 5_000;

async function size(contents: string): Promise<number> {
  const resolveDir = fileURLToPath(new URL('../src', import.meta.url));
  const { outputFiles } = await build({
    stdin: { contents, resolveDir, loader: 'ts' },
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    external: ['react'],
  });
  return gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
}

test('the core keeps to its budget', async () => {
  const core = await size("export * from './index.js'");
  expect(core).toBeGreaterThan(1_000);
  expect(core).toBeLessThan(GZIP_BYTES_MAX);
});
