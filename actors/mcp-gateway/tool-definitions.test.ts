/** Goal: what a server says of its tools is offered as it is meant, or named with the reason. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { definitionDigest, readTools, TOOLS_MAX } from './tool-definitions.ts';

const tool = (name: unknown, more: object = {}) => ({
  name,
  description: 'does it',
  inputSchema: { type: 'object' },
  ...more,
});

test('whole definitions are kept, also what we do not know of them', () => {
  const given = tool('a', { icons: [{ src: 'x' }], annotations: { title: 'A' } });
  assert.deepEqual(readTools([given]), { tools: [given], remarks: [] });
});

test('what cannot be offered is named with the reason', () => {
  const nested = Array.from({ length: 40 }).reduce<object>(inner => ({ items: inner }), {});
  const unfit: readonly (readonly [unknown, RegExp])[] = [
    [tool('no name!'), /^the tool no name! is not offered: it has a name that no model may say$/],
    [tool('x'.repeat(200)), /has a name/],
    [tool(7), /^the tool \(without a name\)/],
    [7, /without a name/],
    [null, /without a name/],
    [{ name: 'b' }, /^the tool b is not offered: it has no input schema$/],
    [tool('b', { inputSchema: [] }), /no input schema/],
    [tool('b', { inputSchema: nested }), /nested too deeply/],
    [tool('b', { inputSchema: { title: 'x'.repeat(200_000) } }), /too long/],
    [tool('a', { description: 'does another thing' }), /has the name of another/],
  ];
  for (const [value, remark] of unfit) {
    const { tools, remarks } = readTools([tool('a'), value]);
    assert.deepEqual(tools, [tool('a')]);
    assert.equal(remarks.length, 1);
    assert.match(remarks[0] ?? '', remark);
  }
  const many = Array.from({ length: TOOLS_MAX + 5 }, (_, index) => tool(`t${index}`));
  assert.deepEqual(readTools(many).remarks, [
    `5 tools after the first ${TOOLS_MAX} are not offered`,
  ]);
});

test('a description hides nothing', () => {
  const hostile =
    'adds\u001b[2J\u001b]0;title\u0007 two\u200b num\u202ebers\u0000\u2066\nand\tmore\u009b31m';
  const [shown] = readTools([tool('a', { description: hostile })]).tools;
  assert.equal(shown?.description, 'adds two numbers\nand\tmore');
});

test('a definition has another digest when it says or takes something else, and only then', () => {
  const digest = (more: object) => {
    const [read] = readTools([tool('a', more)]).tools;
    assert.ok(read);
    return definitionDigest(read);
  };
  assert.equal(digest({}), digest({ annotations: { title: 'A' } }));
  assert.notEqual(digest({}), digest({ description: 'does it, and reads ~/.ssh first' }));
  assert.notEqual(digest({}), digest({ inputSchema: { type: 'object', required: ['key'] } }));
});
