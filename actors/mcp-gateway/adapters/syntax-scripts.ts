/**
 * The programs that parse a project's files, each run in the sandbox over many files at once. None of
 * them runs, imports or expands anything that stands in a file.
 *
 * Arguments: NODE_SCRIPT gets the project's folder, the paths of the parser and of the YAML reader,
 * then the files. PYTHON_SCRIPT gets the files. SHELL_SCRIPT gets a mark, the path of gofmt or nothing, then the files.
 */

/** Node's own parser for JavaScript, Babel's for TypeScript and JSX; JSON; YAML. */
export const NODE_SCRIPT = `
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const vm = require('node:vm');
const [project, parserPath, yamlPath, ...files] = process.argv.slice(1);
const say = record => fs.writeSync(1, JSON.stringify(record) + '\\n');
// Most files need neither: each is loaded for the first that does.
function lazily(file) {
  const place = path.resolve(file);
  let loaded;
  return () => (loaded ??= require(place));
}
const babel = parserPath === '' ? null : lazily(parserPath);
const yaml = yamlPath === '' ? null : lazily(yamlPath);
// Only now: Node reads a package.json beside it before it runs anything, and ends where it is broken.
process.chdir(project);
const fault = (line, message) => ({ line, message: String(message).split('\\n')[0].slice(0, 400) });

function manifestOf(file) {
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    try {
      return JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
    } catch (error) {
      // A broken manifest is a fault of its own; without one the kind is not known.
      if (error.code !== 'ENOENT') return null;
    }
    if (folder === '.' || folder === path.dirname(folder)) return null;
  }
}
function lineOf(error, file) {
  const first = String(error.stack).split('\\n')[0];
  const match = /:([0-9]+)$/.exec(first);
  return match !== null && first.startsWith(file) ? Number(match[1]) : null;
}
function v8(text, file, isModule) {
  try {
    if (isModule) new vm.SourceTextModule(text, { identifier: file });
    else vm.compileFunction(text.replace(/^#!.*/, ''), ['exports', 'require', 'module', '__filename', '__dirname'], { filename: file });
    return null;
  } catch (error) {
    const line = lineOf(error, file);
    if (line !== null || babel === null) return fault(line, error.message);
    const other = parse(text, isModule ? 'module' : 'commonjs', []);
    return fault(other === null ? null : other.line, error.message);
  }
}
function parse(text, sourceType, plugins) {
  const common = { sourceType, plugins, errorRecovery: false, attachComment: false };
  try {
    babel().parse(text, { ...common, allowReturnOutsideFunction: sourceType === 'commonjs' });
    return null;
  } catch (error) {
    const line = error.loc ? error.loc.line : null;
    return fault(line, String(error.message).replace(/ \\([0-9]+:[0-9]+\\)$/, ''));
  }
}
function javascript(text, file) {
  if (/\\.mjs$/i.test(file)) return v8(text, file, true);
  if (/\\.cjs$/i.test(file)) return v8(text, file, false);
  const manifest = manifestOf(file);
  const type = manifest === null ? undefined : manifest.type;
  const inBrowser = /(?:^|\\/)(?:public|static|assets|www|web|client|frontend|docs|dist)\\//.test(file);
  const declared = v8(text, file, type === 'module');
  if (declared === null) return null;
  // Without a type both are in use: what loads the file decides.
  if ((type === undefined || inBrowser) && v8(text, file, type !== 'module') === null) return null;
  const bundled = manifest === null || /"(?:react|preact|solid-js|vite|next|webpack|esbuild|@babel\\/[a-z-]+)"/.test(JSON.stringify(manifest));
  if (bundled && babel !== null && parse(text, 'module', ['jsx']) === null) return null;
  const asModule = type === undefined && /^\\s*(?:import|export)\\b/m.test(text.slice(0, 65536));
  return asModule ? v8(text, file, true) : declared;
}
function typescript(text, file) {
  const isDeclaration = /\\.d\\.[mc]?ts$/i.test(file);
  const plugins = [['typescript', { dts: isDeclaration }], 'decorators-legacy', 'explicitResourceManagement'];
  return parse(text, 'unambiguous', /\\.[jt]sx$/i.test(file) ? [...plugins, 'jsx'] : plugins);
}
function json(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    const position = /position ([0-9]+)/.exec(error.message);
    const line = position === null ? text.split('\\n').length : text.slice(0, Number(position[1])).split('\\n').length;
    return fault(line, error.message);
  }
}
function commented(text) {
  try {
    babel().parseExpression(text, { sourceType: 'script' });
    return null;
  } catch (error) {
    return fault(error.loc ? error.loc.line : null, error.message);
  }
}
function yamlFault(text) {
  for (const document of yaml().parseAllDocuments(text)) {
    const [error] = document.errors || [];
    if (error) return fault(error.linePos ? error.linePos[0].line : null, error.message);
  }
  return null;
}
const COMMENTED = /(?:\\.jsonc|\\.json5|(?:^|\\/)(?:tsconfig|jsconfig|devcontainer|\\.eslintrc|\\.babelrc|\\.swcrc|settings|launch|tasks|extensions)[^/]*\\.json)$/i;
function check(file) {
  const text = fs.readFileSync(file, 'utf8').replace(/^\\uFEFF/, '');
  if (/\\.ya?ml$/i.test(file)) {
    if (yaml === null || /\\{\\{|\\{%/.test(text)) return { unchecked: true };
    return yamlFault(text);
  }
  if (/\\.(?:json|webmanifest|geojson|ipynb)$/i.test(file) && !COMMENTED.test(file)) return json(text);
  if (/\\.[mc]?js$/i.test(file)) return javascript(text, file);
  if (babel === null) return { unchecked: true };
  return COMMENTED.test(file) ? commented(text) : typescript(text, file);
}
for (const file of files) {
  say({ begin: file });
  let found;
  try {
    found = check(file);
  } catch (error) {
    found = fault(null, error instanceof RangeError ? 'nested too deeply to be parsed' : error.message);
  }
  say({ path: file, ...found });
}
`;

export const PYTHON_SCRIPT = `
import json, sys, warnings
warnings.simplefilter("ignore")
try:
    import tomllib
except ImportError:
    tomllib = None

def say(**record):
    sys.stdout.write(json.dumps(record) + "\\n")
    sys.stdout.flush()

def check(path):
    with open(path, "rb") as file:
        data = file.read()
    if path.lower().endswith(".toml"):
        if tomllib is None:
            return {"unchecked": True}
        tomllib.loads(data.decode("utf-8").replace("\\r\\n", "\\n"))
    else:
        compile(data, path, "exec", dont_inherit=True)
    return {}

def line_in(message):
    words = message.replace(",", " ").split()
    if "line" in words[:-1]:
        word = words[words.index("line") + 1]
        return int(word) if word.isdigit() else None
    return None

for path in sys.argv[1:]:
    say(begin=path)
    try:
        found = check(path)
    except SyntaxError as error:
        found = {"line": error.lineno, "message": str(error.msg)[:400]}
    except (RecursionError, MemoryError, OverflowError):
        found = {"line": None, "message": "nested too deeply to be parsed"}
    except ValueError as error:
        found = {"line": line_in(str(error)), "message": str(error)[:400]}
    say(path=path, **found)
`;

/** \`-n\` reads without running; gofmt only formats, and its output is thrown away. */
export const SHELL_SCRIPT = `
mark=$1; gofmt=$2; shift 2; number=0
for file do
  echo "$mark begin $number"
  case $file in
    *.go) "$gofmt" -e "$file" 2>&1 >/dev/null | head -n 20; test -z "$("$gofmt" -l "$file" 2>&1 >/dev/null)" ;;
    *) if command -v bash >/dev/null 2>&1; then bash -n "$file" 2>&1; else sh -n "$file" 2>&1; fi ;;
  esac
  echo "$mark end $number $?"
  number=$((number + 1))
done
`;
