/**
 * Reads from the master's HTTP door. The master may just be starting again, so a door that does not
 * answer is knocked at for a while; its address is looked up each time, since it may change.
 */
import { systemClock } from '../runtime/clock.ts';
import type { Config } from '../runtime/config.ts';
import { readDoorKey } from '../runtime/door-key.ts';
import { CliError } from './exit-code.ts';
import { runningSystem } from './supervisor/system-record.ts';

const KNOCK_MS = 5_000;
const PAUSE_MS = 150;
const ANSWER_TIMEOUT_MS = 10_000;

/**
 * The door's address: of the system that runs here, or as configured; null where neither is. A bus
 * named by a flag is somebody else's: the door that happens to be near is not taken for its door.
 */
export function masterUrl(config: Config): string | null {
  return masterDoor(config)?.url ?? null;
}

interface Door {
  readonly url: string;
  /** What is presented there. The owner's own key is for the door of his own home only. */
  readonly key: string | undefined;
}

function masterDoor(config: Config): Door | null {
  const { origins, http, paths } = config;
  const isForeign = origins['bus.url'] === 'flag';
  const running = isForeign ? null : runningSystem(paths.state)?.http.url;
  if (running !== undefined && running !== null) {
    return { url: reachable(running), key: http.key ?? readDoorKey(paths) ?? undefined };
  }
  const keys = isForeign ? ['http.host', 'http.port'] : ['bus.url', 'http.host', 'http.port'];
  const isConfigured = keys.some(key => origins[key] !== 'default');
  const host = http.host.includes(':') ? `[${http.host}]` : http.host;
  return isConfigured ? { url: reachable(`http://${host}:${http.port}`), key: http.key } : null;
}

/** What listens everywhere is reached at this machine. */
const reachable = (url: string): string =>
  url.replace('//0.0.0.0', '//127.0.0.1').replace('//[::]', '//[::1]');

/**
 * GET, as parsed JSON.
 * @throws CliError with the door's own code and hint; `bus_unavailable` where nothing answers
 */
export const getFromMaster = (config: Config, path: string, knockMs = KNOCK_MS): Promise<unknown> =>
  askMaster(config, path, undefined, knockMs);

/** POST of a question that changes nothing, so that it may be asked again. Throws like GET. */
export const postToMaster = (config: Config, path: string, body: unknown): Promise<unknown> =>
  askMaster(config, path, body, KNOCK_MS);

async function askMaster(
  config: Config,
  path: string,
  body: unknown,
  knockMs: number,
): Promise<unknown> {
  const deadline = systemClock.monotonic() + knockMs;
  for (;;) {
    const door = masterDoor(config);
    const url = door?.url ?? null;
    const mayAppear = config.origins['bus.url'] !== 'flag' && runningSystem(config.paths.state);
    if (url === null && !mayAppear) throw noDoor(config);
    const answer = door === null ? null : await knock(new URL(path, door.url), body, door.key);
    if (answer !== null && !(answer instanceof Error)) return answer.body;
    if (systemClock.monotonic() > deadline) {
      if (answer instanceof CliError) throw answer;
      throw new CliError(
        'bus_unavailable',
        `the master does not answer at ${url}${answer ? `: ${answer.message}` : ''}`,
        '`codegod status` shows how its processes do',
      );
    }
    await systemClock.sleep(PAUSE_MS);
  }
}

function noDoor(config: Config): CliError {
  if (config.origins['bus.url'] !== 'flag') return nothingRuns();
  return new CliError(
    'bus_unavailable',
    `nobody said where the master of ${config.bus.url} answers`,
    'set CODEGOD_HTTP_HOST and CODEGOD_HTTP_PORT',
  );
}

export const nothingRuns = (): CliError =>
  new CliError('bus_unavailable', 'nothing runs here', 'start the system with `codegod up -d`');

/** The answer, or why there is none yet. Throws what no waiting mends. */
async function knock(
  url: URL,
  question: unknown,
  key: string | undefined,
): Promise<{ readonly body: unknown } | Error> {
  let response: Response;
  try {
    response = await fetch(url, {
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
      headers: {
        'content-type': 'application/json',
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      },
      ...(question === undefined ? {} : { method: 'POST', body: JSON.stringify(question) }),
    });
  } catch (error) {
    const { cause, message } = error as Error;
    return cause instanceof Error ? cause : new Error(message);
  }
  const body: unknown = await response.json().catch(() => null);
  if (response.ok) return { body };
  const failure = failureOf(body, response.status);
  if (response.status >= 500) return failure;
  throw failure;
}

/** Error bodies are `{"error":{code,message,hint}}`. */
function failureOf(body: unknown, status: number): CliError {
  const error = (body as { error?: unknown } | null)?.error;
  const { code, message, hint } = (typeof error === 'object' && error !== null ? error : {}) as {
    readonly code?: unknown;
    readonly message?: unknown;
    readonly hint?: unknown;
  };
  return new CliError(
    typeof code === 'string' ? code : status === 404 ? 'not_found' : 'internal',
    typeof message === 'string' ? message : `the master answers ${status}`,
    typeof hint === 'string' ? hint : null,
  );
}
