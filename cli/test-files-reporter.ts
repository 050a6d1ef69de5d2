/**
 * A reporter for Node's test runner: one line of JSON for the begin and the end of each file, as they
 * happen, for whoever wants to know which one is running and which took long.
 */
import type { TestEvent } from 'node:test/reporters';

export interface FileEvent {
  readonly file: string;
  readonly at_ms: number;
  readonly is_end: boolean;
}

// biome-ignore lint/style/noDefaultExport: the runner takes a reporter by its default export
export default async function* filesReporter(
  events: AsyncIterable<TestEvent>,
): AsyncGenerator<string> {
  for await (const { type, data } of events) {
    if (type !== 'test:dequeue' && type !== 'test:complete') continue;
    const { name, file } = data as { readonly name?: string; readonly file?: string };
    // A file is the test that is named like it.
    if (name === undefined || name !== file) continue;
    const event: FileEvent = { file, at_ms: performance.now(), is_end: type === 'test:complete' };
    yield `${JSON.stringify(event)}\n`;
  }
}
