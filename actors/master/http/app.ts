/**
 * The HTTP door: requests become the messages that any client of the bus could send, answers are
 * what the master knows. Every route is described once, for the router and for /openapi.json.
 */
import { OpenAPIHono } from '@hono/zod-openapi';
import { bodyLimit } from 'hono/body-limit';
import { CodeGodError, toWireError } from '../../../protocol/errors.ts';
import { MESSAGE_BYTES_MAX } from '../../../protocol/limits.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { Metrics } from '../../../runtime/metrics.ts';
import { addBuildRoutes } from './build-routes.ts';
import type { Door } from './door.ts';
import { errorAnswer, wrongRequest } from './errors.ts';
import type { Gate } from './gate.ts';
import { guard } from './guards.ts';
import type { OriginRule } from './origins.ts';
import { addPoolRoutes } from './pool-routes.ts';
import { addSystemRoutes } from './system-routes.ts';

export interface AppOptions {
  readonly door: Door;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly version: string;
  readonly isLoopback: boolean;
  readonly gate: Gate;
  readonly mayAsk: OriginRule;
}

export function createApp(options: AppOptions): OpenAPIHono {
  const { log, version } = options;
  const app = new OpenAPIHono({
    defaultHook: result => {
      if (!result.success) throw wrongRequest(result.error.issues);
    },
  });
  app.use(guard(options));
  app.use(options.gate.middleware);
  app.use(
    bodyLimit({
      maxSize: MESSAGE_BYTES_MAX,
      onError: () => {
        throw new CodeGodError('too_large', `a body has at most ${MESSAGE_BYTES_MAX} bytes`);
      },
    }),
  );
  addBuildRoutes(app, options);
  addSystemRoutes(app, options);
  addPoolRoutes(app, options);
  app.doc31('/openapi.json', {
    openapi: '3.1.0',
    info: { title: 'Code-God', version, description: 'One prompt in, one tested project out.' },
  });
  app.notFound(context => {
    const { path, method } = context.req;
    const error = new CodeGodError('not_found', `there is no ${method} ${path}`, {
      hint: 'GET /openapi.json lists what there is',
    });
    const { body, status } = errorAnswer(error);
    return context.json(body, status);
  });
  app.onError((error, context) => {
    const { body, status } = errorAnswer(error);
    if (body.error.code === 'internal') {
      log.error('http.failed', { path: context.req.path, error: toWireError(error) });
    }
    return context.json(body, status);
  });
  return app;
}
