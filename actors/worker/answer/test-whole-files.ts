/**
 * Whole files, each with a line that looks like a hole and is none. `=== path` begins a file; `@@`
 * stands for the word that marks open work, which the tree itself does not hold.
 */
export const WHOLE_FILES = String.raw`
=== app/errors.py
class AppError(Exception): ...


class NotFound(AppError): ...


class Conflict(AppError):
    ...


def to_status(error: AppError) -> int:
    return 404 if isinstance(error, NotFound) else 409
=== app/arrays.py
import numpy as np


def first_channel(arr: np.ndarray) -> np.ndarray:
    return arr[..., 0]


def last_two(arr):
    return arr[..., -2:]
=== src/clone.js
export function cloneMap(map) {
  return new Map([...map].map(([key, value]) => [key, { ...value }]));
}

// Same as above, but for lists
export function cloneList(list) {
  return list.map(item => ({ ...item }));
}
=== src/items.js
const items = [];

// @@: add an item
export function addItem(name) {
  const item = { id: items.length + 1, name };
  items.push(item);
  return item;
}
=== plugins/hooks.py
def register(hooks):
    hooks.on("start", print)
    hooks.on("stop", print)
    # add your code here if you want more
=== app/stack.py
class Stack:
    """A stack.

    >>> s = Stack()
    >>> for n in (1, 2):
    ...     s.push(n)
    ...
    >>> s.pop()
    2
    """

    def __init__(self):
        self._items = []

    def push(self, item):
        self._items.append(item)

    def pop(self):
        return self._items.pop()
=== test/list.test.js
import test from 'node:test';
import assert from 'node:assert/strict';

test('adds', () => assert.equal(1 + 1, 2));

// The remaining tests here need a database.
test('stores', { skip: !process.env.DATABASE_URL }, () => {
  assert.ok(process.env.DATABASE_URL);
});
=== src/args.js
// The rest of the arguments are passed on as they are
export const run = (command, ...rest) => spawn(command, [...rest]);

export const merge = (...lists) => [].concat(...lists);
=== src/retry.ts
/** Waits... and then tries again. */
export async function retry<T>(work: () => Promise<T>, times: number): Promise<T> {
  // First we try without waiting ...
  // ... and only then with a growing pause
  for (let n = 0; ; n++) {
    try {
      return await work();
    } catch (error) {
      if (n >= times) throw error;
      await new Promise(done => setTimeout(done, 2 ** n * 100));
    }
  }
}
=== src/log.js
export const silent = {
  info() {
    // intentionally empty
  },
  error() {
    // nothing to do here
  },
};
=== src/types.ts
export type Handler = (...args: unknown[]) => void;
export interface Options {
  // other options are passed to fetch
  readonly timeoutMs: number;
}
=== app/models.py
from typing import Protocol, overload


class Store(Protocol):
    def get(self, key: str) -> str | None: ...

    def put(self, key: str, value: str) -> None:
        ...


@overload
def parse(text: str) -> int: ...
@overload
def parse(text: None) -> None: ...
def parse(text):
    return None if text is None else int(text)
=== app/base.py
from abc import ABC, abstractmethod


class Exporter(ABC):
    @abstractmethod
    def export(self, rows: list[dict]) -> str:
        """Gives the text of the rows."""
        ...

    @property
    @abstractmethod
    def suffix(self) -> str: ...
=== app/plugin.py
class Plugin:
    """Subclasses implement run."""

    def run(self, context):
        raise NotImplementedError

    def close(self):
        pass
=== app/schema.py
from pydantic import BaseModel, Field


class Item(BaseModel):
    name: str = Field(..., min_length=1)
    price: float = Field(..., gt=0)
    tags: tuple[str, ...] = ()
=== app/guard.py
def load(path):
    try:
        return open(path).read()
    except FileNotFoundError:
        ...  # the caller starts afresh
    return ""
=== app/typing_only.py
from typing import TYPE_CHECKING

if TYPE_CHECKING:

    def reveal(value: object) -> None: ...


def show(value):
    print(repr(value))
=== stubs/store.pyi
class Store:
    def get(self, key: str) -> str: ...
    def all(self) -> list[str]: ...
=== tests/test_mail.py
class Outbox:
    def send(self, message): ...


def test_sends():
    assert Outbox().send("hi") is None
=== src/routes.js
import { Router } from 'express';

export const router = Router();

// Other routes
router.get('/health', (request, response) => response.json({ ok: true }));

// Additional handlers for todos
router.get('/todos', (request, response) => response.json([]));
=== src/loading.jsx
export function Loading() {
  return <p>Loading...</p>;
}

export function Form() {
  return (
    <form>
      {/* Add an item */}
      <input placeholder="Your code here..." />
    </form>
  );
}
=== src/messages.js
export const MESSAGES = {
  wait: 'Please wait...',
  more: '... and more',
  rest: 'rest of the code',
  todo: '@@: implement me',
};
=== src/template.js
export const page = title => ${'`'}
<h1>${'$'}{title}</h1>
...
// rest of the page
${'`'};
=== src/parser.js
/**
 * Parses a list.
 *
 *     parse('a, b');
 *     // ... rest of the example
 *
 * ...
 */
export function parse(text) {
  return text.split(',').map(part => part.trim());
}
=== src/patterns.js
export const STRING = /^[^"'\\]+$/;
export const TICK = /[${'`'}]/;
// @@ items live here
export const items = [];
=== src/queue.js
export class Queue {
  #items = [];
  // Similar to push, but at the front
  unshift(item) {
    this.#items.unshift(item);
  }
  // The rest of the class deals with time
  drain() {
    return this.#items.splice(0);
  }
}
=== cmd/main.go
package main

import "fmt"

// sum adds numbers; the rest of the program prints them.
func sum(numbers ...int) int {
	total := 0
	for _, n := range numbers {
		total += n
	}
	return total
}

func main() {
	fmt.Println(sum([]int{1, 2}...))
	// @@: read numbers from the command line
}
=== store/store.go
package store

// Same as Get, but for many keys.
func (s *Store) GetAll(keys ...string) []string {
	var found []string
	for _, key := range keys {
		found = append(found, s.Get(key))
	}
	return found
}

// Close does nothing: the store lives in memory.
func (s *Store) Close() error {
	// nothing to release
	return nil
}
=== src/lib.rs
pub fn head(items: &[u8]) -> Option<&u8> {
    match items {
        [first, ..] => Some(first),
        [] => None,
    }
}

// Remaining cases are covered by the fallback below.
pub fn tail(items: &[u8]) -> &[u8] {
    items.get(1..).unwrap_or(&[])
}
=== src/Main.java
public class Main {
    // Existing users keep their ids
    private final java.util.List<String> users = new java.util.ArrayList<>();

    // @@: add validation
    public void add(String... names) {
        users.addAll(java.util.List.of(names));
    }

    @Override
    public String toString() {
        return String.join(", ", users);
    }
}
=== src/Program.cs
public class Program {
    // Other fields are set by the serializer
    public string Name { get; set; } = "";

    public static void Main(string[] args) {
        // Implementation note: the order matters here
        System.Console.WriteLine(new Program().Name);
    }
}
=== include/log.h
#ifndef LOG_H
#define LOG_H
void log_line(const char *format, ...);
#define LOG(...) log_line(__VA_ARGS__)
#endif
=== style.css
/* Rest of the page is centred */
main { margin: 0 auto; }
/* ... and the footer too */
footer { text-align: center; }
/* Same as above, but for small screens */
@media (max-width: 600px) { main { margin: 0; } }
=== index.html
<!doctype html>
<html>
  <body>
    <!-- The existing header stays at the top while scrolling, see style.css -->
    <header>Notes</header>
    <p>Loading...</p>
    <input placeholder="Add your code here..." />
    <!-- add more links here if you need them -->
    <script src="app.js"></script>
  </body>
</html>
=== schema.sql
-- Other tables refer to this one
CREATE TABLE users (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL -- as the user wrote it...
);
-- Same as users, but for teams
CREATE TABLE teams (id INTEGER PRIMARY KEY);
=== config.yaml
# add more servers here if you need them
servers:
  - name: one
    # the remaining settings have defaults
    port: 8080
...
=== compose.yml
services:
  # Other services can reach it as "db"
  db:
    image: postgres:17
    environment:
      POSTGRES_PASSWORD: ${'$'}{DB_PASSWORD:?...}
=== run.sh
#!/bin/sh
# Rest of the arguments go to the program
name="$1"
shift
echo "Starting $name..."
exec "$name" "$@"
=== Dockerfile
FROM node:20-slim
WORKDIR /app
# Existing files in the image are kept
COPY . .
# Add your own certificates here if you need them
RUN npm ci
CMD ["node", "src/main.js"]
=== Makefile
# The remaining targets are for releases
test:
	node --test
release: test
	npm pack
=== app/settings.py
# @@: load this from a file
DEBUG = False
# Existing code relies on this name
LEVEL = "info"
# more settings...
NAME = "todo"
=== app/cli.py
import argparse


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="...")
    args = parser.parse_args(argv)
    print("Working...")
    # @@: implement colours
    for name in args.names:
        print(name)
    return 0
=== app/noop.py
class NullCache:
    def get(self, key):
        # nothing is ever cached here
        return None

    def put(self, key, value):
        pass  # ignored on purpose
=== app/calc.py
def evaluate(expression):
    # This is a simplified implementation of the shunting-yard algorithm
    output = []
    for token in expression.split():
        output.append(token)
    # The rest of the stack is unwound
    return output
=== app/visitor.py
class Visitor:
    def visit_module(self, node):
        for child in node.body:
            self.visit(child)

    # Same for functions
    def visit_function(self, node):
        self.visit_module(node)

    def visit_other(self, node):
        """Other nodes have no children."""
        return None
=== src/server.ts
import { createServer } from 'node:http';

// In a real deployment this is behind a proxy
const server = createServer((request, response) => {
  // @@: implement authentication
  response.end('ok');
});

server.listen(Number(process.env.PORT ?? 3000));
=== src/validate.ts
export function validate(input: unknown): string[] {
  const errors: string[] = [];
  if (typeof input !== 'object') errors.push('not an object');
  // Add more rules here as needed
  return errors;
}
=== src/reducer.js
export function reducer(state, action) {
  switch (action.type) {
    case 'add':
      return { ...state, items: [...state.items, action.item] };
    // other actions are handled by the router
    default:
      return state;
  }
}
=== src/events.js
export function ignore() {}

export const handlers = {
  // placeholder handler, replaced by start()
  onMessage: ignore,
  onClose() {
    // no-op
  },
};
=== src/auth.js
// This function is the same as before the rewrite, only faster
export function check(user, password) {
  return hash(password) === user.hash;
}

// The implementation here follows RFC 6238
export function totp(secret, time) {
  return hmac(secret, Math.floor(time / 30));
}
=== src/App.vue
<template>
  <!-- Other components are loaded on demand -->
  <main>{{ message }}...</main>
</template>

<script setup>
// the rest of the state lives in the store
const message = 'Hello';
</script>
=== lib/tasks.rb
# Other tasks are defined in lib/tasks/*.rake
class Tasks
  # Same as all, but for one user
  def of(user)
    all.select { |task| task.user == user }
  end

  def each(...)
    all.each(...)
  end
end
=== src/index.php
<?php
// The rest of the routes are in routes.php
function sum(int ...$numbers): int {
    return array_sum($numbers);
}
echo sum(...[1, 2]);
=== src/Store.kt
class Store {
    // Existing entries are replaced
    private val items = mutableMapOf<String, String>()

    fun put(vararg pairs: Pair<String, String>) {
        items.putAll(pairs)
    }
}
=== src/View.swift
import SwiftUI

// More views follow the same pattern
struct Row: View {
    let title: String
    var body: some View { Text(title + "...") }
}
for n in 1...3 { print(n) }
=== script.lua
-- other modules call this one
local function sum(...)
  local total = 0
  for _, n in ipairs({...}) do
    total = total + n
  end
  return total
end
return sum
=== data/settings.toml
# Add your own servers here
[server]
port = 8080
=== src/diff.js
// Lines that start with <<<<<<< are conflict markers
export const isConflict = line => line.startsWith('<<<<<<<');
// unchanged lines are kept as they are
export const keep = line => line;
=== src/paginate.js
export function pages(count, current) {
  // 1 ... 4 5 6 ... 10
  const shown = [];
  for (let page = 1; page <= count; page++) {
    if (page === 1 || page === count || Math.abs(page - current) <= 1) shown.push(page);
    else if (shown.at(-1) !== '...') shown.push('...');
  }
  return shown;
}
=== src/truncate.ts
/** Cuts the text: "a long te…" */
export function truncate(text: string, length: number): string {
  return text.length <= length ? text : ${'`'}${'$'}{text.slice(0, length - 1)}…${'`'};
}
=== src/todo-service.ts
// @@ service: create, list, finish
export class TodoService {
  // @@: replace with a database
  readonly #todos: string[] = [];

  create(text: string): void {
    this.#todos.push(text);
  }

  // existing todos come first
  list(): readonly string[] {
    return this.#todos;
  }
}
`;
