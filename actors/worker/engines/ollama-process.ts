/**
 * The process of a local `ollama serve`, as far as the system lets us look: the settings that its API
 * hides, and how far its runners have got with reading a model. Linux only; elsewhere, or where the
 * process is another user's, there is nothing to be seen.
 */
import { readdir, readFile } from 'node:fs/promises';

export interface OllamaProcess {
  readonly pid: number;
  readonly environment: Readonly<Record<string, string>>;
}

const LOCAL = new Set(['127.0.0.1', 'localhost', '[::1]']);
const DEFAULT_PORT = '11434';
const PROCESSES_MAX = 65_536;
const RUNNERS_MAX = 64;
const PAGE_BYTES = 4_096;

/** The process that serves `host`, or null where none can be seen. */
export async function findOllamaProcess(
  host: string,
  proc = '/proc',
): Promise<OllamaProcess | null> {
  const url = new URL(host);
  if (!LOCAL.has(url.hostname)) return null;
  const port = url.port === '' ? '80' : url.port;
  const pids = (await entries(proc)).filter(name => /^\d+$/.test(name)).slice(0, PROCESSES_MAX);
  for (const pid of pids) {
    const [program = '', verb] = (await text(`${proc}/${pid}/cmdline`)).split('\0');
    if (verb !== 'serve' || !/(^|\/)ollama$/.test(program)) continue;
    const environment = parseEnvironment(await text(`${proc}/${pid}/environ`));
    if (environment !== null && portOf(environment['OLLAMA_HOST']) === port) {
      return { pid: Number(pid), environment };
    }
  }
  return null;
}

/** Bytes that the runners of a server hold or have read: grows while a model is being loaded. */
export async function loadedBytes(pid: number, proc = '/proc'): Promise<number | null> {
  const runners = await childrenOf(pid, proc);
  let sum: number | null = null;
  for (const runner of runners.slice(0, RUNNERS_MAX)) {
    const resident = Number((await text(`${proc}/${runner}/statm`)).split(' ')[1] ?? Number.NaN);
    const read = Number(/^rchar: (\d+)/m.exec(await text(`${proc}/${runner}/io`))?.[1] ?? 0);
    if (Number.isNaN(resident)) continue;
    sum = (sum ?? 0) + Math.max(resident * PAGE_BYTES, read);
  }
  return sum;
}

async function childrenOf(pid: number, proc: string): Promise<string[]> {
  const threads = await entries(`${proc}/${pid}/task`);
  const lists = await Promise.all(
    threads.map(thread => text(`${proc}/${pid}/task/${thread}/children`)),
  );
  return lists.flatMap(list => list.split(' ').filter(child => child !== ''));
}

function parseEnvironment(raw: string): Record<string, string> | null {
  if (raw === '') return null; // Another user's, or gone.
  return Object.fromEntries(
    raw.split('\0').flatMap(entry => {
      const at = entry.indexOf('=');
      return at > 0 ? [[entry.slice(0, at), entry.slice(at + 1)]] : [];
    }),
  );
}

/** As Ollama reads OLLAMA_HOST: `host`, `host:port`, `:port` or a URL. */
function portOf(host: string | undefined): string {
  return /:(\d+)\/?$/.exec(host ?? '')?.[1] ?? DEFAULT_PORT;
}

/** What cannot be read says nothing: the process is gone, or not ours to look at. */
const text = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '');
const entries = (path: string): Promise<string[]> => readdir(path).catch(() => []);
