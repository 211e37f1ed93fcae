#!/usr/bin/env bash
# Install Debian packages that are not there yet; asks no registry when nothing is missing.
set -euo pipefail

missing=()
for package in "$@"; do
    dpkg-query --show --showformat='${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
    exit 0
fi

sudo=()
((EUID == 0)) || sudo=(sudo)
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update --quiet --quiet
"${sudo[@]}" apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
