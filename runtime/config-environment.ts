/**
 * What other programs get to know of our environment: lists of what may pass, never of what may not.
 *
 * E1  A key or a token goes to the one actor that works with it, and to no foreign program.
 * E2  Variables that lead a program elsewhere than we say (GIT_DIR, PYTHONPATH, PIP_TARGET) pass
 *     nowhere.
 */
import type { Environment } from './paths.ts';

/** Where things are on this machine, who we are, which language: what any program may know. */
const PLAIN = new RegExp(
  `^(${[
    'PATH|HOME|USER|LOGNAME|SHELL|TERM|TZ|LANG|LANGUAGE|LC_[A-Z]+',
    'TMPDIR|TMP|TEMP|XDG_[A-Z_]+',
    // Drivers' libraries, where they are not in the usual folders.
    'LD_LIBRARY_PATH|DYLD_[A-Z_]+|NIX_[A-Z_]+|ROCM_PATH',
    // Version managers: what they put on the search path are scripts that ask for these.
    'PYENV_[A-Z_]+|ASDF_[A-Z_]+|MISE_[A-Z_]+',
    'SYSTEMROOT|SYSTEMDRIVE|WINDIR|COMSPEC|PATHEXT|APPDATA|LOCALAPPDATA|PROGRAM[A-Z()0-9]*|USERPROFILE',
  ].join('|')})$`,
  'i',
);

/** Ways to the outside. An address may hold a password: for programs with business there. */
const NETWORK = new RegExp(
  `^(${[
    'HTTPS?_PROXY|NO_PROXY|ALL_PROXY',
    'SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE',
  ].join('|')})$`,
  'i',
);

/** Settings of the programs that install something which say where packages are to be found. */
const INSTALLERS = new RegExp(
  `^(${[
    'PIP_(INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|TRUSTED_HOST|CERT|CLIENT_CERT|PROXY)',
    'PIP_(TIMEOUT|DEFAULT_TIMEOUT|RETRIES|CACHE_DIR|NO_CACHE_DIR|KEYRING_PROVIDER|CONFIG_FILE)',
    'UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|INDEX_STRATEGY)',
    'UV_(INDEX_.+_(USERNAME|PASSWORD)|KEYRING_PROVIDER|INSECURE_HOST|NATIVE_TLS|SYSTEM_CERTS)',
    'UV_(CACHE_DIR|NO_CACHE|HTTP_TIMEOUT|HTTP_RETRIES|CONCURRENT_.+|CONFIG_FILE|OFFLINE)',
    'NETRC|GOPROXY|GONOPROXY|GOSUMDB|GONOSUMDB|GONOSUMCHECK|GOPRIVATE|GOAUTH|GOINSECURE',
    'GOROOT|GOPATH|GOCACHE|GOMODCACHE|GOTOOLCHAIN|GOTMPDIR',
  ].join('|')})$`,
);

/** Processes of ours: Node's own switches and how the engines beside us were set up. */
const OURS =
  /^(NODE_(?!CHANNEL_)[A-Z_]+|CODEGOD_.+|TSX_.+|NO_COLOR|FORCE_COLOR|CI|(CUDA|NVIDIA|ROCR|HIP|HSA|GPU|GGML|ZE|ONEAPI|OLLAMA|LLAMA)_.+)$/;

const passing = (env: Environment, ...lists: readonly RegExp[]): Record<string, string> =>
  Object.fromEntries(
    Object.entries(env).filter(
      (entry): entry is [string, string] =>
        entry[1] !== undefined && lists.some(list => list.test(entry[0])),
    ),
  );

/** For programs that need to know nothing of us. */
export function plainEnvironment(env: Environment = process.env): Record<string, string> {
  return passing(env, PLAIN);
}

/** For programs that install something where we say, from where the user says (E2). */
export function installerEnvironment(env: Environment): Record<string, string> {
  return passing(env, PLAIN, NETWORK, INSTALLERS);
}

export type ActorName = 'master' | 'worker' | 'mcp-gateway' | 'resource-monitor';

/** Settings that hold secrets, by who works with them. */
const SECRETS: Readonly<Record<ActorName, readonly string[]>> = {
  master: ['bus.token'],
  worker: ['bus.token', 'anthropic_api_key', 'openai_api_key'],
  'mcp-gateway': [
    ...['bus.token', 'mcp.servers', 'github_personal_access_token', 'brave_api_key'],
    ...['google_maps_api_key', 'slack_bot_token', 'postgres_url'],
  ],
  'resource-monitor': ['bus.token'],
};

/**
 * What one of our actors gets of the environment that all of them could have (E1).
 * @param secrets the variables of each setting that holds a secret, by its key
 */
export function actorEnvironment(
  actor: ActorName,
  env: Environment,
  secrets: ReadonlyMap<string, readonly string[]>,
): Record<string, string> {
  const lists =
    actor === 'mcp-gateway' ? [PLAIN, NETWORK, OURS, INSTALLERS] : [PLAIN, NETWORK, OURS];
  const result = passing(env, ...lists);
  for (const [key, variables] of secrets) {
    if (SECRETS[actor].includes(key)) continue;
    for (const name of variables) delete result[name];
  }
  return result;
}

/** The value of a variable that nobody whom we start shall see any more. */
export function takeVariable(name: string): string | undefined {
  const value = process.env[name];
  Reflect.deleteProperty(process.env, name);
  return value === '' ? undefined : value;
}
