/** The suite of `ollama-suite.ts`, on the emulator and on a real server of the same models. */
import { describe } from 'node:test';
import type { FakeModelOptions } from '../../../bench/fake-node/fake-model.ts';
import { startFakeNode } from '../../../bench/fake-node/fake-node.ts';
import { findRealOllama, startRealOllama } from '../../../test/real-ollama/real-ollama.ts';
import { SUITE_MODELS } from '../../../test/real-ollama/test-models.ts';
import { ollamaSuite, type SuiteServer } from './ollama-suite.ts';

const CAPABILITIES: Readonly<Record<string, FakeModelOptions['capabilities']>> = {
  tools: ['completion', 'tools'],
  thinks: ['completion', 'thinking'],
};
/** The same shapes and the same template, at the speed of a small machine. */
const FAKE_MODELS: readonly FakeModelOptions[] = SUITE_MODELS.map(({ name, shape }) => ({
  ...{ name, shape, bytesPerToken: 1, loadMs: 100, unloadMs: 5, decode: 3_000, tokens: 30 },
  ...(CAPABILITIES[name] === undefined ? {} : { capabilities: CAPABILITIES[name] }),
}));

const missing = await findRealOllama();
if (missing !== null) process.stdout.write(`# skipped, because ${missing}\n`);

// Side by side: each waits for its loads more than it works.
describe('Ollama', { concurrency: true }, () => {
  describe('as a fake node', { concurrency: 1 }, () => {
    ollamaSuite({
      async start(env = {}): Promise<SuiteServer> {
        const node = await startFakeNode({ models: FAKE_MODELS, env });
        return { host: node.url, kill: () => node.kill(), stop: () => node.stop() };
      },
    });
  });

  describe('for real', { concurrency: 1, skip: missing ?? false }, () => {
    if (missing !== null) return;
    ollamaSuite({
      async start(env = {}): Promise<SuiteServer> {
        const started = await startRealOllama({ models: SUITE_MODELS, env });
        if (started.kind === 'skipped') throw new Error(started.reason);
        return started.ollama;
      },
    });
  });
});
