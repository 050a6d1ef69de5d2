/** Which control fits which state of a build. Pure. */
import { BUILD_ENDS, type BuildState, type ControlRequest } from '../../protocol/build.ts';
import { CodeGodError } from '../../protocol/errors.ts';
import type { FactBody } from '../../protocol/fact.ts';
import type { BuildId } from '../../protocol/ids.ts';
import type { BuildContext } from './build-context.ts';
import { type BuildMachineValue, buildStateOf } from './build-summary.ts';

const RETRYABLE: readonly BuildState[] = ['partial', 'failed', 'cancelled'];
const NOT_PAUSABLE: readonly BuildState[] = ['received', 'finalizing', 'cancelling', ...BUILD_ENDS];

/**
 * The fact that a control becomes in this state of its build; null where the build is already as
 * asked. Decided in the build's turn: what it waited behind may have left no room for it.
 * @throws CodeGodError `not_found`, `conflict`
 */
export function controlFact(
  build: BuildId,
  control: ControlRequest,
  { value, context }: { readonly value: BuildMachineValue; readonly context: BuildContext },
  at: number,
): FactBody | null {
  if (context.created_at === 0) throw noSuchBuild(build);
  const state = buildStateOf(value);
  if (control.action === 'retry' && context.request === null) {
    throw new CodeGodError('conflict', `${build} was rejected: there is no request to try again`);
  }
  return controlApplies(build, state, control.action)
    ? { type: 'build.controlled', at, control }
    : null;
}

export const noSuchBuild = (build: BuildId): CodeGodError =>
  new CodeGodError('not_found', `there is no build ${build}`);

/** Whether the control changes anything; false where the build is already as asked. */
export function controlApplies(
  build: BuildId,
  state: BuildState,
  action: ControlRequest['action'],
): boolean {
  switch (action) {
    case 'cancel':
      if (state === 'cancelling' || state === 'cancelled') return false;
      return check(!BUILD_ENDS.includes(state), build, state, 'cancelled');
    case 'approve':
      return check(state === 'awaiting_approval', build, state, 'approved');
    case 'retry':
      return check(RETRYABLE.includes(state), build, state, 'retried');
    case 'pause':
      if (state === 'paused') return false;
      return check(!NOT_PAUSABLE.includes(state), build, state, 'paused');
    case 'resume':
      return check(state === 'paused', build, state, 'resumed');
  }
}

/** @throws CodeGodError `conflict` */
function check(fits: boolean, build: BuildId, state: BuildState, what: string): true {
  if (fits) return true;
  throw new CodeGodError('conflict', `${build} is ${state} and cannot be ${what}`);
}
