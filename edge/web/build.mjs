// Makes playground/playground.js, which the server carries: `npm run build`. It is committed, so that building the server
// needs no Node; a test makes it again and compares.
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

export async function bundle() {
  const { outputFiles } = await build({
    entryPoints: [here('playground/src/main.ts')],
    alias: {
      'switchboard-client/state': here('client/src/state.ts'),
      'switchboard-client': here('client/src/index.ts'),
    },
    absWorkingDir: here('.'),
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    charset: 'utf8',
    banner: { js: '// Made by `npm run build` in edge/web from playground/src and client/src.' },
  });
  return outputFiles[0].text;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { writeFile } = await import('node:fs/promises');
  await writeFile(here('playground/playground.js'), await bundle());
}
