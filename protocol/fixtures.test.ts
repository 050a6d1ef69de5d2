/**
 * The wire, frozen. Each file in `fixtures/` is a message of a released version: it must go on being
 * read, unchanged, unknown fields included, in both encodings. To change one is to break a node
 * that was not updated at the same hour.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { ZodType } from 'zod';
import { sourcePath } from '../test/source-tree.ts';
import { BuildRequest, BuildSummary, ControlRequest } from './build.ts';
import { decode, encode, JSON_TYPE, MSGPACK_TYPE } from './codec.ts';
import { ERROR_CODES } from './error-codes.ts';
import { Fact } from './fact.ts';
import { CallReply, CallRequest } from './mcp.ts';
import {
  CapacityAdvert,
  GatewayAdvert,
  PlacementDecision,
  ReserveReply,
  ReserveRequest,
  RuntimeAdvert,
  Telemetry,
} from './node.ts';
import { Plan } from './plan.ts';
import { PlaceQuery, PoolStatus, RequestRecord } from './pool.ts';
import { ServerAttestation } from './server-attestation.ts';
import { TaskMessage, TaskReport } from './task.ts';
import { ArchiveReply, CheckReply, CheckRequest } from './workspace.ts';

const SCHEMAS: Record<string, ZodType> = {
  'archive-reply': ArchiveReply,
  'build-request': BuildRequest,
  'build-summary': BuildSummary,
  'call-reply-failed': CallReply,
  'call-reply-ok': CallReply,
  'call-request': CallRequest,
  'capacity-advert': CapacityAdvert,
  'check-reply': CheckReply,
  'check-request': CheckRequest,
  'control-request': ControlRequest,
  'fact-build-ended': Fact,
  'fact-build-received': Fact,
  'fact-plan-accepted': Fact,
  'fact-task-placed': Fact,
  'fact-task-reported': Fact,
  'gateway-advert': GatewayAdvert,
  'placement-decision': PlacementDecision,
  'place-query': PlaceQuery,
  plan: Plan,
  'pool-status': PoolStatus,
  'request-record': RequestRecord,
  'reserve-reply-granted': ReserveReply,
  'reserve-reply-refused': ReserveReply,
  'reserve-request': ReserveRequest,
  'runtime-advert': RuntimeAdvert,
  'server-attestation': ServerAttestation,
  'task-message': TaskMessage,
  'task-report': TaskReport,
  telemetry: Telemetry,
};

function fixture(name: string): unknown {
  return JSON.parse(readFileSync(sourcePath('protocol/fixtures', `${name}.json`), 'utf8'));
}

for (const [name, schema] of Object.entries(SCHEMAS)) {
  test(`${name}: read unchanged, in JSON and in msgpack`, () => {
    const message = fixture(name);
    for (const type of [JSON_TYPE, MSGPACK_TYPE] as const) {
      const decoded = decode(encode(message, type), type);
      assert.deepEqual(schema.parse(decoded), message);
    }
  });
}

test('every fixture has its schema here', () => {
  const names = readdirSync(sourcePath('protocol/fixtures')).map(file =>
    file.replace(/\.json$/, ''),
  );
  assert.deepEqual(
    names.filter(name => name !== 'error-codes').sort(),
    Object.keys(SCHEMAS).sort(),
  );
});

test('error codes are only ever added', () => {
  const frozen = fixture('error-codes') as string[];
  assert.deepEqual(
    frozen.filter(code => !ERROR_CODES.some(known => known === code)),
    [],
  );
});
