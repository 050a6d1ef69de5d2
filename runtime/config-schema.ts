/**
 * Every setting of the product: its name, form, default, and a sentence on what it does.
 *
 * Names are what configuration files write (`http.port`). The environment variable of each follows
 * from it (`CODEGOD_HTTP_PORT`); ALIASES lists the names that people already use elsewhere.
 *
 * G1: every value may also arrive as text, since that is all an environment variable or flag can be.
 * G2: a `secret` is masked wherever settings are printed.
 * G3: PROJECT_RULES says of each setting what the folder of a project, which a model may have written,
 *     can do with it.
 */
import { hostname } from 'node:os';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { secondsOf } from '../protocol/duration.ts';

declare module 'zod' {
  interface GlobalMeta {
    /** Never printed in clear. */
    readonly secret?: boolean;
  }
}

const TEXT_LENGTH_MAX = 4_096;

const text = () => z.string().trim().min(1).max(TEXT_LENGTH_MAX);

const secret = (description: string) => text().optional().meta({ description, secret: true });

const integer = (min: number, max: number) =>
  z.preprocess(
    value => (typeof value === 'string' && value.trim() !== '' ? Number(value) : value),
    z.int().min(min).max(max),
  );

const yesOrNo = () =>
  z.preprocess(
    value => {
      if (/^(true|1|yes|on)$/i.test(String(value))) return true;
      return /^(false|0|no|off)$/i.test(String(value)) ? false : value;
    },
    z.boolean({ error: 'expected true or false' }),
  );

/** Lists and maps arrive from the environment as YAML (of which JSON is a part). */
const structured = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value, context) => {
    if (typeof value !== 'string') return value;
    try {
      return parseYaml(value);
    } catch {
      context.issues.push({ code: 'custom', message: 'is neither YAML nor JSON', input: value });
      return z.NEVER;
    }
  }, schema);

/** From the environment with commas between, as Ollama's own variables are, or as YAML in brackets. */
const list = <T extends z.ZodType>(item: T, max: number) =>
  z.preprocess(
    value =>
      typeof value !== 'string' || value.trim().startsWith('[')
        ? value
        : value.split(',').map(part => part.trim()),
    structured(z.array(item).max(max)),
  );

/** An origin as a browser says it; `*` stands for anything. */
const origin = () =>
  text()
    .max(256)
    .regex(/^(\*|null|[a-z][a-z0-9+.-]*:\/\/[^\s/]+\/?)$/i, 'expected an origin: http://host:port');

const BYTE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** 25769803776, "24GiB", "24 GB", "512MiB". */
const bytes = () =>
  z.preprocess(
    value => {
      if (typeof value !== 'string') return value;
      const [, amount, unit] = /^\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?b?)\s*$/i.exec(value) ?? [];
      const factor = BYTE_UNITS[(unit ?? '').toLowerCase()];
      return amount && factor ? Math.round(Number(amount) * factor) : value;
    },
    z
      .int({ error: 'expected bytes, such as 25769803776 or "24GiB"' })
      .min(0)
      .max(2 ** 50),
  );

/**
 * OLLAMA_HOST as Ollama itself understands it: `host`, `host:port`, `:port` or a URL; the address it
 * listens on everywhere (0.0.0.0) is reached at this machine.
 */
const ollamaUrl = () =>
  z.preprocess(
    value => {
      if (typeof value !== 'string') return value;
      const given = value.trim().replace(/^:/, '127.0.0.1:');
      const address = given.includes('://') ? given : `http://${given}`;
      if (!URL.canParse(address)) return value;
      const url = new URL(address);
      if (url.hostname === '0.0.0.0' || url.hostname === '[::]') url.hostname = '127.0.0.1';
      const hasPort = /:\d+$/.test(given.replace(/(?<!\/)\/+$/, ''));
      if (!hasPort && url.protocol === 'http:') url.port = '11434';
      return url.href.replace(/(?<!\/)\/+$/, '');
    },
    z.url({ protocol: /^https?$/ }).max(TEXT_LENGTH_MAX),
  );

const token = () =>
  text().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'expected lower-case letters, digits, "-"');

/** Keys and values of labels. */
const LABEL = /^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$/;

const Gpu = z.strictObject({ name: text().max(128), vram_bytes: bytes() });

const ServerName = z.string().regex(/^[a-z][a-z0-9-]{0,39}$/);
const McpServer = z.strictObject({
  command: text(),
  args: z.array(z.string().max(TEXT_LENGTH_MAX)).max(64).default([]),
  env: z.record(z.string().max(128), z.string().max(TEXT_LENGTH_MAX)).default({}),
  read_only: z.array(z.string().max(128)).max(256).default([]),
  system_calls: z.enum(['filtered', 'namespaces', 'all']).optional(),
});

export const Settings = z.strictObject({
  bus: z.strictObject({
    url: text()
      .regex(/^((nats|tls|ws|wss):\/\/)?[^\s/]+\/?$/, 'expected nats://host:port')
      .optional()
      .describe('address of a running bus; absent: one is started on this machine'),
    host: text()
      .default('127.0.0.1')
      .describe('address the bus started here listens on; 0.0.0.0 lets machines of the house join'),
    port: integer(1, 65_535)
      .optional()
      .describe('port of the bus started here; absent: 4222, or a free one if that is taken'),
    monitoring_port: integer(1, 65_535)
      .optional()
      .describe('monitoring port of that bus; absent: 8222, or a free one'),
    monitoring_url: z
      .url({ protocol: /^https?$/ })
      .max(TEXT_LENGTH_MAX)
      .optional()
      .describe('monitoring address of a running bus, to see whether it syncs every write'),
    token: secret('what clients of the bus present, where all share one secret'),
    nkey_file: text().optional().describe('private file with the nkey seed to present to the bus'),
    joined: yesOrNo()
      .default(false)
      .describe('whether the bus is that of another machine, which this one serves as a node'),
  }),
  nats_server: text().optional().describe('the nats-server program to start'),
  http: z.strictObject({
    host: text().default('127.0.0.1').describe('address of the HTTP door'),
    port: integer(0, 65_535).default(8001).describe('port of the HTTP door; 0 takes a free one'),
    auth: z
      .enum(['auto', 'required'])
      .default('auto')
      .describe('who needs an API key: everybody, or (auto) everybody but this machine itself'),
    key: secret('API key that the command line presents at the door'),
    origins: list(origin(), 64)
      .default([])
      .describe(
        'web pages that may ask the door: http://localhost:3000; one with * only for models',
      ),
  }),
  node: z.strictObject({
    name: token().default(nodeName(hostname())).describe('name of this machine in the system'),
    gpus: structured(z.array(Gpu).max(64))
      .optional()
      .describe('declared GPUs, where probing finds none or is wrong'),
    reserve_bytes: bytes()
      .default(2 ** 30)
      .describe('memory of each GPU, or of a host without one, that is never given away'),
    labels: structured(z.record(z.string().regex(LABEL), z.string().regex(LABEL)))
      .default({})
      .describe('what selectors choose by: {"room":"attic","gpu":"3090"}'),
    offload: z
      .enum(['allow', 'deny'])
      .default('allow')
      .describe('whether a model too large for the GPU may lie partly in main memory'),
  }),
  pool: z.strictObject({
    queue_max: integer(1, 100_000)
      .default(512)
      .describe('requests that wait for a model at most; more are refused'),
    wait_max_s: integer(1, 86_400).default(600).describe('how long a request waits at most'),
    age_bound_s: integer(1, 3_600)
      .default(30)
      .describe('how long requests for other models may be let in ahead'),
    residency_s: integer(0, 3_600)
      .default(10)
      .describe('how long a loaded model stays at least, while others wait'),
  }),
  models: z.strictObject({
    aliases: structured(z.record(z.string().max(128), z.string().max(128)))
      .default({})
      .describe('further names: {"gpt-4o":"qwen2.5-coder:14b"}'),
  }),
  prefer_local: yesOrNo().default(true).describe('models of the house before any API'),
  fallback: z
    .enum(['deny', 'allow'])
    .default('deny')
    .describe('whether work may go to an API when no local model can do it'),
  master_model: text().default('auto').describe('model that plans'),
  worker_model: text().default('auto').describe('model that writes'),
  ollama: z.strictObject({
    host: ollamaUrl().default('http://127.0.0.1:11434').describe('address of Ollama'),
    num_parallel: integer(1, 1_024)
      .optional()
      .describe('its OLLAMA_NUM_PARALLEL, where it cannot be read from the process'),
    kv_cache_type: z.enum(['f16', 'q8_0', 'q4_0']).optional().describe('its OLLAMA_KV_CACHE_TYPE'),
    flash_attention: yesOrNo().optional().describe('its OLLAMA_FLASH_ATTENTION'),
    max_loaded_models: integer(0, 1_024).optional().describe('its OLLAMA_MAX_LOADED_MODELS'),
    max_queue: integer(0, 100_000).optional().describe('its OLLAMA_MAX_QUEUE'),
    visible_devices: text()
      .max(1_024)
      .optional()
      .describe('its CUDA_VISIBLE_DEVICES or the like: cards by number or id, -1 for none'),
    keep_alive: z
      .preprocess(
        value => secondsOf(value) ?? value,
        z.number({ error: 'expected a duration: 15m' }),
      )
      .default(900)
      .describe('its OLLAMA_KEEP_ALIVE: how long a model stays after its last use; -1 for good'),
    origins: list(z.string().max(256), 64)
      .default([])
      .describe('its OLLAMA_ORIGINS: further web pages that may ask the door for models'),
  }),
  openai_base_url: z
    .url({ protocol: /^https?$/ })
    .max(TEXT_LENGTH_MAX)
    .default('https://api.openai.com/v1')
    .describe('any API that speaks like that of OpenAI'),
  task_timeout_s: integer(1, 86_400).default(300).describe('time for one attempt at a task'),
  max_parallel_tasks: integer(1, 1_024).default(5).describe('tasks of one build at work at once'),
  builds_max: integer(1, 1_024).default(4).describe('builds at work at once; more wait'),
  sandbox: z
    .enum(['auto', 'bwrap', 'unshare', 'none'])
    .default('auto')
    .describe('what confines the checks of a built project'),
  scaffold: z.strictObject({
    pace_ms: integer(0, 60_000).default(0).describe('pause per chunk, for demonstrations'),
  }),
  lease_ttl_ms: integer(500, 600_000).default(5_000).describe('life of an unrenewed lease'),
  ack_wait_ms: integer(1_000, 600_000)
    .default(30_000)
    .describe('silence after which a message is delivered again'),
  ack_progress_ms: integer(100, 300_000)
    .default(10_000)
    .describe('how often work in progress says so'),
  log: z.strictObject({
    level: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal'])
      .default('info')
      .describe('the least severe line that is logged'),
  }),
  mcp: z.strictObject({
    servers: structured(z.record(ServerName, McpServer))
      .default({})
      .describe(
        'further tool servers: name → {command, args, env, read_only, system_calls}; read_only lists tools without effect, system_calls is filtered, namespaces (a browser) or all',
      ),
  }),
  anthropic_api_key: secret('key of the Anthropic API'),
  openai_api_key: secret('key of the OpenAI API'),
  github_personal_access_token: secret('for the github tool server'),
  brave_api_key: secret('for the brave-search tool server'),
  google_maps_api_key: secret('for the google-maps tool server'),
  slack_bot_token: secret('for the slack tool server'),
  slack_team_id: text().optional().describe('for the slack tool server'),
  postgres_url: secret('database of the postgres tool server'),
});
export type Settings = z.infer<typeof Settings>;

/** Names besides CODEGOD_<KEY>, which wins over them; in order of precedence. */
export const ALIASES: Readonly<Record<string, readonly string[]>> = {
  'bus.url': ['CODEGOD_NATS_URL', 'NATS_URL'],
  'bus.token': ['CODEGOD_NATS_TOKEN', 'NATS_TOKEN'],
  'ollama.host': ['OLLAMA_HOST'],
  'ollama.num_parallel': ['OLLAMA_NUM_PARALLEL'],
  'ollama.kv_cache_type': ['OLLAMA_KV_CACHE_TYPE'],
  'ollama.flash_attention': ['OLLAMA_FLASH_ATTENTION'],
  'ollama.max_loaded_models': ['OLLAMA_MAX_LOADED_MODELS'],
  'ollama.max_queue': ['OLLAMA_MAX_QUEUE'],
  'ollama.keep_alive': ['OLLAMA_KEEP_ALIVE'],
  'ollama.origins': ['OLLAMA_ORIGINS'],
  openai_base_url: ['OPENAI_BASE_URL'],
  prefer_local: ['PREFER_LOCAL'],
  master_model: ['MASTER_MODEL'],
  worker_model: ['WORKER_MODEL'],
  task_timeout_s: ['TASK_TIMEOUT'],
  max_parallel_tasks: ['MAX_PARALLEL_TASKS'],
  anthropic_api_key: ['ANTHROPIC_API_KEY'],
  openai_api_key: ['OPENAI_API_KEY'],
  github_personal_access_token: ['GITHUB_PERSONAL_ACCESS_TOKEN'],
  brave_api_key: ['BRAVE_API_KEY'],
  google_maps_api_key: ['GOOGLE_MAPS_API_KEY'],
  slack_bot_token: ['SLACK_BOT_TOKEN'],
  slack_team_id: ['SLACK_TEAM_ID'],
  postgres_url: ['POSTGRES_CONNECTION_STRING'],
};

/**
 * What `.env` and `codegod.yaml` of the folder that one stands in can do with a setting:
 *
 * - `free`: set it. It changes how things are done here.
 * - `trusted`: set it where the person trusts the folder. It sends secrets or work elsewhere, or says
 *   in whose name they go.
 * - `never`: it starts programs or lowers the guards of the machine.
 */
export type ProjectRule = 'free' | 'trusted' | 'never';

/** Of every setting (G3). */
export const PROJECT_RULES: Readonly<Record<string, ProjectRule>> = {
  'bus.url': 'trusted',
  'bus.host': 'never',
  'bus.port': 'free',
  'bus.monitoring_port': 'free',
  'bus.monitoring_url': 'trusted',
  'bus.token': 'trusted',
  'bus.nkey_file': 'never',
  'bus.joined': 'never',
  nats_server: 'never',
  'http.host': 'never',
  // The command line presents its key at this port.
  'http.port': 'trusted',
  'http.auth': 'never',
  'http.origins': 'never',
  'http.key': 'trusted',
  'node.name': 'free',
  'node.gpus': 'free',
  'node.reserve_bytes': 'free',
  'node.labels': 'free',
  'node.offload': 'free',
  'pool.queue_max': 'free',
  'pool.wait_max_s': 'free',
  'pool.age_bound_s': 'free',
  'pool.residency_s': 'free',
  'models.aliases': 'free',
  prefer_local: 'trusted',
  fallback: 'trusted',
  master_model: 'free',
  worker_model: 'free',
  'ollama.host': 'trusted',
  // Such as it stands in the `.env` of other programs.
  'ollama.origins': 'trusted',
  'ollama.num_parallel': 'free',
  'ollama.kv_cache_type': 'free',
  'ollama.flash_attention': 'free',
  'ollama.max_loaded_models': 'free',
  'ollama.max_queue': 'free',
  'ollama.visible_devices': 'free',
  'ollama.keep_alive': 'free',
  openai_base_url: 'trusted',
  task_timeout_s: 'free',
  max_parallel_tasks: 'free',
  builds_max: 'free',
  sandbox: 'never',
  'scaffold.pace_ms': 'free',
  lease_ttl_ms: 'free',
  ack_wait_ms: 'free',
  ack_progress_ms: 'free',
  'log.level': 'free',
  'mcp.servers': 'never',
  anthropic_api_key: 'trusted',
  openai_api_key: 'trusted',
  github_personal_access_token: 'trusted',
  brave_api_key: 'trusted',
  google_maps_api_key: 'trusted',
  slack_bot_token: 'trusted',
  slack_team_id: 'trusted',
  postgres_url: 'trusted',
};

/** A machine's name as one token of a subject. */
function nodeName(name: string): string {
  const short = name.toLowerCase().split('.')[0] ?? '';
  return (
    short
      .replace(/[^a-z0-9]+/g, '-')
      .slice(0, 63)
      .replace(/^-+|-+$/g, '') || 'node'
  );
}
