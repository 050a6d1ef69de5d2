/**
 * Machines of a test: network namespaces on one bridge, each with an address and loopback of its own.
 * Only root of Linux can make them. The test stays outside; it looks in through a relay, a process
 * inside that joins a socket file with a port, since socket files know no network.
 *
 * N1  What a test that was killed left behind is removed by the next one: names carry the id of the
 *     process that made them.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';

const PREFIX = 'cgtest';
const run = promisify(execFile);

/** Why there can be no namespaces here; null where there can. */
export function whyNoNamespaces(): string | null {
  if (process.platform !== 'linux') return 'network namespaces are a thing of Linux';
  if (process.getuid?.() !== 0) return 'only root may make network namespaces';
  const probe = `${PREFIX}${process.pid}-probe`;
  try {
    execFileSync('ip', ['netns', 'add', probe], { stdio: 'pipe' });
    execFileSync('ip', ['netns', 'delete', probe], { stdio: 'pipe' });
    return null;
  } catch (error) {
    return `no network namespaces: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** A bridge and the machines on it, the first of which holds the bridge. */
export class Network {
  readonly #machines: NetMachine[] = [];

  static async create(): Promise<Network> {
    await removeLeftovers();
    return new Network();
  }

  /** Adds a machine that all others can reach. */
  async add(name: string): Promise<NetMachine> {
    const number = this.#machines.length + 1;
    const [first] = this.#machines;
    const machine = new NetMachine(`${PREFIX}${process.pid}-${name}`, `10.77.0.${number}`, first);
    await machine.create();
    this.#machines.push(machine);
    return machine;
  }

  async remove(): Promise<void> {
    for (const machine of this.#machines.toReversed()) await machine.remove();
  }
}

export class NetMachine {
  readonly address: string;
  readonly #namespace: string;
  readonly #bridge: NetMachine | undefined;
  readonly #cable: string;

  constructor(namespace: string, address: string, bridge: NetMachine | undefined) {
    this.#namespace = namespace;
    this.address = address;
    this.#bridge = bridge;
    this.#cable = `c${address.replace(/^.*\./, '')}`;
  }

  async create(): Promise<void> {
    await ip('netns', 'add', this.#namespace);
    await this.#ip('link', 'set', 'lo', 'up');
    const bridge = this.#bridge;
    if (bridge === undefined) await this.#ip('link', 'add', 'lan', 'type', 'bridge');
    else {
      const end = ['peer', 'name', this.#cable, 'netns', bridge.#namespace];
      await this.#ip('link', 'add', 'lan', 'type', 'veth', ...end);
      await bridge.#ip('link', 'set', this.#cable, 'master', 'lan', 'up');
    }
    await this.#ip('address', 'add', `${this.address}/24`, 'dev', 'lan');
    await this.#ip('link', 'set', 'lan', 'up');
  }

  /** Pulls the cable: packets are lost in silence, connections stay open on both sides. */
  async cut(): Promise<void> {
    await this.#setCable('down');
  }

  async mend(): Promise<void> {
    await this.#setCable('up');
  }

  async #setCable(state: 'up' | 'down'): Promise<void> {
    if (this.#bridge === undefined)
      throw new Error('the machine that holds the bridge has no cable');
    await this.#bridge.#ip('link', 'set', this.#cable, state);
  }

  /** A signal to every process on the machine. */
  async signal(name: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    for (const pid of await this.processes()) {
      try {
        process.kill(pid, name);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // It has just ended.
      }
    }
  }

  async processes(): Promise<readonly number[]> {
    const { stdout } = await run('ip', ['netns', 'pids', this.#namespace]);
    return stdout.split('\n').filter(Boolean).map(Number);
  }

  /** What to run for a program to run on this machine. */
  command(program: string, args: readonly string[]): readonly [string, string[]] {
    return ['ip', ['netns', 'exec', this.#namespace, program, ...args]];
  }

  async remove(): Promise<void> {
    await this.signal('SIGKILL');
    await ip('netns', 'delete', this.#namespace);
  }

  async #ip(...args: readonly string[]): Promise<void> {
    await ip('-n', this.#namespace, ...args);
  }
}

async function ip(...args: readonly string[]): Promise<void> {
  await run('ip', [...args]);
}

/** N1. */
async function removeLeftovers(): Promise<void> {
  const { stdout } = await run('ip', ['netns', 'list']);
  for (const [name = '', pid] of stdout.matchAll(new RegExp(`^${PREFIX}(\\d+)-\\S+`, 'gm'))) {
    if (existsSync(`/proc/${pid}`)) continue;
    const machine = new NetMachine(name, '', undefined);
    await machine.remove();
  }
}

const RELAY = `
const net = require('node:net');
const [file, port] = process.argv.slice(1);
net.createServer(outer => {
  const inner = net.connect(Number(port), '127.0.0.1');
  outer.pipe(inner).pipe(outer);
  for (const [one, other] of [[outer, inner], [inner, outer]]) one.on('error', () => other.destroy());
}).listen(file, () => console.log('listening'));
`;

/** A port of this test's own network that leads to a loopback port of a machine. */
export class Relay {
  readonly port: number;
  readonly #outside: Server;
  readonly #inside: ChildProcess;

  private constructor(outside: Server, inside: ChildProcess) {
    this.#outside = outside;
    this.#inside = inside;
    this.port = (outside.address() as AddressInfo).port;
  }

  static async open(machine: NetMachine, folder: string, port: number): Promise<Relay> {
    const file = join(folder, `relay-${port}`);
    const [program, args] = machine.command(process.execPath, ['-e', RELAY, file, String(port)]);
    const inside = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(inside.stdout, 'data');
    const outside = createServer(client => {
      const relay = connect(file);
      client.pipe(relay).pipe(client);
      client.on('error', () => relay.destroy());
      relay.on('error', () => client.destroy());
    });
    outside.listen(0, '127.0.0.1');
    await once(outside, 'listening');
    return new Relay(outside, inside);
  }

  close(): void {
    this.#outside.close();
    this.#inside.kill('SIGKILL');
  }
}
