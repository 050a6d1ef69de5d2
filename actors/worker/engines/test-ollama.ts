/**
 * A small HTTP stand-in for Ollama, for what the real one cannot be brought to do on demand: hang,
 * break off, answer 503, repeat itself. What it is asked is kept for the test to look at.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ChatLine {
  readonly [key: string]: unknown;
}

export interface FakeOllama {
  readonly host: string;
  /** Bodies of the requests to /api/chat, in order; those that load have no messages. */
  readonly chats: readonly Record<string, unknown>[];
  /** Requests whose connection was closed before they were answered in full. */
  readonly closed: number;
  readonly shows: number;
  /** What a chat with messages does; by default it says `hello`. */
  onChat(answer: (response: ServerResponse, body: Record<string, unknown>) => void): void;
  onLoad(answer: (response: ServerResponse) => void): void;
  setModels(models: readonly FakeModel[]): void;
  stop(): Promise<void>;
}

export interface FakeModel {
  readonly name: string;
  readonly digest?: string;
  readonly capabilities?: readonly string[];
  readonly family?: string;
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
  let chat = (response: ServerResponse, _body: Record<string, unknown>): void => {
    say(response, 'hel');
    say(response, 'lo');
    finish(response);
  };
  let load = (response: ServerResponse): void => {
    response.end(JSON.stringify({ message: { content: '' }, done: true, done_reason: 'load' }));
  };
  const routes: Record<string, (response: ServerResponse, body: Record<string, unknown>) => void> =
    {
      '/api/version': response => void response.end('{"version":"0.99.0"}'),
      '/api/tags': response => void response.end(JSON.stringify({ models: models.map(tag) })),
      '/api/ps': response => {
        const loaded = models.filter(model => model.loaded === true);
        response.end(JSON.stringify({ models: loaded.map(running) }));
      },
      '/api/show': (response, body) => {
        count.shows += 1;
        const found = models.find(({ name }) => name === body['model']);
        if (found === undefined) return refuse(response, 404, 'model not found');
        response.end(JSON.stringify(shown(found)));
      },
      '/api/chat': (response, body) => {
        chats.push(body);
        response.on('close', () => {
          if (!response.writableFinished) count.closed += 1;
        });
        const { messages } = body;
        const known = models.some(({ name }) => name === body['model']);
        if (!known) refuse(response, 404, `model '${String(body['model'])}' not found`);
        else if (Array.isArray(messages) && messages.length === 0) load(response);
        else chat(response, body);
      },
    };
  const server = createServer((request, response) => {
    void readBody(request).then(body => {
      const route = routes[request.url ?? ''];
      response.setHeader('content-type', 'application/json');
      if (route === undefined) refuse(response, 404, 'no such route');
      else route(response, body);
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    host: `http://127.0.0.1:${port}`,
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
    },
    async stop() {
      server.closeAllConnections();
      await new Promise<void>(resolve => server.close(() => resolve()));
    },
  };
}

const digestOf = ({ name, digest }: FakeModel): string => digest ?? `sha-${name}`;

const tag = (model: FakeModel): object => ({
  name: model.name,
  model: model.name,
  size: 5_000_000_000,
  digest: digestOf(model),
  details: { family: model.family ?? 'llama', parameter_size: '8B', quantization_level: 'Q4_K_M' },
});

const running = (model: FakeModel): object => ({
  ...tag(model),
  size: 6_000_000_000,
  size_vram: 4_000_000_000,
  context_length: 8_192,
});

const shown = (model: FakeModel): object => ({
  capabilities: model.capabilities ?? ['completion'],
  details: { family: model.family ?? 'llama' },
  model_info: { 'general.architecture': 'llama', 'llama.context_length': 32_768 },
});

async function readBody(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString('utf8');
  return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
}
