/**
 * Models that a real server is given: small ones of every kind, and what makes Ollama see in each
 * what it is (it reads capabilities from the template and from the file).
 */
import type { ModelShape } from './model-gguf.ts';

export interface TestModel {
  /** Without a tag. */
  readonly name: string;
  readonly shape: Partial<ModelShape>;
  readonly template: string;
}

const CHATML = `{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
`;

/** The mention of tools makes the model able to call them; without a tag of its own, `{` begins a call. */
const TOOLS = `{{- if .Tools }}{{ range .Tools }}{{ .Function.Name }} {{ end }}{{ end }}
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
`;

/** Ends inside of a thought where thinking is on: noise never gets out of it. */
const THINKS = `{{- range .Messages }}<|im_start|>{{ .Role }}
{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ if .Think }}<think>{{ end }}`;

export const TINY: TestModel = { name: 'tiny', shape: {}, template: CHATML };

export const SUITE_MODELS: readonly TestModel[] = [
  TINY,
  { name: 'other', shape: { seed: 11, layers: 6 }, template: CHATML },
  { name: 'third', shape: { seed: 12 }, template: CHATML },
  { name: 'tools', shape: { seed: 13 }, template: TOOLS },
  { name: 'thinks', shape: { seed: 14 }, template: THINKS },
  { name: 'embeds', shape: { seed: 15, pooled: true, contextLength: 128 }, template: '' },
  {
    name: 'slides',
    shape: { architecture: 'gemma3', seed: 16, layers: 6, tied: true, window: 64 },
    template: CHATML,
  },
  // Heads as wide as a block of a quantised cache.
  { name: 'wide', shape: { seed: 18, heads: 2, kvHeads: 2 }, template: CHATML },
  { name: 'mixes', shape: { seed: 17, experts: 4, tied: true, elements: 'f16' }, template: CHATML },
];
