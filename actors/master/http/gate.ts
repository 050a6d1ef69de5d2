/**
 * Who may ask: API keys at every route but those that only say whether the process lives.
 *
 * A1: a door that other machines reach needs a key of everybody. On loopback it is needed only where
 *     the configuration says so. Where none is needed, what is no key of ours counts as none: clients
 *     send anything by default, and whether somebody else has a key changes nothing for them. One that
 *     looks like ours has to be a right one, so that its limits hold and a mistake is seen.
 * A2: the machine's owner has a key of his own, without limits, that only his files hold
 *     (runtime/door-key.ts): no setting locks his own command line out.
 * A3: a key for some models is good for asking those, and for looking; not for builds, which choose
 *     their own.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { MiddlewareHandler } from 'hono';
import { CodeGodError, toWireError } from '../../../protocol/errors.ts';
import type { ApiKey } from '../../../protocol/policy.ts';
import type { ApiKeys } from '../pool/api-keys.ts';
import type { HeaderOf } from './guards.ts';

const OPEN_PATHS: readonly string[] = ['/health', '/healthz', '/readyz'];
/** What every key begins with. */
const PREFIX = 'cg_';
const BEARER = /^bearer\s+(\S+)\s*$/i;

const NEEDED =
  'every request needs one here: `codegod key create NAME` makes it; send it as Authorization: Bearer KEY';
const NOT_NEEDED =
  'none is needed on this machine, but one that begins with cg_ has to be a right one';

const OWNER: ApiKey = {
  id: 'owner000',
  name: 'owner',
  sha256: '',
  created_at: 0,
  expires_at: null,
  requests_per_minute: null,
  tokens_per_minute: null,
  in_flight_max: null,
  models: [],
  priority: 0,
};

/** Digests are of one length, as a comparison in constant time demands. */
function isOwnerKey(secret: string, ownerKey: string | null): boolean {
  if (ownerKey === null) return false;
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(secret), digest(ownerKey));
}

export interface GateOptions {
  readonly keys: Pick<ApiKeys, 'find'>;
  readonly auth: 'auto' | 'required';
  readonly isLoopback: boolean;
  /** A2. */
  readonly ownerKey?: string | null;
}

export class Gate {
  readonly #options: GateOptions;

  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** The key that was given, or null where none is needed. @throws CodeGodError `unauthorized` */
  admit(header: HeaderOf): ApiKey | null {
    const { keys, auth, isLoopback, ownerKey = null } = this.#options;
    const isNeeded = auth === 'required' || !isLoopback;
    const bearer = BEARER.exec(header('authorization') ?? '')?.[1];
    const secret = bearer ?? (header('x-api-key')?.trim() || undefined);
    if (secret === undefined ? !isNeeded : !isNeeded && !secret.startsWith(PREFIX)) return null;
    const hint = isNeeded ? NEEDED : NOT_NEEDED;
    if (secret === undefined)
      throw new CodeGodError('unauthorized', 'an API key is needed', { hint });
    if (isOwnerKey(secret, ownerKey)) return OWNER;
    try {
      return keys.find(secret);
    } catch (error) {
      const { code, message } = toWireError(error);
      throw new CodeGodError(code, message, { hint, cause: error });
    }
  }

  /** A1 and A3 for all routes of a router. */
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
