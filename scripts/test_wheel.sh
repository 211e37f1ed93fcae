#!/usr/bin/env bash
# Install the wheel of dist/ into fresh environments, away from the checkout, and run the demo in each:
# with the Python given, and with one newer minor version where this machine has one (abi3 must load there too).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

wheel=$(ls "$root"/dist/samovar-*-abi3-*.whl)
mkdir "$work/examples"
cp -r "$root/examples/plates" "$work/examples"
cp -r "$root/scripts" "$work"

serve_with() {
    local python=$1
    echo "== $("$python" --version): $(basename "$wheel")"
    "$python" -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$root/constraints/dev.txt" "$wheel" opencv-python-headless
    (cd "$work" && "$work/venv/bin/samovar" version && "$work/venv/bin/python" -m scripts.demo --once)
    rm -rf "$work/venv"
}

newer() {
    local candidate
    for candidate in python3.14 python3.13 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[3-9]*/bin/python python3.12; do
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

first=${1:-python3}
serve_with "$first"
second=$(newer)
if [[ -n "$second" && "$("$second" --version)" != "$("$first" --version)" ]]; then
    serve_with "$second"
fi
echo "the wheel works"
