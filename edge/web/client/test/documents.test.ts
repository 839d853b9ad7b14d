// The types against the documents' examples, and against every frame of the transcripts that the server is played with.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const web = fileURLToPath(new URL('../..', import.meta.url));
const dialects = fileURLToPath(new URL('../../../src/dialect/', import.meta.url));
const transcripts = fileURLToPath(new URL('../../../../tests/transcripts/', import.meta.url));
const directory = mkdtempSync(`${web}/client/test/made-`);
afterAll(() => rmSync(directory, { recursive: true }));

/** The type of each example of a document, in order. `-` is not a frame: the body of a REST call. */
const EXAMPLES: Record<string, string[]> = {
  clinic: ['ClinicSent', 'ClinicReceived', 'ClinicReceived', 'ClinicSent'],
  consultation: [
    ...['ConsultationSent', 'ConsultationSent', 'ConsultationSent'],
    ...['ConsultationReceived', 'ConsultationReceived', 'ConsultationReceived'],
    ...['NotificationSent', 'NotificationReceived', 'NotificationReceived', 'NotificationReceived'],
    ...['PresenceReceived', 'PresenceReceived'],
  ],
  mentoring: ['MentoringSent', 'MentoringReceived', 'MentoringReceived', 'MentoringReceived', 'MentoringReceived'],
  mobile: [
    ...['MobileReceived', 'MobileSent', 'MobileSent', 'MobileReceived', 'MobileSent', 'MobileReceived'],
    ...['MobileSent', 'MobileReceived', 'MobileSent', 'MobileReceived', 'MobileReceived', 'MobileReceived', 'MobileReceived'],
  ],
  therapy: ['TherapySent', 'TherapyReceived', 'LocationSent', 'LocationReceived'],
};

/** What the sockets of each transcript say. */
const SAYS: Record<string, string[]> = {
  clinic: ['ClinicReceived'],
  consultation: ['ConsultationReceived'],
  // A message notifies whoever is not there.
  consultation_notifications: ['NotificationReceived', 'ConsultationReceived'],
  consultation_presence: ['PresenceReceived'],
  mentoring: ['MentoringReceived'],
  mobile: ['MobileReceived'],
  therapy: ['TherapyReceived'],
  therapy_location: ['LocationReceived'],
};

const TYPES = [...new Set(Object.values(EXAMPLES).flat())];

/** What the compiler says of constants with these types. */
function check(name: string, constants: [types: string[], value: string, from: string][]): string {
  const lines = constants.map(([types, value, from], index) => {
    const type = [...types, 'ExtensionFrame'].map((each) => `frames.${each}`).join(' | ');
    return `// ${from}\nexport const value${index}: ${type} = ${value};`;
  });
  const file = `${directory}/${name}.ts`;
  writeFileSync(file, `import type * as frames from '../../src/index.js';\ndeclare const _: any;\n${lines.join('\n')}\n`);
  const project = `${directory}/${name}.json`;
  writeFileSync(project, JSON.stringify({ extends: '../../../tsconfig.json', include: [`${name}.ts`] }));
  try {
    execFileSync(process.execPath, [`${web}/node_modules/typescript/bin/tsc`, '--project', project], { encoding: 'utf8' });
    return '';
  } catch (error) {
    return String((error as { stdout?: string }).stdout);
  }
}

/** The examples of a document: its fences of JSON, comments included. */
function fences(document: string): string[] {
  const text = readFileSync(`${dialects}${document}.md`, 'utf8');
  return [...text.matchAll(/^[ ]*```json\n([^]*?)^[ ]*```$/gm)].map((found) => found[1]!.trim());
}

test('there is a table for every document and transcript', () => {
  const names = (path: string, end: string): string[] =>
    readdirSync(path).filter((name) => name.endsWith(end)).map((name) => name.slice(0, -end.length)).sort();
  expect(Object.keys(EXAMPLES).sort()).toEqual(names(dialects, '.md'));
  expect(Object.keys(SAYS).sort()).toEqual(names(transcripts, '.txt'));
});

test('every example of the documents has its type', () => {
  const constants = Object.entries(EXAMPLES).flatMap(([document, types]) => {
    const examples = fences(document);
    expect(examples, document).toHaveLength(types.length);
    return examples.map((example, index): [string[], string, string] => [[types[index]!], example, `${document}.md, ${index + 1}`]);
  });
  expect(check('documents', constants)).toBe('');
});

test('every frame that the transcripts hear has its type', () => {
  const constants = Object.entries(SAYS).flatMap(([name, types]) =>
    readFileSync(`${transcripts}${name}.txt`, 'utf8')
      .split('\n')
      .flatMap((line, index): [string[], string, string][] => {
        const heard = /^\w+ < (\{.*\})$/.exec(line);
        // What is not known before it is played may be anything.
        return heard ? [[types, heard[1]!.replace(/"\$\w+"/g, '_'), `${name}.txt:${index + 1}`]] : [];
      }),
  );
  expect(constants.length).toBeGreaterThan(200);
  expect(check('transcripts', constants)).toBe('');
});

test('a frame that is none has no type', () => {
  const wrong = check('wrong', TYPES.map((type) => [[type], '{"type": "dance", "latitude": "north"}', type]));
  // The constants are on every other line, from the fourth on.
  for (const index of TYPES.keys()) expect(wrong, TYPES[index]).toContain(`wrong.ts(${4 + 2 * index},`);
});
