// The package as somebody installs it: built, loaded by a bare Node, and its README's examples compiled against it.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

const client = fileURLToPath(new URL('..', import.meta.url));
const web = fileURLToPath(new URL('../..', import.meta.url));
const directory = mkdtempSync(`${client}test/made-`);
const manifest = JSON.parse(readFileSync(`${client}package.json`, 'utf8'));
const run = (program: string, ...given: string[]): string => {
  try {
    return execFileSync(process.execPath, [program, ...given], { encoding: 'utf8', cwd: directory });
  } catch (error) {
    return String((error as { stdout?: string; stderr?: string }).stdout) + String((error as { stderr?: string }).stderr);
  }
};
const tsc = `${web}node_modules/typescript/bin/tsc`;

beforeAll(() => {
  const built = run(tsc, '--project', `${client}tsconfig.json`, '--outDir', `${directory}/dist`);
  expect(built).toBe('');
});
afterAll(() => rmSync(directory, { recursive: true }));

test('every entry loads in a bare Node, without opening anything', () => {
  for (const [entry, { import: path, types }] of Object.entries<{ import: string; types: string }>(manifest.exports)) {
    writeFileSync(`${directory}/load.mjs`, `console.log(Object.keys(await import('${path}')).length > 0)`);
    expect(run('load.mjs'), entry).toBe('true\n');
    expect(readFileSync(`${directory}/${types}`, 'utf8')).toContain('export');
  }
  expect(manifest.dependencies, 'nothing comes with it').toBeUndefined();
});

test("the README's examples compile", () => {
  const readme = readFileSync(`${client}README.md`, 'utf8');
  const examples = [...readme.matchAll(/^```tsx?\n([^]*?)^```$/gm)].map((found) => found[1]!);
  expect(examples).toHaveLength(6);
  const given = ['consultationId', 'notificationId', 'customerId', 'therapistId', 'chatId', 'conversationId', 'deviceId'];
  const declared = [
    'declare const token: string | (() => Promise<string>);',
    'declare const input: HTMLInputElement;',
    ...given.map((name) => `declare const ${name}: string;`),
  ].join('\n');
  examples.forEach((example, index) => writeFileSync(`${directory}/example${index}.tsx`, `${example}\n${declared}\n`));
  const compilerOptions = { paths: { 'switchboard-client': ['./dist/index.d.ts'], 'switchboard-client/*': ['./dist/*.d.ts'] }, noUnusedLocals: false };
  writeFileSync(`${directory}/tsconfig.json`, JSON.stringify({ extends: '../../../tsconfig.json', compilerOptions, include: ['example*.tsx'] }));
  expect(run(tsc, '--project', `${directory}/tsconfig.json`)).toBe('');
});

test('what the README says of sizes is so', async () => {
  const { gzipSync } = await import('node:zlib');
  const { build } = await import('esbuild');
  const size = async (entry: string): Promise<number> => {
    const { outputFiles } = await build({
      entryPoints: [`${directory}/dist/${entry}.js`],
      external: ['react'],
      bundle: true,
      minify: true,
      write: false,
      format: 'esm',
      target: 'es2022',
    });
    return gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
  };
  const [core, hooks] = [await size('index'), await size('react')];
  expect(core).toBeGreaterThan(1_000);
  expect(core, 'under 5 KB').toBeLessThan(5_000);
  expect(hooks - core, 'another 2.5 KB').toBeLessThan(2_500);
});
