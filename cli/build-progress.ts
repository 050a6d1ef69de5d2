/**
 * Shows a build while it runs: a list of tasks that is painted over on a terminal, a line per
 * event elsewhere, an event per line with `--json`.
 */
import type { Fact } from '../protocol/fact.ts';
import { systemClock } from '../runtime/clock.ts';
import { type BuildView, describeFact, foldFact, NEW_BUILD, type TaskView } from './build-view.ts';
import type { Terminal } from './terminal.ts';

export interface BuildProgress {
  readonly view: BuildView;
  take(fact: Fact): void;
  /** A sentence beside the list. */
  say(sentence: string): void;
  /** Leaves the last picture standing. Idempotent. */
  end(): void;
}

export const NO_MODEL =
  'no model found: the scaffold engine writes this; ' +
  '`ollama pull qwen2.5-coder:7b` for real generation';

const FRAME_MS = 120;
const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

export async function showProgress(terminal: Terminal): Promise<BuildProgress> {
  const isLive = !terminal.isJson && terminal.isPaintable('stderr');
  return isLive ? await liveProgress(terminal) : plainProgress(terminal);
}

function plainProgress(terminal: Terminal): BuildProgress {
  let view = NEW_BUILD;
  return {
    get view() {
      return view;
    },
    take(fact) {
      const wasScaffold = view.writers.includes('scaffold');
      view = foldFact(view, fact);
      if (terminal.isJson) terminal.data(fact);
      const line = describeFact(fact);
      if (line !== null) terminal.note(`${clockTime(fact.at)}  ${line}`);
      if (!wasScaffold && view.writers.includes('scaffold')) terminal.note(NO_MODEL);
    },
    say: sentence => terminal.note(sentence),
    end: () => {},
  };
}

async function liveProgress(terminal: Terminal): Promise<BuildProgress> {
  const painter = await terminal.painter('stderr');
  let view = NEW_BUILD;
  let frame = 0;
  let isOver = false;
  const draw = (): void => painter.paint(render(view, FRAMES[frame % FRAMES.length] ?? ''));
  const ticker = setInterval(() => {
    frame++;
    draw();
  }, FRAME_MS);
  const above = (sentence: string): void => {
    painter.clear();
    terminal.note(sentence);
    draw();
  };
  return {
    get view() {
      return view;
    },
    take(fact) {
      const wasScaffold = view.writers.includes('scaffold');
      view = foldFact(view, fact);
      if (!wasScaffold && view.writers.includes('scaffold')) above(NO_MODEL);
      draw();
    },
    say: sentence => (isOver ? terminal.note(sentence) : above(sentence)),
    end() {
      if (isOver) return;
      isOver = true;
      clearInterval(ticker);
      draw();
      painter.done();
    },
  };
}

function render(view: BuildView, spinner: string): string {
  const seconds = Math.max(0, ((view.endedAt ?? systemClock.now()) - view.startedAt) / 1_000);
  const elapsed = view.startedAt === 0 ? '' : ` ${seconds.toFixed(0)} s`;
  const head = `${view.end === null ? spinner : '■'} ${view.name ?? 'build'}: ${view.phase}${elapsed}`;
  const width = Math.max(0, ...view.tasks.map(task => task.title.length));
  return [
    head,
    ...view.tasks.map(
      task => `  ${mark(task, spinner)} ${task.title.padEnd(width)}  ${told(task)}`,
    ),
    ...(view.check === null ? [] : [`  ${checkLine(view)}`]),
    ...(view.waiting === null ? [] : [`  waiting: ${view.waiting}`]),
  ].join('\n');
}

function checkLine({ check }: BuildView): string {
  if (check === null) return '';
  const { passed, tests_passed, tests_failed } = check;
  return `${passed ? '✔' : '✖'} checks: ${tests_passed} passed, ${tests_failed} failed`;
}

function mark(task: TaskView, spinner: string): string {
  if (task.state === 'merged') return '✔';
  if (task.state === 'failed') return '✖';
  if (task.state === 'waiting') return '·';
  if (task.id === 'plan' && task.state === 'reported') return '✔';
  return spinner;
}

function told(task: TaskView): string {
  if (task.error !== null) return task.error.split('\n', 1)[0]?.slice(0, 80) ?? '';
  return task.model === null ? '' : `${task.model} on ${task.node}`;
}

const clockTime = (at: number): string => new Date(at).toISOString().slice(11, 19);
