#!/bin/sh
# Installs Westward out of this directory into a virtual environment: ./install [DIRECTORY]. Nothing is asked of any network.
set -eu
target=${1:-westward-venv}
case $target in /*) ;; *) target=$PWD/$target ;; esac
cd "$(dirname "$0")"
fail() { printf 'error: %s\nnext:  %s\n' "$1" "$2" >&2; exit 4; }
sha256sum --check --quiet SHA256SUMS >&2 || fail "this bundle is not what was packed" "copy it here again"
python=${PYTHON:-python3}
found=$("$python" -c 'import sys, venv, ensurepip; print("cp%d%d" % sys.version_info[:2])') ||
  fail "'$python' is not here, or is without venv" "install python3 and python3-venv, or name another Python in PYTHON"
[ "$found" = @PYTHON@ ] || fail "this bundle is for Python @PYTHON@, and '$python' is $found" "name a fitting one in PYTHON, or make the bundle with this one"
"$python" -m venv "$target"
"$target/bin/pip" install --quiet --disable-pip-version-check --no-index --find-links wheels --require-hashes --requirement requirements.txt
printf '%s\n' "$("$target/bin/westward" --version) is in $target; the playbooks are in $PWD/ansible"
