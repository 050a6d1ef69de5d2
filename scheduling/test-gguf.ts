/** Writes the header of a GGUF file for a test model; the bytes of its tensors are left to the caller. */
import { ggmlTypeOfName } from './ggml-types.ts';
import { bytesOf, type TestModel, type TestValue } from './test-models.ts';

const ALIGNMENT = 32;

export interface TestGguf {
  readonly header: Uint8Array;
  /** Of the whole file, tensors included. */
  readonly size_bytes: number;
}

class Writer {
  readonly #parts: Uint8Array[] = [];
  length = 0;

  bytes(part: Uint8Array): this {
    this.#parts.push(part);
    this.length += part.length;
    return this;
  }
  #number(size: number, write: (view: DataView) => void): this {
    const part = new Uint8Array(size);
    write(new DataView(part.buffer));
    return this.bytes(part);
  }
  uint8(value: number): this {
    return this.#number(1, view => view.setUint8(0, value));
  }
  uint32(value: number): this {
    return this.#number(4, view => view.setUint32(0, value, true));
  }
  uint64(value: number): this {
    return this.#number(8, view => view.setBigUint64(0, BigInt(value), true));
  }
  float32(value: number): this {
    return this.#number(4, view => view.setFloat32(0, value, true));
  }
  text(value: string): this {
    const bytes = new TextEncoder().encode(value);
    return this.uint64(bytes.length).bytes(bytes);
  }
  done(): Uint8Array {
    const all = new Uint8Array(this.length);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

export interface GgufOptions {
  readonly version?: number;
  /** Whether to write the whole vocabulary, as an engine needs it. */
  readonly vocabulary?: boolean;
}

export function testGguf(model: TestModel, options: GgufOptions = {}): TestGguf {
  const writer = new Writer();
  const entries: [string, (writer: Writer) => void][] = Object.entries(model.metadata).map(
    ([key, value]) => [key, writerOf(key, value)],
  );
  entries.push(['general.alignment', to => to.uint32(4).uint32(ALIGNMENT)]);
  entries.push(['general.file_type', to => to.uint32(4).uint32(15)]);
  if (options.vocabulary === true) entries.push(...vocabularyOf(model.vocabulary));
  writer.uint32(0x46554747).uint32(options.version ?? 3);
  writer.uint64(model.tensors.length).uint64(entries.length);
  for (const [key, write] of entries) write(writer.text(key));
  let offset = 0;
  for (const tensor of model.tensors) {
    writer.text(tensor.name).uint32(tensor.shape.length);
    for (const size of tensor.shape) writer.uint64(size);
    writer.uint32(numberOf(tensor.type)).uint64(offset);
    offset += Math.ceil(bytesOf(tensor) / ALIGNMENT) * ALIGNMENT;
  }
  while (writer.length % ALIGNMENT !== 0) writer.uint8(0);
  return { header: writer.done(), size_bytes: writer.length + offset };
}

function writerOf(key: string, value: TestValue): (writer: Writer) => void {
  return writer => {
    if (typeof value === 'string') writer.uint32(8).text(value);
    else if (typeof value === 'boolean') writer.uint32(7).uint8(value ? 1 : 0);
    else if (typeof value === 'number') {
      const isFloat =
        !Number.isInteger(value) || /epsilon|freq_base|scale$|scaling.factor|multiplier/.test(key);
      if (isFloat) writer.uint32(6).float32(value);
      else writer.uint32(4).uint32(value);
    } else {
      const isFlags = typeof value[0] === 'boolean';
      writer
        .uint32(9)
        .uint32(isFlags ? 7 : 5)
        .uint64(value.length);
      for (const item of value) {
        if (typeof item === 'boolean') writer.uint8(item ? 1 : 0);
        else writer.uint32(item);
      }
    }
  };
}

function vocabularyOf(size: number): [string, (writer: Writer) => void][] {
  const list = (to: Writer, kind: number): Writer => to.uint32(9).uint32(kind).uint64(size);
  return [
    ['tokenizer.ggml.model', to => to.uint32(8).text('gpt2')],
    ['tokenizer.ggml.pre', to => to.uint32(8).text('default')],
    [
      'tokenizer.ggml.tokens',
      to => {
        list(to, 8);
        for (let index = 0; index < size; index++) to.text(`t${index}`);
      },
    ],
    [
      'tokenizer.ggml.token_type',
      to => {
        list(to, 5);
        for (let index = 0; index < size; index++) to.uint32(1);
      },
    ],
    ['tokenizer.ggml.merges', to => to.uint32(9).uint32(8).uint64(1).text('ÿ þ')],
    ['tokenizer.ggml.bos_token_id', to => to.uint32(4).uint32(0)],
    ['tokenizer.ggml.eos_token_id', to => to.uint32(4).uint32(1)],
  ];
}

function numberOf(name: string): number {
  const known = ggmlTypeOfName(name);
  if (known === null) throw new Error(`no such type: ${name}`);
  return known.number;
}
