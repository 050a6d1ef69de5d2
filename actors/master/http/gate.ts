/**
 * Who may ask: API keys at every route but those that only say whether the process lives.
 *
 * A1: a door that other machines reach needs a key of everybody. On loopback it is needed only where
 *     the configuration says so; but one that is given must be a right one, as soon as there are keys
 *     at all. Before that, clients that insist on sending one may send anything but what looks like
 *     a key of ours.
 * A2: a key for some models is good for asking those, and for looking; not for builds, which choose
 *     their own.
 */
import type { MiddlewareHandler } from 'hono';
import { CodeGodError } from '../../../protocol/errors.ts';
import type { ApiKey } from '../../../protocol/policy.ts';
import type { ApiKeys } from '../pool/api-keys.ts';
import type { HeaderOf } from './guards.ts';

const OPEN_PATHS: readonly string[] = ['/health', '/healthz', '/readyz'];
/** What every key begins with. */
const PREFIX = 'cg_';
const BEARER = /^bearer\s+(\S+)\s*$/i;

export interface GateOptions {
  readonly keys: Pick<ApiKeys, 'isEmpty' | 'find'>;
  readonly auth: 'auto' | 'required';
  readonly isLoopback: boolean;
}

export class Gate {
  readonly #options: GateOptions;

  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** The key that was given, or null where none is needed. @throws CodeGodError `unauthorized` */
  admit(header: HeaderOf): ApiKey | null {
    const { keys, auth, isLoopback } = this.#options;
    const isNeeded = auth === 'required' || !isLoopback;
    const secret = BEARER.exec(header('authorization') ?? '')?.[1] ?? header('x-api-key');
    const counts = isNeeded || !keys.isEmpty || secret?.startsWith(PREFIX) === true;
    if (secret !== undefined && counts) return keys.find(secret);
    if (!isNeeded) return null;
    throw new CodeGodError('unauthorized', 'an API key is needed', {
      hint: '`codegod key create NAME` makes one; send it as Authorization: Bearer KEY',
    });
  }

  /** A1 and A2 for all routes of a router. */
  get middleware(): MiddlewareHandler {
    return async (context, next) => {
      const { path, method } = context.req;
      if (!OPEN_PATHS.includes(path)) {
        const key = this.admit(name => context.req.header(name));
        if (key !== null && key.models.length > 0 && method !== 'GET' && path !== '/place') {
          throw new CodeGodError('denied', `the API key ${key.name} is for some models only`);
        }
      }
      await next();
    };
  }
}
