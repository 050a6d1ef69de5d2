/**
 * A fake node that the test takes the word from: what an answer consists of is written by the test
 * itself, for what no server can be brought to do on demand. What it is asked is kept to be looked
 * at; all else it does as `bench/fake-node` does it.
 */
import type { ServerResponse } from 'node:http';
import type { Capability } from '../../../bench/fake-node/fake-model.ts';
import { startFakeNode } from '../../../bench/fake-node/fake-node.ts';
import type { Exchange } from '../../../bench/fake-node/node-state.ts';

export interface ChatLine {
  readonly [key: string]: unknown;
}

type Answer = (response: ServerResponse, body: Record<string, unknown>) => void;

export interface FakeOllama {
  readonly host: string;
  /** Bodies of the requests to /api/chat, in order; those that load have no messages. */
  readonly chats: readonly Record<string, unknown>[];
  /** Requests whose connection was closed before they were answered in full. */
  readonly closed: number;
  readonly shows: number;
  /** What a chat with messages does; by default it says `hello`. */
  onChat(answer: Answer): void;
  onLoad(answer: Answer): void;
  setModels(models: readonly FakeModel[]): void;
  stop(): Promise<void>;
}

export interface FakeModel {
  readonly name: string;
  readonly digest?: string;
  readonly capabilities?: readonly string[];
  readonly family?: string;
  /** Two thirds of it on a card. */
  readonly loaded?: boolean;
}

export const line = (response: ServerResponse, value: ChatLine): void =>
  void response.write(`${JSON.stringify(value)}\n`);

export const say = (response: ServerResponse, content: string): void =>
  line(response, { message: { role: 'assistant', content }, done: false });

export function finish(response: ServerResponse, more: ChatLine = {}): void {
  line(response, {
    ...{ message: { role: 'assistant', content: '' }, done: true, done_reason: 'stop' },
    ...{ prompt_eval_count: 400, eval_count: 2, load_duration: 1, total_duration: 2 },
    ...more,
  });
  response.end();
}

export function refuse(response: ServerResponse, status: number, error: string): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ error }));
}

export async function startFakeOllama(): Promise<FakeOllama> {
  const chats: Record<string, unknown>[] = [];
  const count = { closed: 0, shows: 0 };
  let models: readonly FakeModel[] = [{ name: 'tiny:latest' }];
  let chat: Answer | null = null;
  let load: Answer | null = null;

  const intercept = ({ path, body, response, caller }: Exchange): boolean => {
    if (path === '/api/show') count.shows += 1;
    const loaded = models.filter(model => model.loaded === true);
    if (path === '/api/ps' && loaded.length > 0) {
      response.end(JSON.stringify({ models: loaded.map(running) }));
      return true;
    }
    if (path !== '/api/chat') return false;
    chats.push(body);
    caller.onGone(() => {
      count.closed += 1;
    });
    const { messages } = body;
    const answer = Array.isArray(messages) && messages.length === 0 ? load : chat;
    if (answer === null || !models.some(({ name }) => name === body['model'])) return false;
    answer(response, body);
    return true;
  };
  const node = await startFakeNode({ models: models.map(options), intercept });
  return {
    host: node.url,
    chats,
    get closed() {
      return count.closed;
    },
    get shows() {
      return count.shows;
    },
    onChat(answer) {
      chat = answer;
    },
    onLoad(answer) {
      load = answer;
    },
    setModels(next) {
      models = next;
      node.setModels(next.map(options));
    },
    stop: () => node.stop(),
  };
}

const options = ({ loaded: _, capabilities, ...model }: FakeModel) => ({
  ...model,
  ...{ shape: {}, answer: 'hello', bytesPerToken: 1 },
  ...(capabilities === undefined ? {} : { capabilities: capabilities as readonly Capability[] }),
});

const running = ({ name, digest }: FakeModel): object => ({
  ...{ name, model: name, digest: digest ?? name, details: {} },
  ...{ size: 6e9, size_vram: 4e9, context_length: 8_192 },
});
