/**
 * Synchronous work over foreign data with a limit on its time: a pattern of a tool's schema, say,
 * that takes for ever on the right argument. It is stopped wherever it is, also inside a pattern;
 * the event loop waits no longer than the limit.
 */
import vm from 'node:vm';

const context = vm.createContext({});
const script = new vm.Script('work()');

/**
 * What `work` gives, or `undefined` where it was stopped after `limitMs`. What it throws is thrown.
 * Costs some 0.1 ms, for the thread that watches the time.
 */
export function withinTime<T extends object | boolean | string | number | null>(
  limitMs: number,
  work: () => T,
): T | undefined {
  let result: T | undefined;
  const outer = context['work'];
  context['work'] = () => {
    result = work();
  };
  try {
    script.runInContext(context, { timeout: limitMs });
    return result;
  } catch (error) {
    // The error belongs to the other context: it is no `Error` of this one.
    if (Object(error).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return undefined;
    throw error;
  } finally {
    context['work'] = outer;
  }
}
