/** What a finished build leaves on the screen: where it lies, its history, its tests, its writer. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BuildSummary } from '../protocol/build.ts';
import type { Bus } from '../runtime/bus.ts';
import { systemClock } from '../runtime/clock.ts';
import { plainEnvironment } from '../runtime/config-environment.ts';
import { runProgram } from '../runtime/run-program.ts';
import { NO_MODEL } from './build-progress.ts';
import type { BuildRun } from './build-run.ts';
import type { BuildView } from './build-view.ts';
import { EXIT } from './exit-code.ts';
import { getFromMaster, masterUrl } from './master-client.ts';
import { unpackProject } from './project-out.ts';
import { shellWord } from './shell-word.ts';

const SUMMARY_WAIT_MS = 2_000;
const PAUSE_MS = 100;
const GIT_TIMEOUT_MS = 10_000;

/** Shows a build that has ended; brings it to `--out`. Answers the exit code. */
export async function showResult(run: BuildRun, bus: Bus): Promise<number> {
  const { terminal, options, build, progress } = run;
  const { view } = progress;
  const out =
    options.out !== undefined && view.archive !== null && build !== null
      ? await unpackProject(bus, view.archive, {
          folder: options.out,
          name: view.name ?? build,
          build,
        })
      : null;
  const state = view.end?.state ?? 'failed';
  const path = out ?? view.path;
  if (terminal.isJson) {
    const summary = await summaryOf(run);
    terminal.data({ type: 'build.summary', ...summary, out });
  } else {
    terminal.line(await render(run, view, path));
  }
  return state === 'succeeded' ? EXIT.ok : EXIT.failed;
}

/** The master's summary, once it too has seen the end; what we saw ourselves where it is silent. */
async function summaryOf(run: BuildRun): Promise<Partial<BuildSummary>> {
  const deadline = systemClock.monotonic() + SUMMARY_WAIT_MS;
  const { view } = run.progress;
  while (masterUrl(run.config) !== null) {
    const summary = await getFromMaster(run.config, `/builds/${run.build}`, SUMMARY_WAIT_MS).catch(
      () => null, // What we saw ourselves will do.
    );
    const isSummary = summary !== null && typeof summary === 'object';
    if (isSummary && (summary as BuildSummary).state === view.end?.state) {
      return summary as BuildSummary;
    }
    if (systemClock.monotonic() > deadline) break;
    await systemClock.sleep(PAUSE_MS);
  }
  return {
    ...(run.build === null ? {} : { id: run.build }),
    state: view.end?.state ?? 'failed',
    prompt: run.request.prompt,
    name: view.name,
    path: view.path,
    stack: view.stack,
    checks: view.check === null ? [] : [view.check],
    models: [...view.writers],
    archive: view.archive,
    unmet: [...(view.end?.unmet ?? [])],
    error: view.end?.error ?? null,
  };
}

async function render(run: BuildRun, view: BuildView, path: string | null): Promise<string> {
  const { terminal, build } = run;
  const end = view.end;
  const seconds = (((view.endedAt ?? view.startedAt) - view.startedAt) / 1_000).toFixed(1);
  const colour = end?.state === 'succeeded' ? 'green' : 'red';
  const lines = [
    '',
    `${terminal.style(colour, end?.state ?? 'failed')}  ${view.name ?? ''} (${build}, ${seconds} s)`,
  ];
  if (end?.error) lines.push(`why      ${end.error.message}`, ...hintOf(end.error.hint));
  for (const unmet of end?.unmet ?? []) lines.push(`unmet    ${unmet}`);
  if (view.check !== null) {
    const { tests_passed, tests_failed, command, sandbox } = view.check;
    const failed = tests_failed === 0 ? '' : `, ${tests_failed} failed`;
    lines.push(
      `tests    ${tests_passed} passed${failed} (${command.join(' ')}, sandbox ${sandbox})`,
    );
  }
  if (view.writers.length > 0) lines.push(`written  by ${view.writers.join(', ')}`);
  if (view.writers.includes('scaffold')) lines.push(`         ${NO_MODEL}`);
  if (path !== null && existsSync(join(path, '.git'))) {
    lines.push(`path     ${path}`, ...(await historyOf(path)));
    if (end?.state === 'succeeded') lines.push(`run it   ${howToRun(path)}`);
  } else if (path !== null) {
    lines.push(`path     ${path} (on the gateway's machine; --out DIR brings it here)`);
  }
  return lines.join('\n');
}

const hintOf = (hint: string | undefined): string[] =>
  hint === undefined ? [] : [`         ${hint}`];

export async function historyOf(path: string): Promise<string[]> {
  // This repository and no other: neither one above it, nor what the user's settings point to.
  const flags = ['--no-pager', `--git-dir=${join(path, '.git')}`, '-c', 'safe.directory=*'];
  const log = await runProgram('git', [...flags, 'log', '--oneline', '--no-decorate'], {
    timeoutMs: GIT_TIMEOUT_MS,
    env: { ...plainEnvironment(), GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' },
  });
  if (log.failure !== null) return [`git      ${log.failure}`];
  return ['', '$ git log --oneline', ...log.stdout.trimEnd().split('\n'), ''];
}

/** Read off the project itself, whoever wrote it. */
function howToRun(path: string): string {
  const has = (file: string): boolean => existsSync(join(path, file));
  if (has('package.json')) {
    const { scripts = {} } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8')) as {
      readonly scripts?: Readonly<Record<string, string>>;
    };
    if (scripts['start']) return `cd ${shellWord(path)} && npm start`;
  }
  if (has('app/__main__.py')) return `cd ${shellWord(path)} && python -m app`;
  if (has('main.py')) return `cd ${shellWord(path)} && python main.py`;
  return `see ${shellWord(has('README.md') ? join(path, 'README.md') : path)}`;
}
