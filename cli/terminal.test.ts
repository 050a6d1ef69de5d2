/** What reaches the streams: our own dress, and of others' text only what can be read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTerminal, table } from './terminal.ts';

const HOSTILE = 'evil\x1b[2J\x1b]0;x\x07\u202e\rname';
const SHOWN = 'evil��name';

function streams(isTTY: boolean) {
  const written = { stdout: '', stderr: '' };
  const stream = (name: keyof typeof written) => ({
    isTTY,
    columns: 80,
    hasColors: () => true,
    write: (text: string) => {
      written[name] += text;
      return true;
    },
  });
  return { written, stdout: stream('stdout'), stderr: stream('stderr') };
}

for (const isTTY of [true, false]) {
  test(`results, remarks and pictures are cleaned, ${isTTY ? 'on a terminal' : 'in a pipe'}`, async () => {
    const { written, stdout, stderr } = streams(isTTY);
    const terminal = createTerminal(false, stdout, stderr);
    terminal.line(HOSTILE);
    terminal.result({}, () => table([['A'], [HOSTILE]]));
    terminal.note(HOSTILE);
    const painter = await terminal.painter('stderr');
    painter.paint(HOSTILE);
    painter.done();
    assert.equal(written.stdout, `${SHOWN}\nA\n${SHOWN}\n`);
    assert.ok(written.stderr.startsWith(`${SHOWN}\n`));
    assert.ok(!written.stderr.includes('\x1b[2J\x1b]0;') && !written.stderr.includes('\u202e'));
  });
}

test('our own dress survives, on terminals only, also around the text of others', () => {
  for (const [isTTY, expected] of [
    [true, `\x1b[31m${SHOWN}\x1b[39m b\n`],
    [false, `${SHOWN} b\n`],
  ] as const) {
    const { written, stdout, stderr } = streams(isTTY);
    const terminal = createTerminal(false, stdout, stderr);
    terminal.line(`${terminal.style('red', HOSTILE)} b`);
    assert.equal(written.stdout, expected);
  }
});

test('what is passed on is cleaned on a terminal, and comes through a pipe as it is', () => {
  for (const [isTTY, expected] of [
    [true, SHOWN],
    [false, HOSTILE],
  ] as const) {
    const { written, stdout, stderr } = streams(isTTY);
    createTerminal(true, stdout, stderr).print(HOSTILE);
    assert.equal(written.stdout, expected);
  }
});

test('JSON is letters with the same value', () => {
  const { written, stdout, stderr } = streams(true);
  createTerminal(true, stdout, stderr).result({ name: HOSTILE }, () => '');
  assert.doesNotMatch(written.stdout, /(?!\n)[\p{Cc}\p{Cf}]/u);
  assert.deepEqual(JSON.parse(written.stdout), { name: HOSTILE });
});
