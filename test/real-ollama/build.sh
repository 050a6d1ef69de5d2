#!/bin/sh
# Builds a real `ollama` (CPU only) from its Go module, for the tests that talk to one.
#
# Usage: build.sh [DIRECTORY]        default: ${XDG_CACHE_HOME:-~/.cache}/codegod-test/ollama
# Needs go >= 1.24 and a C++ compiler. On Debian the two header packages are unpacked into DIRECTORY;
# nothing is installed on the machine. Takes two to four minutes on two cores.
#
# The module leaves out vendored headers, hence the include directory put together below:
# nlohmann/json and stb from Debian's packages, miniaudio.h from the Go module malgo.
# A finished build is moved into place at the end: a half one is never found by a test.
set -eu

OLLAMA_VERSION=v0.17.4
MALGO_VERSION=v0.11.24
directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/codegod-test/ollama}

if [ -x "$directory/ollama" ]; then
  echo "$directory/ollama"
  exit 0
fi
command -v go >/dev/null || { echo 'go is not installed' >&2; exit 3; }
command -v g++ >/dev/null || { echo 'g++ is not installed' >&2; exit 3; }

mkdir -p "$directory"
work=$(mktemp -d "$directory/build.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
include=$work/include
mkdir -p "$include/miniaudio" "$work/packages" "$work/bin"

if [ -e /usr/include/nlohmann/json.hpp ] && [ -e /usr/include/stb/stb_image.h ]; then
  system=/usr/include
else
  command -v apt-get >/dev/null || {
    echo 'the headers nlohmann/json.hpp and stb/stb_image.h are missing' >&2
    exit 3
  }
  (cd "$work/packages" && apt-get download -q nlohmann-json3-dev libstb-dev >&2)
  for package in "$work"/packages/*.deb; do dpkg -x "$package" "$work/system"; done
  system=$work/system/usr/include
fi

malgo=$(go mod download -json "github.com/gen2brain/malgo@$MALGO_VERSION" |
  sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
cp "$malgo/miniaudio.h" "$include/miniaudio/miniaudio.h"

GOBIN=$work/bin GOFLAGS=-mod=mod \
  CGO_CFLAGS="-O2 -I$include" CGO_CXXFLAGS="-O2 -I$include -I$system" \
  nice go install -p 2 \
  -ldflags "-s -w -X=github.com/ollama/ollama/version.Version=${OLLAMA_VERSION#v}" \
  "github.com/ollama/ollama@$OLLAMA_VERSION" >&2
mv "$work/bin/ollama" "$directory/ollama"
echo "$directory/ollama"
