/**
 * The life of a build, from the message to the end. It decides; the durable host does.
 *
 * Events are facts. Every one is folded into the context; where the build goes next is decided by
 * guards over the folded context, so that the order in which facts arrive does not matter.
 *
 * B1: the machine decides when a build is done, never a model.
 * B2: every state is left in the end: by its own guard, by cancelling, or by the time limit.
 * B3: paused and waiting builds go back to exactly where they were.
 * B4: a command counts only in a state that it fits, an end only where the build ends: after it
 *     nothing changes but by trying again.
 */
import { assign, setup } from 'xstate';
import type { FactBody } from '../../protocol/fact.ts';
import {
  type BuildContext,
  type BuildEnd,
  NEW_BUILD,
  newTask,
  type Phase,
  type TaskRecord,
} from './build-context.ts';
import { fold, PLAN_TASK } from './build-fold.ts';
import { checksPass, checksSettled, repairTask, repairWorthwhile } from './build-verdict.ts';
import { settle, waitsForCapacity } from './build-wishes.ts';
import { isOver, planTasks } from './task-graph.ts';

/** A workspace that cannot be created after this many tries ends the build. */
const WORKSPACE_FAILURES_MAX = 3;

const taskOf = (context: BuildContext, kind: TaskRecord['kind']): TaskRecord | undefined =>
  context.tasks.findLast(task => task.kind === kind);
const isControl = (event: FactBody, action: string): boolean =>
  event.type === 'build.controlled' && event.control.action === action;
const isDeadline = (event: FactBody, key: string): boolean =>
  event.type === 'deadline.passed' && event.key === key;

/** What entering a phase does to the context. Entering again, after a pause, does nothing twice. */
function enter(context: BuildContext, phase: Phase): BuildContext {
  const again = context.phase === phase;
  const entered = again ? context : { ...context, phase, phase_at: context.updated_at };
  switch (phase) {
    case 'planning':
      return withTask(entered, newTask(PLAN_TASK, 'plan', null));
    case 'verifying':
      return again ? entered : { ...entered, check_series: entered.check_series + 1 };
    case 'repairing': {
      const repair = again ? null : repairTask(entered);
      if (repair === null) return entered;
      return withTask({ ...entered, repairs: entered.repairs + 1 }, repair);
    }
    default:
      return entered;
  }
}

function withTask(context: BuildContext, task: TaskRecord): BuildContext {
  if (context.tasks.some(({ id }) => id === task.id)) return context;
  return { ...context, tasks: [...context.tasks, task] };
}

const machineSetup = setup({
  types: { context: {} as BuildContext, events: {} as FactBody },
  actions: {
    fold: assign(({ context, event }) => settle(fold(context, event))),
    enter: assign(({ context }, params: { readonly phase: Phase }) =>
      settle(enter(context, params.phase)),
    ),
    pause: assign(({ context }) => settle({ ...context, paused: true })),
    goOn: assign(({ context }) => settle({ ...context, paused: false })),
  },
  guards: {
    cancels: ({ event }) => isControl(event, 'cancel'),
    approves: ({ event }) => isControl(event, 'approve'),
    pauses: ({ event }) => isControl(event, 'pause'),
    resumes: ({ event }) => isControl(event, 'resume'),
    retries: ({ context, event }) => isControl(event, 'retry') && context.request !== null,
    timeIsUp: ({ event }) => isDeadline(event, 'budget'),
    endsAs: ({ event }, params: { readonly state: BuildEnd }) =>
      event.type === 'build.ended' && event.state === params.state,
    waits: ({ context }) => waitsForCapacity(context),
    waitsNoMore: ({ context }) => !waitsForCapacity(context),
    planReported: ({ context }) => context.draft !== null,
    planAccepted: ({ context }) => context.plan !== null,
    planRejected: ({ context }) => context.draft === null && context.plan === null,
    noPlan: ({ context }) => taskOf(context, 'plan')?.state === 'failed',
    wantsApproval: ({ context }) =>
      context.plan !== null && context.request?.plan_mode === 'approve' && !context.approved,
    approved: ({ context }) => context.approved,
    contractsOver: ({ context }) =>
      context.workspace !== null &&
      context.tasks.every(task => task.card?.type !== 'contract' || isOver(task)),
    noWorkspace: ({ context }) =>
      context.workspace === null && context.workspace_failures >= WORKSPACE_FAILURES_MAX,
    nothingMerged: ({ context }) =>
      planTasks(context.tasks).every(task => isOver(task) && task.state !== 'merged'),
    allOver: ({ context }) => workOf(context).every(isOver),
    onlyMergesLeft: ({ context }) => onlyMergesLeft(context),
    moreThanMerges: ({ context }) => !onlyMergesLeft(context),
    repairWanted: ({ context }) =>
      checksSettled(context) && !checksPass(context) && repairWorthwhile(context),
    checksSettled: ({ context }) => checksSettled(context),
    repaired: ({ context }) => taskOf(context, 'repair')?.state === 'merged',
    notRepaired: ({ context }) => {
      const repair = taskOf(context, 'repair');
      return repair === undefined || (isOver(repair) && repair.state !== 'merged');
    },
  },
});

/** Also a repair that was done, kept from main, and is merged after all. */
const workOf = ({ tasks }: BuildContext): readonly TaskRecord[] =>
  tasks.filter(({ kind }) => kind !== 'plan');

function onlyMergesLeft(context: BuildContext): boolean {
  const open = workOf(context).filter(task => !isOver(task));
  return (
    open.length > 0 && open.every(task => task.state === 'reported' || task.state === 'merging')
  );
}

const entering = (phase: Phase) => ({ type: 'enter', params: { phase } }) as const;
const ending = <S extends BuildEnd>(state: S) =>
  ({
    guard: { type: 'endsAs', params: { state } },
    target: `#build.${state}`,
    actions: 'fold',
  }) as const;
const ends = [ending('succeeded'), ending('partial'), ending('failed'), ending('cancelled')];
/** An end is not the end: a build that is not good can be tried again (B4). */
const over = {
  '*': {},
  'build.controlled': { guard: 'retries', target: '#build.working', actions: 'fold' },
} as const;

export const buildMachine = machineSetup.createMachine({
  id: 'build',
  context: NEW_BUILD,
  initial: 'received',
  on: {
    '*': { actions: 'fold' },
    // What fits no state changes nothing (B4).
    'build.controlled': {},
  },
  states: {
    received: {
      on: {
        'build.admitted': { target: 'working', actions: 'fold' },
        'build.rejected': { target: 'failed', actions: 'fold' },
        'build.controlled': { guard: 'cancels', target: 'cancelling', actions: 'fold' },
      },
    },
    working: {
      initial: 'planning',
      on: {
        'build.controlled': [
          { guard: 'cancels', target: 'cancelling', actions: 'fold' },
          { guard: 'pauses', target: 'paused', actions: 'fold' },
        ],
        'deadline.passed': { guard: 'timeIsUp', target: '.finalizing', actions: 'fold' },
        'build.ended': ends,
      },
      states: {
        planning: {
          entry: entering('planning'),
          always: [
            { guard: 'wantsApproval', target: 'awaiting_approval' },
            { guard: 'planAccepted', target: 'contracting' },
            { guard: 'planReported', target: 'validating_plan' },
            { guard: 'noPlan', target: 'finalizing' },
            { guard: 'waits', target: '#build.waiting_capacity' },
          ],
        },
        validating_plan: {
          entry: entering('validating_plan'),
          always: [
            { guard: 'wantsApproval', target: 'awaiting_approval' },
            { guard: 'planAccepted', target: 'contracting' },
            { guard: 'planRejected', target: 'planning' },
          ],
        },
        awaiting_approval: {
          entry: entering('awaiting_approval'),
          on: { 'build.controlled': { guard: 'approves', actions: 'fold' } },
          always: { guard: 'approved', target: 'contracting' },
        },
        contracting: {
          entry: entering('contracting'),
          always: [
            { guard: 'contractsOver', target: 'executing' },
            { guard: 'noWorkspace', target: 'finalizing' },
            { guard: 'waits', target: '#build.waiting_capacity' },
          ],
        },
        executing: {
          entry: entering('executing'),
          always: [
            { guard: 'nothingMerged', target: 'finalizing' },
            { guard: 'allOver', target: 'verifying' },
            { guard: 'onlyMergesLeft', target: 'integrating' },
            { guard: 'waits', target: '#build.waiting_capacity' },
          ],
        },
        integrating: {
          entry: entering('integrating'),
          always: [
            { guard: 'nothingMerged', target: 'finalizing' },
            { guard: 'allOver', target: 'verifying' },
            { guard: 'moreThanMerges', target: 'executing' },
          ],
        },
        verifying: {
          entry: entering('verifying'),
          always: [
            { guard: 'repairWanted', target: 'repairing' },
            { guard: 'checksSettled', target: 'finalizing' },
          ],
        },
        repairing: {
          entry: entering('repairing'),
          always: [
            { guard: 'repaired', target: 'verifying' },
            { guard: 'notRepaired', target: 'finalizing' },
            { guard: 'waits', target: '#build.waiting_capacity' },
          ],
        },
        finalizing: {
          entry: entering('finalizing'),
          // Too late to pause.
          on: { 'build.controlled': { guard: 'pauses', actions: 'fold' } },
        },
        where_it_was: { type: 'history' },
      },
    },
    waiting_capacity: {
      on: {
        'build.controlled': [
          { guard: 'cancels', target: 'cancelling', actions: 'fold' },
          { guard: 'pauses', target: 'paused', actions: 'fold' },
        ],
        'deadline.passed': { guard: 'timeIsUp', target: 'working.finalizing', actions: 'fold' },
      },
      always: { guard: 'waitsNoMore', target: 'working.where_it_was' },
    },
    paused: {
      entry: 'pause',
      exit: 'goOn',
      on: {
        'build.controlled': [
          { guard: 'cancels', target: 'cancelling', actions: 'fold' },
          { guard: 'resumes', target: 'working.where_it_was', actions: 'fold' },
        ],
        'deadline.passed': { guard: 'timeIsUp', target: 'working.finalizing', actions: 'fold' },
      },
    },
    cancelling: {
      entry: entering('cancelling'),
      on: { 'build.ended': ends },
    },
    succeeded: { entry: entering('succeeded'), on: { '*': {} } },
    partial: { entry: entering('partial'), on: over },
    failed: { entry: entering('failed'), on: over },
    cancelled: { entry: entering('cancelled'), on: over },
  },
});
