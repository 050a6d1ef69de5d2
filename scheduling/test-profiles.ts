/** Profiles of the well-known models of `test-shapes.ts`, as their GGUF files give them. */
import type { ModelProfile } from '../protocol/model-profile.ts';
import { profileOf } from './profile.ts';
import { fileBytes, testModel } from './test-models.ts';
import { SHAPES } from './test-shapes.ts';

const made = new Map<string, ModelProfile>();

export function profileNamed(name: keyof typeof SHAPES, mixture = mixtureOf(name)): ModelProfile {
  const key = `${name} ${mixture}`;
  const known = made.get(key);
  if (known !== undefined) return known;
  const model = testModel(SHAPES[name], mixture);
  const file_bytes = fileBytes(model);
  const profile = profileOf({ ...model, file_bytes, projector_apart: false, source: 'gguf' });
  made.set(key, profile);
  return profile;
}

export function mixtureOf(name: string): string {
  return name.startsWith('gpt-oss') ? 'MXFP4' : 'Q4_K_M';
}
