/** Goal: each particular shape and fault of an answer is read or refused as the README says. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseAnswer } from './parse-answer.ts';
import {
  CONTEXT,
  calls,
  ENVELOPE,
  EXPECTED,
  FILES,
  file,
  json,
  STORE,
  TEST,
  TO_DO,
  write,
} from './test-answers.ts';

describe('particular answers', () => {
  const invalid = (answer: string, context = CONTEXT): string => {
    const result = parseAnswer(answer, context);
    assert.equal(result.kind, 'invalid', JSON.stringify(result).slice(0, 500));
    return result.kind === 'invalid' ? result.error : '';
  };
  const one = { ...CONTEXT, owns: ['src/store.js'], mcp_tools: [] };
  const single = [write('src/store.js', STORE)];

  for (const heading of [
    'src/store.js',
    './src/store.js',
    '`src/store.js`',
    '**src/store.js**',
    '**`src/store.js`**:',
    '### 1. `src/store.js`',
    '- src/store.js:',
    'File: src/store.js',
    '**File: `src/store.js`**',
    'Path: src/store.js (new)',
    '// src/store.js',
    'Here is `src/store.js`:',
  ]) {
    it(`a path written as ${heading} names its block`, () => {
      assert.deepEqual(calls(parseAnswer(`${heading}\n\n\`\`\`js\n${STORE}\`\`\`\n`, one)), single);
    });
  }
  for (const info of [
    'js src/store.js',
    'js:src/store.js',
    'js title="src/store.js"',
    'src/store.js',
  ]) {
    it(`a fence with the info ${info} names its block`, () => {
      assert.deepEqual(calls(parseAnswer(`\`\`\`${info}\n${STORE}\`\`\`\n`, one)), single);
    });
  }
  it('a block without a path is the only file of a task that owns one', () => {
    assert.deepEqual(calls(parseAnswer(`Here:\n\`\`\`js\n${STORE}\`\`\``, one)), single);
  });
  it('a path in the first comment counts where the task owns it', () => {
    const code = `// src/store.js\n${STORE}`;
    const context = { ...one, owns: ['src/**'] };
    assert.deepEqual(calls(parseAnswer(`\`\`\`js\n${code}\`\`\``, context)), [
      write('src/store.js', code),
    ]);
  });
  it('a fence longer than the inner ones keeps them', () => {
    const readme = 'Run:\n\n```sh\nnpm start\n```\n\n```\ntree\n```\n';
    const context = { ...one, owns: ['README.md'] };
    assert.deepEqual(calls(parseAnswer(file('README.md', readme, 'md', '````'), context)), [
      write('README.md', readme),
    ]);
  });
  it('inner fences that name a language are told from the end of a README', () => {
    const readme = 'Run:\n\n```sh\nnpm start\n```\n\nDone.\n';
    const context = { ...one, owns: ['README.md'] };
    assert.deepEqual(calls(parseAnswer(file('README.md', readme, 'md'), context)), [
      write('README.md', readme),
    ]);
  });
  it('bare inner fences of a README come in pairs, the last one before the envelope closes it', () => {
    const context = { ...one, owns: ['README.md', 'src/store.js'] };
    const readme = 'Run:\n\n```\nnpm start\n```\n\n```\ntree\n```\n\nDone.\n';
    const files = [write('README.md', readme), write('src/store.js', STORE)];
    for (const end of [json({ success: true }), JSON.stringify({ success: true }), '']) {
      const blocks = file('README.md', readme, 'md') + file('src/store.js', STORE);
      assert.deepEqual(calls(parseAnswer(blocks + end, context)), files);
      const turned = file('src/store.js', STORE) + file('README.md', readme, 'md');
      assert.deepEqual(calls(parseAnswer(turned + end, context)), files.toReversed());
    }
  });
  it('bare inner fences that do not come in pairs are refused, not cut', () => {
    const readme = 'Run:\n\n```\nnpm start\n\nDone.\n';
    const context = { ...one, owns: ['README.md'] };
    assert.match(
      invalid(file('README.md', readme, 'md') + json({ success: true }), context),
      /longer fence/,
    );
  });
  for (const name of [
    'write_to_file',
    'create_file',
    'fs.writeFile',
    'save_file',
    'createNewFile',
  ]) {
    it(`${name} with a whole block writes the file`, () => {
      const [server, tool] = name.includes('.') ? name.split('.') : ['', name];
      const call = { server, tool, arguments: { path: 'src/store.js' } };
      const given = { server, tool, arguments: { filePath: 'src/store.js', file_content: STORE } };
      const blocks = file('src/store.js', STORE) + json({ success: true, tool_calls: [call] });
      assert.deepEqual(calls(parseAnswer(blocks, one)), single);
      assert.deepEqual(
        calls(parseAnswer(json({ success: true, tool_calls: [given] }), one)),
        single,
      );
    });
  }
  it('a call that appends is not one that writes the whole file', () => {
    const call = { tool: 'write_to_file', arguments: { path: 'src/store.js', append: true } };
    const answer = file('src/store.js', STORE) + json({ success: true, tool_calls: [call] });
    assert.match(invalid(answer, one), /no tool write_to_file/);
  });
  it('a file too many is left out, and the summary says so', () => {
    const add = {
      server: 'git',
      tool: 'git_add',
      arguments: { repo_path: '.', files: ['src/store.js', 'package.json'] },
    };
    const answer = json({
      success: true,
      summary: 'Added the store',
      tool_calls: [write('src/store.js', STORE), write('package.json', '{}'), add],
    });
    const result = parseAnswer(answer, one);
    assert.deepEqual(calls(result), [
      ...single,
      { ...add, arguments: { repo_path: '.', files: ['src/store.js'] } },
    ]);
    assert.match(
      result.kind === 'work' ? result.summary : '',
      /^Added the store \(package\.json is not the task's and was left out\)$/,
    );
  });
  it('a file of the task that is missing is asked for, also behind an envelope', () => {
    const context = { ...one, owns: ['src/store.js', 'src/server.js', 'package-lock.json'] };
    const answer = file('src/store.js', STORE) + json({ success: true, tool_calls: [] });
    const asked = parseAnswer(answer, context);
    assert.ok(asked.kind === 'invalid');
    assert.match(asked.error, /these files are missing: src\/server\.js\. Give only those/);
    assert.deepEqual(asked.kept, single, 'what is right is kept');
    const torn = parseAnswer(
      `${file('src/store.js', '// ... rest of the code\n')}${json({})}`,
      context,
    );
    assert.ok(torn.kind === 'invalid');
    assert.equal(torn.kept, undefined, 'where something else is wrong all is asked for');
    const existing = { ...context, existing: ['src/server.js'] };
    assert.deepEqual(calls(parseAnswer(answer, existing)), single);
  });
  it('a path has no blanks around it, a text keeps its own', () => {
    const read = CONTEXT.tools.map(tool => ({ ...tool, name: 'search_files' }));
    const tags = `<function=write_file>
<parameter=path>
src/store.js
</parameter>
<parameter=content>
${STORE}
</parameter>
</function>`;
    assert.deepEqual(calls(parseAnswer(tags, one)), [write('src/store.js', `${STORE}\n`)]);
    const search = '<function=search_files>\n<parameter=path>\nsrc\n</parameter>\n</function>';
    const asked = parseAnswer(search, { ...one, tools: read.slice(0, 1) });
    assert.deepEqual(asked.kind === 'work' && asked.calls[0]?.arguments, { path: 'src' });
  });
  it('calls keep the order of the envelope, behind the files that it leaves out', () => {
    const note = { server: 'memory', tool: 'create_entities', arguments: { entities: [] } };
    const add = { server: 'git', tool: 'git_add', arguments: { repo_path: '.', files: ['.'] } };
    const store = write('src/store.js', STORE);
    const answer =
      file('test/a.js', TEST) + json({ success: true, tool_calls: [note, store, add] });
    assert.deepEqual(calls(parseAnswer(answer, CONTEXT)), [
      write('test/a.js', TEST),
      note,
      store,
      add,
    ]);
  });
  it('a missing file is named', () => {
    assert.match(invalid(json(ENVELOPE)), /content of src\/store\.js is missing/);
  });
  it('an unknown tool gets the names of the real ones', () => {
    const answer = json({
      success: true,
      tool_calls: [{ server: 'fs', tool: 'save', arguments: {} }],
    });
    assert.match(
      invalid(answer),
      /no tool fs\.save; the tools are: filesystem\.write_file, git\.git_add/,
    );
  });
  it('a file outside the owned ones is refused when a call writes it', () => {
    const answer = json({ success: true, tool_calls: [write('package.json', '{}')] });
    assert.match(invalid(answer), /package\.json is not yours to write; you own: src\/store\.js/);
  });
  it('a quoted file outside the owned ones is left out when nothing writes it', () => {
    const result = parseAnswer(
      file('openapi.json', '{}\n', 'json') + FILES + json(ENVELOPE),
      CONTEXT,
    );
    assert.deepEqual(calls(result), EXPECTED);
  });
  for (const path of ['/etc/passwd', '../x.js', 'a/../../b.js', '.git/config', 'C:/x.js']) {
    it(`the path ${path} is refused`, () => {
      invalid(json({ success: true, tool_calls: [write(path, STORE)] }), { ...CONTEXT, owns: [] });
      invalid(file(path, STORE), { ...CONTEXT, owns: [] });
    });
  }
  for (const hole of [
    '// ... rest of code',
    '  # rest of the implementation here',
    '...',
    `  // ${TO_DO}: implement this`,
    'def login...',
    '/* ... */',
    '// existing code unchanged',
  ]) {
    it(`code with the hole ${hole} is never written`, () => {
      assert.match(invalid(file('src/store.js', `${STORE}${hole}\n`), one), /leaves code out/);
    });
  }
  for (const line of [
    'call(...args);',
    `const text = '${TO_DO} list';`,
    `// ${TO_DO} items live here`,
    'a = [...b, 1];',
  ]) {
    it(`code with the line ${line} is whole`, () => {
      assert.equal(parseAnswer(file('src/store.js', `${STORE}${line}\n`), one).kind, 'work');
    });
  }
  it('elided content gives way to `code`', () => {
    const answer = JSON.stringify({
      success: true,
      fixed_code: STORE,
      tool_calls: [write('src/store.js', 'export class Store...')],
    });
    assert.deepEqual(calls(parseAnswer(answer, one)), single);
  });
  it('`code` and a different content are refused', () => {
    const answer = JSON.stringify({
      success: true,
      code: STORE,
      tool_calls: [write('src/store.js', TEST)],
    });
    assert.match(invalid(answer, one), /differ/);
  });
  it('`code` alone belongs to the only file', () => {
    assert.deepEqual(
      calls(parseAnswer(JSON.stringify({ success: true, component_code: STORE }), one)),
      single,
    );
  });
  it('arguments given as a JSON string are read', () => {
    const call = {
      ...write('', ''),
      arguments: JSON.stringify({ file_path: 'src/store.js', content: STORE }),
    };
    assert.deepEqual(calls(parseAnswer(json({ success: true, tool_calls: [call] }), one)), single);
  });
  it('older argument names of git_add become the live ones', () => {
    const call = { server: 'git', tool: 'git_add', arguments: { paths: '["src/store.js"]' } };
    const answer = file('src/store.js', STORE) + json({ success: true, tool_calls: [call] });
    assert.deepEqual(calls(parseAnswer(answer, one)), [
      ...single,
      { server: 'git', tool: 'git_add', arguments: { files: ['src/store.js'], repo_path: '.' } },
    ]);
  });
  it('a refusal keeps its reason and what it needs', () => {
    const refusal = {
      success: false,
      reason: 'need_context',
      summary: 'the schema',
      needs: ['db.sql'],
    };
    assert.deepEqual(parseAnswer(json(refusal), CONTEXT), {
      kind: 'refusal',
      reason: 'need_context',
      summary: 'the schema',
      needs: ['db.sql'],
    });
  });
  it('a refusal in plain words is a refusal', () => {
    assert.equal(parseAnswer("I'm sorry, but I can't help with that.", CONTEXT).kind, 'refusal');
  });
  it('an empty answer and an answer of reasoning alone say so', () => {
    assert.match(invalid('  \n'), /empty/);
    assert.match(invalid('<think>hm</think>\n'), /only reasoning/);
  });
  it('a broken JSON file is refused', () => {
    const context = { ...one, owns: ['package.json'] };
    assert.match(invalid(file('package.json', '{"a":1,}\n', 'json'), context), /not valid JSON/);
  });
  it('a broken last envelope is not replaced by an earlier one', () => {
    const answer = `${FILES}${json(ENVELOPE)}Wait:\n{"success": true, "tool_calls": [}`;
    assert.match(invalid(answer), /envelope is not valid/);
  });
});
