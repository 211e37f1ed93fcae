#!/usr/bin/env bash
# One fuzz target: search for SECONDS, from the kept corpus and from what earlier searches found in FOUND; or try INPUT alone.
# The search ends at the first input that breaks a promise, keeps it, and says how to see it again. With FUZZ_SEED it is the same
# search every time, from the kept corpus alone: what it finds is the fault of the change at hand and of no chance.
set -euo pipefail
if (($# < 4)); then
    echo "usage: fuzz.sh CARGO_FUZZ TARGET FOUND SECONDS [INPUT]" >&2
    exit 2
fi
cargo_fuzz=$1 target=$2 found=$3/$2 seconds=$4 input=${5:-}
cd "$(dirname "$0")/.."

# No sanitiser: those need a nightly compiler, and guard `unsafe` code, of which a parser has none.
run=("$cargo_fuzz" run --sanitizer none "$target")
if [[ -n $input ]]; then
    exec "${run[@]}" "$input"
fi
seed=${FUZZ_SEED:-0}
if ((seed)); then
    found=$(mktemp -d)/$target
    trap 'rm -rf "${found%/*}"' EXIT
fi
options=(-seed="$seed" -max_total_time="$seconds" -max_len=1024 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1)
case $target in
json_request | binary_request) options+=(-dict=fuzz/json.dict) ;;
esac
mkdir -p "$found"
log=$found.log
if ! "${run[@]}" "$found" "fuzz/corpus/$target" -- "${options[@]}" >"$log" 2>&1; then
    grep --text -A 4 -e 'panicked at' -e '^error' -e 'ERROR: libFuzzer' "$log" || tail -20 "$log"
    kept=$(grep --text -o 'fuzz/artifacts/[^ ]*/[a-z]*-[0-9a-f]*' "$log" | head -1)
    echo "fuzz: $target failed${kept:+; see it again with: make fuzz FUZZ_TARGETS=$target FUZZ_INPUT=$kept}"
    exit 1
fi
runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
new=$(sed -n 's/^stat::new_units_added: *//p' "$log")
echo "fuzz: $target: $runs inputs in $seconds s, $new of them new, none bad"
