/** The words in which tool servers say no, brought to one code each. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { refusalCode } from './tool-result.ts';

for (const [message, code] of [
  ['Unknown tool: write', 'unknown_tool'],
  ['MCP error -32602: Input validation error', 'invalid_arguments'],
  ['Access denied - path outside allowed directories: /etc/passwd', 'denied'],
  ['ENOSPC: no space left on device, write', 'disk_full'],
  ['ENOENT: no such file or directory', 'tool_failed'],
] as const) {
  test(`"${message}" is ${code}`, () => assert.equal(refusalCode(message, null), code));
}
