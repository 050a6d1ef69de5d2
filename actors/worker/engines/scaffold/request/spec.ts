/**
 * The service a prompt asks for, as plain data: what is kept, with which fields, and how records
 * refer to each other.
 *
 * S1  Names are unique, lower snake_case ASCII and safe in JavaScript, Python, JSON, URLs and file
 *     names.
 * S2  Required references form no cycle, so a record of every entity can be created.
 * S3  At most ENTITIES_MAX entities with FIELDS_MAX fields each; what was cut is said in `notes`.
 */

export const ENTITIES_MAX = 12;
export const FIELDS_MAX = 24;

export type Stack = 'node' | 'fastapi';

export type FieldType =
  | 'string'
  | 'text'
  | 'integer'
  | 'number'
  | 'boolean'
  | 'date'
  | 'datetime'
  | 'email'
  | 'url'
  | 'enum'
  | 'list'
  | 'reference';

export interface Field {
  readonly name: string;
  readonly type: FieldType;
  readonly required: boolean;
  /** The allowed words of an enum; empty for every other type. */
  readonly values: readonly string[];
  /** The entity a reference points to; null for every other type. */
  readonly target: string | null;
  readonly minimum: number | null;
  readonly maximum: number | null;
}

export interface Entity {
  /** Singular: `order_item`. */
  readonly name: string;
  /** Plural, the name of its collection: `order_items`. */
  readonly plural: string;
  readonly fields: readonly Field[];
}

export interface ServiceSpec {
  /** A slug for the project: `todo-api`. */
  readonly name: string;
  readonly title: string;
  readonly stack: Stack;
  readonly entities: readonly Entity[];
  /** Whole sentences: what was asked and is not covered, or is covered differently. */
  readonly notes: readonly string[];
}

/** What reading a request ends in. */
export type Reading =
  | { readonly kind: 'spec'; readonly spec: ServiceSpec }
  | { readonly kind: 'refused'; readonly reason: string };
