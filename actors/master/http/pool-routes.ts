/** Routes that show the pool: what waits and runs, why requests went where they went. */
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import { PlacementDecision } from '../../../protocol/node.ts';
import { PlaceQuery, PoolStatus, RequestRecord } from '../../../protocol/pool.ts';
import { errorResponses, json } from './answers.ts';
import type { AppOptions } from './app.ts';

const RECENT_DEFAULT = 50;
const RECENT_MAX = 500;

export function addPoolRoutes(app: OpenAPIHono, { door }: AppOptions): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/pool',
      summary: 'What waits for a model and why, and what runs where',
      responses: { 200: json(PoolStatus, 'the pool'), ...errorResponses },
    }),
    context => context.json(door.pool(), 200),
  );
  app.openapi(
    createRoute({
      method: 'get',
      path: '/decisions/recent',
      summary: 'The last requests, the newest first',
      request: {
        query: z.object({
          limit: z.coerce.number().int().min(1).max(RECENT_MAX).default(RECENT_DEFAULT),
        }),
      },
      responses: {
        200: json(z.object({ requests: z.array(RequestRecord) }), 'requests'),
        ...errorResponses,
      },
    }),
    context => {
      const { limit } = context.req.valid('query');
      return context.json({ requests: [...door.recentRequests(limit)] }, 200);
    },
  );
  app.openapi(
    createRoute({
      method: 'get',
      path: '/decisions/{id}',
      summary: 'Where one request went and why: an inference or an attempt of a build',
      request: { params: z.object({ id: z.string().max(160) }) },
      responses: { 200: json(RequestRecord, 'the request'), ...errorResponses },
    }),
    context => context.json(door.request(context.req.valid('param').id), 200),
  );
  addPlace(app, { door });
  describeClients(app);
}

const placeRoute = createRoute({
  method: 'post',
  path: '/place',
  summary: 'Where a request would go now; nothing is reserved or loaded',
  request: { body: { content: { 'application/json': { schema: PlaceQuery } }, required: true } },
  responses: { 200: json(PlacementDecision, 'the decision'), ...errorResponses },
});

function addPlace(app: OpenAPIHono, { door }: Pick<AppOptions, 'door'>): void {
  app.openapi(placeRoute, context => context.json(door.place(context.req.valid('json')), 200));
}

/** Answered in front of the router, in the shapes of those who made them up. */
const CLIENT_PATHS = [
  ['get', '/v1/models', 'Models, as OpenAI or Anthropic list them'],
  ['post', '/v1/chat/completions', 'A chat, as OpenAI speaks'],
  ['post', '/v1/completions', 'A completion, as OpenAI speaks'],
  ['post', '/v1/embeddings', 'Embeddings, as OpenAI speaks'],
  ['post', '/v1/messages', 'A message, as Anthropic speaks'],
  ['post', '/v1/messages/count_tokens', 'An estimate of the tokens of a message'],
  ['get', '/api/tags', 'Models, as Ollama lists them'],
  ['get', '/api/ps', 'Models in memory, as Ollama lists them, with their nodes'],
  ['get', '/api/version', 'The oldest version of Ollama among the nodes'],
  ['post', '/api/show', 'One model, as Ollama shows it'],
  ['post', '/api/chat', 'A chat, as Ollama speaks'],
  ['post', '/api/generate', 'A completion, as Ollama speaks'],
  ['post', '/api/embed', 'Embeddings, as Ollama speaks'],
  ['post', '/api/embeddings', 'One embedding, as Ollama spoke before'],
  ['post', '/api/pull', 'Bring a model to a node'],
] as const;

function describeClients(app: OpenAPIHono): void {
  for (const [method, path, summary] of CLIENT_PATHS) {
    const responses = { 200: json(z.looseObject({}), 'in the dialect of the path') };
    app.openAPIRegistry.registerPath({ method, path, summary, responses });
  }
}
