/**
 * A house of machines for a test: one that runs the system, and others that joined it with tokens of
 * their own, each in a network namespace (netns.ts) and a home of its own. Everything is done by the
 * command line, as people do it.
 */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode } from '../../protocol/codec.ts';
import { Fact } from '../../protocol/fact.ts';
import { BuildId } from '../../protocol/ids.ts';
import { RuntimeAdvert } from '../../protocol/node.ts';
import { BUCKETS, STREAMS } from '../../protocol/streams.ts';
import { eventsOf } from '../../protocol/subjects.ts';
import type { Bus } from '../../runtime/bus.ts';
import { systemClock } from '../../runtime/clock.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { programOf } from '../source-tree.ts';
import { type NetMachine, Network, Relay } from './netns.ts';
import { type CommandResult, shareEnvironments } from './test-system.ts';

const COMMAND_MS = 60_000;
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024;

/** One machine: its place in the network, its home, its command line. */
export class Machine {
  readonly name: string;
  readonly net: NetMachine;
  readonly home: string;
  readonly #env: NodeJS.ProcessEnv;

  constructor(
    name: string,
    net: NetMachine,
    home: string,
    settings: Readonly<Record<string, string>>,
  ) {
    this.name = name;
    this.net = net;
    this.home = home;
    this.#env = { ...process.env, CODEGOD_HOME: home, NO_COLOR: '1', ...settings };
  }

  run(...args: readonly string[]): Promise<CommandResult> {
    const words = [...programOf('cli/main.ts'), ...args];
    const [program, rest] = this.net.command(process.execPath, words);
    const options = { env: this.#env, cwd: this.home, timeout: COMMAND_MS };
    return new Promise(resolve => {
      execFile(
        program,
        rest,
        { ...options, maxBuffer: OUTPUT_BYTES_MAX },
        (error, stdout, stderr) => {
          const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
          resolve({ code, stdout, stderr });
        },
      );
    });
  }

  async ok(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...args);
    if (code === 0) return stdout;
    throw new Error(
      `${this.name}: codegod ${args[0]}: exit ${code}\n${stderr}\n${stdout}\n${this.logs()}`,
    );
  }

  /** The seed that this machine presents: the owner's, or what its token holds. */
  seed(): string {
    const file = this.name === 'hub' ? 'bus-owner.nk' : 'joined.nk';
    return readFileSync(join(this.home, 'config', file), 'utf8').trim();
  }

  /** What its processes have logged. */
  logs(): string {
    const folder = join(this.home, 'state', 'log');
    if (!existsSync(folder)) return `${this.name} has logged nothing`;
    return readdirSync(folder)
      .map(
        file =>
          `--- ${this.name} ${file}\n${readFileSync(join(folder, file), 'utf8').slice(-2_000)}`,
      )
      .join('\n');
  }
}

export class House {
  readonly hub: Machine;
  readonly nodes: ReadonlyMap<string, Machine>;
  /** The bus as its owner sees it. */
  readonly bus: Bus;
  readonly busUrl: string;
  /** The HTTP door of the hub. */
  readonly http: string;
  readonly #network: Network;
  readonly #relays: readonly Relay[];
  readonly #folder: string;

  private constructor(
    parts: Pick<House, 'hub' | 'nodes' | 'bus' | 'busUrl' | 'http'>,
    network: Network,
    relays: readonly Relay[],
    folder: string,
  ) {
    this.hub = parts.hub;
    this.nodes = parts.nodes;
    this.bus = parts.bus;
    this.busUrl = parts.busUrl;
    this.http = parts.http;
    this.#network = network;
    this.#relays = relays;
    this.#folder = folder;
  }

  /** Starts the hub and has every node join, at once. */
  static async build(
    names: readonly string[],
    settings: (name: string) => Readonly<Record<string, string>>,
  ): Promise<House> {
    const folder = mkdtempSync(join(tmpdir(), 'codegod-house-'));
    const network = await Network.create();
    const machine = async (name: string, more: Readonly<Record<string, string>>) => {
      const home = join(folder, name);
      mkdirSync(home);
      return new Machine(name, await network.add(name), home, { ...settings(name), ...more });
    };
    const hub = await machine('hub', { CODEGOD_NODE_NAME: 'hub', CODEGOD_BUS_HOST: '0.0.0.0' });
    shareEnvironments(hub.home);
    await hub.ok('up', '-d');
    const nodes = new Map<string, Machine>();
    for (const name of names) nodes.set(name, await machine(name, {}));
    await Promise.all([...nodes.values()].map(async node => letJoin(hub, node)));
    const relays = await Promise.all([4222, 8001].map(port => Relay.open(hub.net, folder, port)));
    const [busPort, httpPort] = relays.map(({ port }) => port);
    const busUrl = `nats://127.0.0.1:${busPort}`;
    const bus = await connectAs(busUrl, hub.seed());
    const http = `http://127.0.0.1:${httpPort}`;
    return new House({ hub, nodes, bus, busUrl, http }, network, relays, folder);
  }

  node(name: string): Machine {
    const found = this.nodes.get(name);
    if (found === undefined) throw new Error(`there is no machine ${name}`);
    return found;
  }

  /** A client of the bus; the caller closes it. */
  connect(seed: string): Promise<Bus> {
    return connectAs(this.busUrl, seed);
  }

  /** Publishes a request to build and answers its id. */
  async begin(prompt: string): Promise<BuildId> {
    const body = new TextEncoder().encode(JSON.stringify({ prompt }));
    const reply = await this.bus.ask('codegod.build', body, { timeout_ms: 10_000 });
    const { seq } = JSON.parse(new TextDecoder().decode(reply.body)) as { seq: number };
    return BuildId.parse(`b${seq}`);
  }

  /** The facts of a build from its beginning, as they come, to its end. */
  async *facts(build: BuildId, signal: AbortSignal): AsyncGenerator<Fact> {
    const options = { filter: eventsOf(build), from_seq: 1, signal };
    for await (const message of this.bus.streams.follow(STREAMS.event.name, options)) {
      const fact = Fact.parse(decode(message.body, message.headers['content-type']));
      yield fact;
      if (fact.type === 'build.ended' || fact.type === 'build.rejected') return;
    }
  }

  /** What a worker says of itself now; null where it says nothing. */
  async worker(name: string): Promise<RuntimeAdvert | null> {
    const entry = await this.bus.kv(BUCKETS.node.name).get(`${name}.runtime`);
    return entry === null ? null : RuntimeAdvert.parse(decode(entry.value, undefined));
  }

  logs(): string {
    return [this.hub, ...this.nodes.values()].map(machine => machine.logs()).join('\n');
  }

  async remove(): Promise<void> {
    await this.bus.close();
    for (const relay of this.#relays) relay.close();
    await this.#network.remove();
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}

const connectAs = (url: string, nkeySeed: string): Promise<Bus> =>
  connectNats({ servers: [url], name: 'e2e', clock: systemClock, credentials: { nkeySeed } });

/** As a person does it: the line that the one machine prints is typed on the other. */
async function letJoin(hub: Machine, node: Machine): Promise<void> {
  const made = JSON.parse(await hub.ok('token', 'create', '--name', node.name, '--json'));
  const [line = ''] = (made.commands as string[]).filter(one => one.includes(hub.net.address));
  await node.ok(...line.split(' ').slice(1), '-d');
}

/** The tree of a project's last commit. */
export const treeOf = (path: string): string =>
  execFileSync('git', ['-C', path, 'rev-parse', 'HEAD^{tree}'], { encoding: 'utf8' }).trim();
