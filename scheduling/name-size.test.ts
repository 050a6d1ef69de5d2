/** Goal: the size that a name tells is never far under that of the file behind it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sizeOfName } from './name-size.ts';

const GB = 1e9;

test('names that tell their parameters: not under the file, and not twice as large', () => {
  // As Ollama's library lists them.
  const files: readonly (readonly [string, number])[] = [
    ['qwen2.5-coder:14b', 9 * GB],
    ['qwen2.5-coder:7b', 4.7 * GB],
    ['llama3.1:8b', 4.9 * GB],
    ['llama3.1:8b-instruct-q8_0', 8.5 * GB],
    ['llama3.1:8b-instruct-fp16', 16 * GB],
    ['llama3.1:70b', 43 * GB],
    ['qwen3:32b', 20 * GB],
    ['qwen3:30b-a3b', 19 * GB],
    ['mixtral:8x7b', 26 * GB],
    ['smollm2:135m', 0.07 * GB],
    ['gemma3n:e2b', 5.6 * GB],
    ['hf.co/bartowski/some-model-GGUF:4b', 2.5 * GB],
  ];
  for (const [name, bytes] of files) {
    const guess = sizeOfName(name) ?? assert.fail(name);
    assert.ok(
      guess >= bytes * 0.97 && guess <= bytes * 2,
      `${name}: ${guess / GB} for ${bytes / GB}`,
    );
  }
});

test('names that tell nothing', () => {
  for (const name of ['chat', 'llama3:latest', 'gpt-oss', 'phi3:mini', 'v1.5b2', 'x:b', '']) {
    assert.equal(sizeOfName(name), null, name);
  }
});
