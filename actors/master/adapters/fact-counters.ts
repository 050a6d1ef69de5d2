/** Facts in figures: what `GET /metrics` counts of builds. */
import type { FactBody } from '../../../protocol/fact.ts';
import type { Metrics } from '../../../runtime/metrics.ts';

export function countFact(metrics: Metrics, fact: FactBody): void {
  switch (fact.type) {
    case 'build.ended': {
      const { state } = fact;
      metrics
        .counter('codegod_builds_ended_total', 'builds by how they ended', ['state'])
        .increment({
          state,
        });
      return;
    }
    case 'task.reported': {
      const { outcome, usage, engine } = fact.report;
      const reports = metrics.counter('codegod_attempts_total', 'attempts reported', ['outcome']);
      reports.increment({ outcome });
      const tokens = metrics.counter('codegod_tokens_total', 'tokens written by models', [
        'engine',
      ]);
      tokens.increment({ engine }, usage.output_tokens);
      return;
    }
    case 'task.placed':
    case 'task.unplaced': {
      const result = fact.type === 'task.placed' ? 'placed' : 'unplaced';
      metrics
        .counter('codegod_placements_total', 'placements tried', ['result'])
        .increment({ result });
      return;
    }
    case 'check.ended': {
      const result = fact.check.passed ? 'passed' : 'failed';
      metrics.counter('codegod_checks_total', 'runs of checks', ['result']).increment({ result });
      return;
    }
    default:
      return;
  }
}
