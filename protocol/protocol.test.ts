/** Literals of the wire that other programs rely on, and the parsers at the edge. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BuildRequest } from './build.ts';
import { acceptVersion, envelopeHeaders } from './envelope.ts';
import { ERRORS } from './error-codes.ts';
import { CodeGodError, fromWireError, toWireError } from './errors.ts';
import {
  BuildId,
  BuildStamp,
  buildIdOf,
  callIdOf,
  GatewayId,
  LeaseId,
  NodeId,
  TaskId,
} from './ids.ts';
import { BUCKETS, STREAMS } from './streams.ts';
import * as subjects from './subjects.ts';
import { pathFault } from './text.ts';

const build = BuildId.parse('b7');
const task = TaskId.parse('store');
const node = NodeId.parse('attic');

test('people are told who does not answer, not on which subject', () => {
  const told = {
    'codegod.node.attic.infer': 'the worker of attic',
    'codegod.node.attic.measure': 'the resource-monitor of attic',
    'codegod.mcp.attic.call': 'the gateway of attic',
    'codegod.workspace.attic.merge': 'the gateway of attic',
    'codegod.control.build.b7': 'the master',
    'my.own.subject': 'my.own.subject',
  };
  for (const [subject, peer] of Object.entries(told)) assert.equal(subjects.peerOf(subject), peer);
});

test('subjects are what scripts on the bus were told', () => {
  assert.equal(subjects.BUILD_SUBJECT, 'codegod.build');
  assert.equal(subjects.controlSubject(build), 'codegod.control.build.b7');
  assert.equal(subjects.eventSubject(build, 'task.merged'), 'codegod.event.b7.task.merged');
  assert.equal(subjects.taskSubject(node, build, task, 2), 'codegod.task.attic.b7.store.2');
  const report = 'codegod.report.attic.b7.store.2';
  assert.equal(subjects.reportSubject(node, { build, task, attempt: 2 }), report);
  const attempt = { build, task, attempt: 2 };
  const stamped = { ...attempt, stamp: BuildStamp.parse('k3x2a2bc') };
  const told = subjects.reportSubject(node, stamped);
  assert.equal(told, 'codegod.report.attic.b7-k3x2a2bc.store.2');
  const lease = LeaseId.parse('3-7--secret');
  const id = subjects.reportMessageId(stamped, lease);
  assert.equal(id, 'report:b7-k3x2a2bc.store.2:3-7--secret');
  assert.deepEqual(subjects.reportedAttempt(id), stamped);
  assert.deepEqual(subjects.reportedAttempt('report:b7.store.2'), attempt, 'earlier releases');
  for (const other of [
    '',
    'dead:b7.store.2',
    'report:b7.store',
    'report:b7.store.x',
    'report:b7.a.b.2',
  ]) {
    assert.equal(subjects.reportedAttempt(other), null, other);
  }
  const named = [report, told, 'codegod.report.attic', 'codegod.task.attic.b7.store.2'];
  for (const subject of named) assert.equal(subjects.nodeOnSubject(subject), node, subject);
  for (const subject of ['codegod.build', 'codegod.report.b7.store.2', 'my.task.attic']) {
    assert.equal(subjects.nodeOnSubject(subject), null, subject);
  }
  const gateway = GatewayId.parse('hub');
  assert.equal(subjects.nodeMcpSubject(gateway, 'call', node), 'codegod.mcp.hub.call.attic');
  const commit = subjects.nodeWorkspaceSubject(gateway, 'commit', node);
  assert.equal(commit, 'codegod.workspace.hub.commit.attic');
  assert.equal(subjects.nodeSubject(node, 'reserve'), 'codegod.node.attic.reserve');
  assert.equal(subjects.telemetrySubject(node), 'codegod.telemetry.attic');
});

test('streams and buckets have the names that operators know', () => {
  assert.deepEqual(
    Object.values(STREAMS).map(stream => stream.name),
    ['CODEGOD_BUILD', 'CODEGOD_EVENT', 'CODEGOD_TASK', 'CODEGOD_REPORT', 'CODEGOD_DEAD'],
  );
  assert.equal(BUCKETS.node.name, 'codegod_node');
  assert.equal(BUCKETS.lease.name, 'codegod_lease');
});

test('ids are safe subject tokens and nothing else', () => {
  assert.equal(buildIdOf(42), 'b42');
  assert.equal(callIdOf(build, task, 1, 2, 3), 'b7.store.1.2.3');
  for (const bad of ['b0', 'b', '42', 'b4.2', 'b4*', 'B4', 'b4 ']) {
    assert.equal(BuildId.safeParse(bad).success, false, bad);
  }
  for (const bad of ['', 'Store', '1store', 'a.b', 'a>', 'a b', '-a', 'a'.repeat(41)]) {
    assert.equal(TaskId.safeParse(bad).success, false, bad);
  }
});

test('paths that leave the project, or could, are refused', () => {
  const bad = ['', '/etc/passwd', '../x', 'a/../../x', 'a//b', './a', '.git/hooks/x', 'a/.GIT/x'];
  for (const path of [...bad, 'C:\\x', 'a\\b', '-rf', '~/x', 'a\0b', 'a'.repeat(241)]) {
    assert.notEqual(pathFault(path), null, path);
  }
  for (const path of ['src/store.js', '.gitignore', 'a b/ü.md', 'src/**', '.github/x.yml']) {
    assert.equal(pathFault(path), null, path);
  }
  // As other file systems read them: Windows drops blanks and dots at an end, and shortens names.
  for (const path of ['.git ', '.GIT.', 'a/.git. ./x', 'a/git~1/x', '.git::$INDEX_ALLOCATION/x']) {
    assert.equal(pathFault(path), 'points into .git', path);
  }
  for (const path of ['a\u202egpj.js', 'a\u200bb', '.g\u200cit/x', 'a\u009bb']) {
    assert.equal(pathFault(path), 'holds a character that nobody sees', path);
  }
});

test('an empty prompt is refused, whatever else is in the request', () => {
  assert.equal(BuildRequest.safeParse({ prompt: '  \n' }).success, false);
  assert.equal(BuildRequest.safeParse({}).success, false);
  assert.equal(BuildRequest.safeParse({ prompt: 'x'.repeat(32_769) }).success, false);
});

test('this version and messages without one are understood, others are refused by name', () => {
  const headers = envelopeHeaders({
    id: 'x',
    type: 'task.assigned',
    source: '/node/attic/actor/master',
    time: 0,
    contentType: 'application/json',
  });
  assert.equal(headers['ce-type'], 'dev.codegod.task.assigned.v1');
  assert.equal(acceptVersion(headers), 1);
  assert.equal(acceptVersion({}), 1);
  assert.throws(() => acceptVersion({ 'ce-type': 'dev.codegod.task.assigned.v9' }), /version 9/);
});

test('errors cross the wire and come back', () => {
  const error = new CodeGodError('tool_failed', 'no', { hint: 'try', details: { a: 1 } });
  assert.deepEqual(toWireError(fromWireError(toWireError(error))), toWireError(error));
  assert.equal(toWireError(new TypeError('x')).code, 'internal');
  assert.match(toWireError({ toString: 0 }).message, /no words/);
  fc.assert(fc.property(fc.anything(), thing => toWireError(thing).code.length > 0));
});

test('every error code says when, who and what to do', () => {
  for (const [code, description] of Object.entries(ERRORS)) {
    for (const text of [description.when, description.handledBy, description.userCan]) {
      assert.ok(text.length > 3, code);
    }
    assert.ok(description.http >= 400 && description.http < 600, code);
  }
});
