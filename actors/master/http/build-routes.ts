/** Routes of builds: submit, list, look, follow, download, steer. */
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { stream } from 'hono/streaming';
import {
  BUILD_ENDS,
  BuildRequest,
  BuildSummary,
  type ControlRequest,
} from '../../../protocol/build.ts';
import { CodeGodError } from '../../../protocol/errors.ts';
import { BuildId } from '../../../protocol/ids.ts';
import { decisionsSchema, errorResponses, json, submittedSchema } from './answers.ts';
import type { AppOptions } from './app.ts';
import { wrongRequest } from './errors.ts';
import { streamEvents } from './event-stream.ts';
import { originBuild } from './origin-shapes.ts';

const LIST_DEFAULT = 50;
const LIST_MAX = 200;
const KEY_LENGTH_MAX = 128;

const params = z.object({ id: BuildId });
const ACTIONS = ['cancel', 'approve', 'retry', 'pause', 'resume'] as const;

export function addBuildRoutes(app: OpenAPIHono, options: AppOptions): void {
  addSubmit(app, options);
  addReads(app, options);
  addEvents(app, options);
  addArchive(app, options);
  for (const action of ACTIONS) addControl(app, options, action);
}

const submitRoute = createRoute({
  method: 'post',
  path: '/build',
  summary: 'Submit a prompt; with ?wait=true answer when the build has ended',
  request: {
    query: z.object({ wait: z.enum(['true', 'false']).optional() }),
    headers: z.object({
      'idempotency-key': z
        .string()
        .regex(/^[\x21-\x7e]+$/)
        .max(KEY_LENGTH_MAX)
        .optional(),
    }),
    body: { content: { 'application/json': { schema: BuildRequest } } },
  },
  responses: {
    202: json(submittedSchema, 'accepted: it is stored and will end'),
    200: json(z.looseObject({ success: z.boolean() }), 'ended, with ?wait=true'),
    ...errorResponses,
  },
});

/** The body is read by hand: curl's default content type is accepted too. */
function addSubmit(app: OpenAPIHono, { door, clock }: AppOptions): void {
  app.openAPIRegistry.registerPath(submitRoute);
  app.post('/build', async context => {
    const request = BuildRequest.safeParse(await bodyOf(context));
    if (!request.success) throw wrongRequest(request.error.issues);
    const key = submitRoute.request.headers.safeParse(context.req.header());
    if (!key.success) throw wrongRequest(key.error.issues);
    const id = await door.submit(request.data, key.data['idempotency-key'] ?? null);
    if (context.req.query('wait') === 'true') {
      const signal = context.req.raw.signal;
      for await (const _event of door.events(id, 1, signal)) {
        // Only the end is waited for; the iteration stops there.
      }
      return context.json(originBuild(await door.summary(id), clock.now()), 200);
    }
    const links = linksOf(id);
    context.header('Location', links.self);
    return context.json({ id, state: 'received', links }, 202);
  });
}

async function bodyOf(context: Context): Promise<unknown> {
  const text = await context.req.text();
  if (text.trim() === '') throw new CodeGodError('bad_request', 'the body is empty');
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CodeGodError('bad_request', 'the body is not JSON', { cause });
  }
}

function linksOf(id: BuildId) {
  const self = `/builds/${id}`;
  return {
    self,
    events: `${self}/events`,
    decisions: `${self}/decisions`,
    archive: `${self}/archive`,
    cancel: `${self}/cancel`,
  };
}

function addReads(app: OpenAPIHono, { door }: AppOptions): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/builds',
      summary: 'Builds, the newest first',
      request: {
        query: z.object({
          limit: z.coerce.number().int().min(1).max(LIST_MAX).default(LIST_DEFAULT),
          before: BuildId.optional(),
        }),
      },
      responses: {
        200: json(
          z.object({ builds: z.array(BuildSummary), next: BuildId.nullable() }),
          'a page; `next` goes into `before`',
        ),
        ...errorResponses,
      },
    }),
    async context => {
      const { limit, before } = context.req.valid('query');
      const page = await door.list(limit, before ?? null);
      return context.json({ builds: [...page.builds], next: page.next }, 200);
    },
  );
  app.openapi(
    createRoute({
      method: 'get',
      path: '/builds/{id}',
      summary: 'One build',
      request: { params },
      responses: { 200: json(BuildSummary, 'the build'), ...errorResponses },
    }),
    async context => context.json(await door.summary(context.req.valid('param').id), 200),
  );
  app.openapi(
    createRoute({
      method: 'get',
      path: '/builds/{id}/decisions',
      summary: 'Where each attempt went, and why',
      request: { params },
      responses: { 200: json(decisionsSchema, 'placement decisions'), ...errorResponses },
    }),
    async context => {
      const { id } = context.req.valid('param');
      await door.summary(id);
      return context.json({ decisions: [...(await door.decisions(id))] }, 200);
    },
  );
}

function addEvents(app: OpenAPIHono, { door, clock }: AppOptions): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/builds/{id}/events',
      summary: 'The facts of a build as server-sent events, until it ends',
      request: {
        params,
        headers: z.object({ 'last-event-id': z.coerce.number().int().min(0).optional() }),
      },
      responses: {
        200: { description: 'events', content: { 'text/event-stream': { schema: z.string() } } },
        ...errorResponses,
      },
    }),
    async context => {
      const { id } = context.req.valid('param');
      await door.summary(id);
      const last = context.req.valid('header')['last-event-id'] ?? 0;
      return streamEvents(context, clock, signal => door.events(id, last + 1, signal));
    },
  );
}

function addArchive(app: OpenAPIHono, { door }: AppOptions): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/builds/{id}/archive',
      summary: 'The project as tar.gz',
      request: { params },
      responses: {
        200: { description: 'archive', content: { 'application/gzip': { schema: z.string() } } },
        ...errorResponses,
      },
    }),
    async context => {
      const { id } = context.req.valid('param');
      const summary = await door.summary(id);
      const bytes = await door.archive(id);
      if (bytes === null) {
        const isOver = BUILD_ENDS.includes(summary.state);
        throw new CodeGodError(
          isOver ? 'not_found' : 'conflict',
          isOver
            ? `${id} left no archive`
            : `${id} is ${summary.state}; its archive comes at the end`,
        );
      }
      context.header('content-type', 'application/gzip');
      const name = `${summary.name ?? id}.tar.gz`;
      context.header('content-disposition', `attachment; filename="${name}"`);
      return stream(context, async out => {
        for await (const chunk of bytes) await out.write(chunk);
      });
    },
  );
}

function addControl(
  app: OpenAPIHono,
  { door }: AppOptions,
  action: ControlRequest['action'],
): void {
  app.openapi(
    createRoute({
      method: 'post',
      path: `/builds/{id}/${action}`,
      summary: `Ask for a build to ${action}`,
      request: { params },
      responses: { 200: json(BuildSummary, 'the build afterwards'), ...errorResponses },
    }),
    async context =>
      context.json(await door.control(context.req.valid('param').id, { action }), 200),
  );
}
