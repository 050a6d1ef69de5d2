/** When a process counts as hanging, and when it is the machine that stood still. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ASK_EVERY_MS, Silence } from './silence.ts';

const QUESTIONS = 6;
const SILENCE_MS = 30_000;

/** Asks at its pace from `from` on, so many times; answers whether it was too long each time. */
const ask = (silence: Silence, times: number, from = 0): boolean[] =>
  Array.from({ length: times }, (_, index) => silence.isTooLong(from + index * ASK_EVERY_MS));

test('what answers nothing for 30 s is silent for too long, and not before', () => {
  const answers = ask(new Silence(ASK_EVERY_MS), QUESTIONS + 1);
  assert.deepEqual(answers, [...Array(QUESTIONS).fill(false), true]);
});

test('one answer, however late, begins the count anew', () => {
  const silence = new Silence(ASK_EVERY_MS);
  ask(silence, QUESTIONS);
  silence.answered();
  assert.ok(!ask(silence, QUESTIONS, SILENCE_MS).includes(true));
});

test('a machine that slept has silenced nobody, whether its clock went on or not', () => {
  const silence = new Silence(ASK_EVERY_MS);
  ask(silence, QUESTIONS);
  const hours = 8 * 3_600_000;
  assert.equal(silence.isTooLong(SILENCE_MS + hours), false, 'the clock went on');
  const other = new Silence(ASK_EVERY_MS);
  ask(other, QUESTIONS - 1);
  assert.equal(other.isTooLong(SILENCE_MS), false, 'the clock stood: one question more');
});
