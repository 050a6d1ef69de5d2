/** `key`: API keys of the HTTP door. The key itself is shown once; the bus keeps its hash. */
import { createHash, randomBytes } from 'node:crypto';
import { ApiKey, POLICIES_MAX } from '../../protocol/policy.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import type { Kv } from '../../runtime/bus.ts';
import { systemClock } from '../../runtime/clock.ts';
import { newDoorKey } from '../../runtime/door-key.ts';
import { withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import { parseUntil } from '../since.ts';
import { table } from '../terminal.ts';

const ID_BYTES = 6;

export interface KeyOptions {
  readonly requestsPerMinute?: number;
  readonly tokensPerMinute?: number;
  readonly inFlight?: number;
  readonly models?: readonly string[];
  readonly priority: number;
  readonly expires?: string;
}

export async function createKey(
  context: CommandContext,
  name: string,
  options: KeyOptions,
): Promise<number> {
  const secret = newDoorKey();
  const key = keyOf(name, secret, options);
  await withBus(await context.config(), async ({ bus }) => {
    const bucket = bus.kv(BUCKETS.key.name);
    if ((await bucket.keys()).length >= POLICIES_MAX) {
      throw new CliError('overloaded', `there are ${POLICIES_MAX} keys already; revoke some`);
    }
    await bucket.put(key.id, new TextEncoder().encode(JSON.stringify(key)));
  });
  const { sha256: _, ...shown } = key;
  context.terminal.result({ ...shown, key: secret }, () => secret);
  context.terminal.note(`key ${key.id} (${name}); it is not shown again`);
  return EXIT.ok;
}

function keyOf(name: string, secret: string, options: KeyOptions): ApiKey {
  const now = systemClock.now();
  const expiresAt = options.expires === undefined ? null : parseUntil(options.expires, now);
  if (options.expires !== undefined && (expiresAt === null || expiresAt <= now)) {
    throw new CliError('usage', '--expires: expected 12h, 30d or a date to come');
  }
  const parsed = ApiKey.safeParse({
    id: randomBytes(ID_BYTES).toString('hex'),
    name,
    sha256: createHash('sha256').update(secret).digest('hex'),
    created_at: now,
    expires_at: expiresAt,
    requests_per_minute: options.requestsPerMinute ?? null,
    tokens_per_minute: options.tokensPerMinute ?? null,
    in_flight_max: options.inFlight ?? null,
    models: options.models ?? [],
    priority: options.priority,
  });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new CliError('usage', `${issue?.path.join('.')}: ${issue?.message}`);
}

export async function listKeys(context: CommandContext): Promise<number> {
  const keys = await withBus(await context.config(), async ({ bus }) =>
    readKeys(bus.kv(BUCKETS.key.name)),
  );
  const shown = keys.map(({ sha256: _, ...key }) => key);
  context.terminal.result(shown, () =>
    keys.length === 0
      ? 'no key; `codegod key create NAME` makes one'
      : table([
          ['ID', 'NAME', 'CREATED', 'EXPIRES', 'PER MINUTE', 'AT ONCE', 'MODELS', 'PRIORITY'],
          ...keys.map(rowOf),
        ]),
  );
  return EXIT.ok;
}

const rowOf = (key: ApiKey): string[] => [
  key.id,
  key.name,
  day(key.created_at),
  key.expires_at === null ? 'never' : day(key.expires_at),
  [
    key.requests_per_minute === null ? [] : [`${key.requests_per_minute} requests`],
    key.tokens_per_minute === null ? [] : [`${key.tokens_per_minute} tokens`],
  ]
    .flat()
    .join(', ') || '-',
  String(key.in_flight_max ?? '-'),
  key.models.join(', ') || 'all',
  String(key.priority),
];

const day = (at: number): string => new Date(at).toISOString().slice(0, 16).replace('T', ' ');

export async function revokeKey(context: CommandContext, text: string): Promise<number> {
  const revoked = await withBus(await context.config(), async ({ bus }) => {
    const bucket = bus.kv(BUCKETS.key.name);
    const found = (await readKeys(bucket)).filter(({ id, name }) => id === text || name === text);
    const [key] = found;
    if (key === undefined) {
      throw new CliError('not_found', `there is no key ${text}`, '`codegod key list`');
    }
    if (found.length > 1) {
      const ids = found.map(({ id }) => id).join(', ');
      throw new CliError(
        'usage',
        `${found.length} keys are called ${text}`,
        `name one by id: ${ids}`,
      );
    }
    await bucket.delete(key.id);
    return key;
  });
  const { id, name } = revoked;
  context.terminal.result({ id, name, revoked: true }, () => `key ${id} (${name}) is revoked`);
  return EXIT.ok;
}

async function readKeys(bucket: Kv): Promise<ApiKey[]> {
  const keys = await Promise.all(
    (await bucket.keys()).map(async id => {
      const entry = await bucket.get(id);
      return entry === null
        ? []
        : [ApiKey.parse(JSON.parse(new TextDecoder().decode(entry.value)))];
    }),
  );
  return keys.flat().sort((left, right) => left.created_at - right.created_at);
}
