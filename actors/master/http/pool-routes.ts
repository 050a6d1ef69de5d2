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
