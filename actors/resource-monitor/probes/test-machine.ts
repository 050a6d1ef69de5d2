/**
 * A machine made of files for tests of probes: a root with `/sys` and `/proc`, and a folder of
 * programs that is the whole search path. The programs are real processes printing recorded forms.
 */
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { sourcePath } from '../../../test/source-tree.ts';
import type { ProbeSite } from './site.ts';
import { toolRunner } from './tool.ts';

export const GIB = 1024 ** 3;
export const MIB = 1024 ** 2;
export const HOST = { total_bytes: 128 * GIB, available_bytes: 100 * GIB };

export const fixturePath = (name: string): string =>
  sourcePath('actors/resource-monitor/fixtures', name);
export const fixture = (name: string): Promise<string> => readFile(fixturePath(name), 'utf8');

export class TestMachine {
  readonly root: string;

  private constructor(root: string) {
    this.root = root;
  }

  /** @param namespace of its processes: the host's, or that of a container */
  static async make(namespace: 'host' | 'container' = 'host'): Promise<TestMachine> {
    const machine = new TestMachine(await mkdtemp(join(tmpdir(), 'codegod-machine-')));
    await mkdir(machine.#path('/bin'), { recursive: true });
    await machine.link(
      '/proc/self/ns/pid',
      `pid:[${namespace === 'host' ? '4026531836' : '4026532'}]`,
    );
    return machine;
  }

  #path(path: string): string {
    return join(this.root, path);
  }

  async file(path: string, content: string | number): Promise<void> {
    await mkdir(dirname(this.#path(path)), { recursive: true });
    await writeFile(this.#path(path), `${content}\n`);
  }

  async files(folder: string, files: Readonly<Record<string, string | number>>): Promise<void> {
    for (const [name, content] of Object.entries(files))
      await this.file(`${folder}/${name}`, content);
  }

  async link(path: string, target: string): Promise<void> {
    await mkdir(dirname(this.#path(path)), { recursive: true });
    await symlink(target, this.#path(path));
  }

  /** A device of the PCI bus with its card of the graphics drivers. */
  async drm(
    number: number,
    slot: string,
    files: Readonly<Record<string, string | number>>,
    driver = 'amdgpu',
  ): Promise<string> {
    const device = `/sys/class/drm/card${number}/device`;
    await this.files(device, { uevent: `DRIVER=${driver}\nPCI_SLOT_NAME=${slot}`, ...files });
    return device;
  }

  async tool(name: string, script: string): Promise<void> {
    const path = this.#path(`/bin/${name}`);
    await writeFile(path, `#!/bin/sh\n${script}\n`);
    await chmod(path, 0o755);
  }

  /** A tool that prints a fixture for each word found in its arguments, in this order. */
  async prints(name: string, answers: Readonly<Record<string, string>>): Promise<void> {
    const cases = Object.entries(answers).map(
      ([word, file]) => `*"${word}"*) exec /bin/cat '${fixturePath(file)}';;`,
    );
    await this.tool(name, `case "$*" in ${cases.join(' ')} esac`);
  }

  get path(): string {
    return this.#path('/bin');
  }

  site(signal: AbortSignal = AbortSignal.timeout(20_000)): ProbeSite {
    return {
      root: this.root,
      run: toolRunner({ PATH: this.path }),
      host: HOST,
      now: 7,
      signal,
    };
  }

  remove(): Promise<void> {
    return rm(this.root, { recursive: true, force: true });
  }
}
