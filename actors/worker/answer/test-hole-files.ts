/**
 * Files with a hole in them. `=== path` begins a file; `@@` stands for the word that marks open work,
 * which the tree itself does not hold.
 */
export const HOLE_FILES = `
=== src/a1.js
import express from 'express';
const app = express();
// ... rest of the code unchanged
app.listen(3000);
=== src/a2.py
import os

# existing code here

def added():
    return os.getcwd()
=== src/a3.js
export function save(item) {
  // @@: implement saving
}
=== src/a4.js
export class Store {
  add(item) {
    this.items.push(item);
  }
  // ... existing methods ...
}
=== src/a5.py
class Store:
    def add(self, item):
        self.items.append(item)

    # ... rest of the methods remain the same
=== src/a6.py
def login(user, password):
    # Your code here
    pass
=== src/a7.py
def login(user, password):
    ...


def logout(user):
    user.session = None
=== src/a8.py
def login...
=== src/a9.js
function save() {...}
export { save };
=== src/b1.js
export function list() {
  const rows = db.all();
  ...
  return rows;
}
=== src/b2.ts
export const config = {
  port: 3000,
  // ...
};
=== src/b3.ts
// existing imports
// ... existing imports ...
import { added } from './added.ts';
added();
=== src/b4.jsx
export function App() {
  return (
    <main>
      <h1>Todos</h1>
      {/* rest of the component */}
    </main>
  );
}
=== src/b5.jsx
export function App() {
  return (
    <main>
      {/* ... */}
    </main>
  );
}
=== src/b6.css
main { margin: 0; }
/* ... rest of the styles ... */
=== src/b7.css
/* existing styles remain unchanged */
.added { color: red; }
=== src/b8.html
<!doctype html>
<html>
  <body>
    <!-- existing content remains the same -->
    <p>New</p>
  </body>
</html>
=== src/b9.html
<body>
  <!-- ... -->
  <p>New</p>
</body>
=== cmd/c1.go
package main

func main() {
	// ... existing code ...
	run()
}
=== cmd/c2.go
package main

func load(path string) error {
	// @@: implement
	return nil
}
=== src/c3.rs
fn main() {
    // rest of the implementation stays the same
    run();
}
=== src/c4.rs
fn load(path: &str) -> String {
    // @@: implement loading
    todo!()
}
=== src/C5.java
public class C5 {
    // Existing fields and methods remain unchanged
    // ... other methods

    public void added() {
        System.out.println("added");
    }
}
=== src/C6.java
public class C6 {
    public String load(String path) {
        // Implementation goes here
        return null;
    }
}
=== src/c7.cs
public class Store {
    public void Save() {
        // Add your logic here
    }
}
=== src/c8.sql
CREATE TABLE users (id INTEGER);
-- ... rest of the schema unchanged
-- rest of the file unchanged
=== src/c9.py
def total(items):
    """Adds the prices."""
    # @@: implement this function
=== src/d1.py
def total(items):
    # Implementation omitted for brevity
    pass
=== src/d2.py
app = FastAPI()

# (existing routes remain unchanged)

@app.get("/new")
def new():
    return {}
=== src/d3.py
# ... (previous code)

def added():
    return 1
=== src/d4.py
def one():
    return 1

# Rest of the file unchanged
=== src/d5.js
// Same as before
// ... 
export const added = 1;
=== src/d6.js
module.exports = {
  one() { return 1; },
  // other functions remain the same
};
=== src/d7.js
export function one() {
  return 1;
}

// [rest of code]
=== src/d8.js
export function handler(request, response) {
  // handle the request
  // ... implementation ...
}
=== src/d9.ts
export async function sendMail(to: string): Promise<void> {
  // In a real application, this would send an email
}
=== src/e1.ts
export class Service {
  async create(input: Input): Promise<Output> {
    // your implementation here
    throw new Error('Not implemented');
  }
}
=== src/e2.ts
export class Service {
  private readonly store = new Map();

  // ... unchanged code ...

  remove(id: string) {
    this.store.delete(id);
  }
}
=== src/e3.py
class Api:
    def get(self):
        return self.items

    # Similar methods for put and delete...
=== src/e4.py
import flask

app = flask.Flask(__name__)

# Add the rest of your code here
=== src/e5.js
test('adds', () => {
  expect(add(1, 2)).toBe(3);
});

// Add more tests here...
// ... more tests
=== src/e6.js
switch (action.type) {
  case 'add':
    return add(state);
  // ... other cases
}
=== src/e7.js
const routes = [
  { path: '/', view: Home },
  // ... more routes
];
export default routes;
=== src/e8.yaml
services:
  web:
    image: nginx
# ... rest of the file unchanged
=== src/e9.sh
#!/bin/sh
set -e
# ... existing code ...
echo done
=== Dockerfile
FROM node:20
# ... existing steps ...
CMD ["node", "main.js"]
=== src/f1.vue
<template>
  <main>
    <!-- existing template code -->
  </main>
</template>
=== src/f2.py
def parse(text):
    tokens = text.split()
    ...
    return tokens
=== src/f3.py
async def fetch(url): ...


print("ready")
=== src/f4.js
export const save = async item => {
  // @@: add your code here
};
=== src/f5.ts
function validate(input: unknown): boolean {
  // @@: Implement validation logic
  return true;
}
export { validate };
=== src/f6.php
<?php
function load($path) {
    // @@: implement
}
=== src/f7.rb
class Store
  def save
    # @@: implement
  end
end
=== src/f8.kt
class Store {
    fun save(item: String) {
        // Implement this
    }
}
=== src/f9.c
int sum(int a, int b) {
    /* your code here */
}
=== src/g1.js
// Keep the rest of the file as is
export const added = true;
=== src/g2.js
import { a } from './a.js';

/* ... */

export const added = a;
=== src/g3.py
class Handler:
    def handle(self, request):
        """Handles a request."""
        # @@: Add the handling logic
        pass

    def close(self):
        self.open = False
=== src/g4.js
export function setup(app) {
  app.use(json());
  // remaining routes unchanged
}
=== src/g5.ts
export interface State {
  items: Item[];
}
// (no changes below)
// the rest of the code remains the same
=== src/g6.js
diff --git a/src/a.js b/src/a.js
@@ -1 +1 @@
-a
+b
=== src/g7.js
const a = 1;
<<<<<<< HEAD
const b = 1;
>>>>>>> other
=== src/g8.lua
local M = {}
function M.save(item)
  -- @@: implement
end
return M
=== src/g9.swift
func load(path: String) -> String {
    // Placeholder implementation
    return ""
}
=== src/h1.js
app.get('/todos', async (request, response) => {
  // Fetch the todos here
  // @@: implement
});
app.listen(3000);
=== src/h2.py
def main():
    setup()
    # ... (rest of the main function)


main()
=== src/h3.tsx
export function List({ items }: Props) {
  // ... hooks and handlers stay the same
  return <ul>{items.map(item => <li key={item.id}>{item.text}</li>)}</ul>;
}
=== src/h4.py
"""Routes."""
# All other imports remain the same
from .added import added
=== src/h5.go
package store

// Implementation of the other methods omitted for brevity
func (s *Store) Len() int { return len(s.items) }
`;
