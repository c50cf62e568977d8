# shellcheck shell=bash
# Shared by scripts/test and scripts/check: building a preset, and steps with a closing summary.
# Source it from the root of the tree.

say() { printf '\n=== %s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# Compiled once, found again by builds of copies of this tree (tests/mutants).
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

build() {  # preset, targets...
  local preset=$1; shift
  say "build: $preset"
  local started=$SECONDS log=build/$preset.log
  mkdir -p build
  if ! { cmake --preset "$preset" && cmake --build --preset "$preset" ${1:+--target "$@"}; } \
      >"$log" 2>&1; then
    tail -n 60 "$log"
    die "building $preset failed; the whole log is $log"
  fi
  echo "built in $((SECONDS - started)) s"
}

results=()
failed=0
step() {  # name, command...
  local name=$1 started=$SECONDS verdict=passed; shift
  say "$name"
  if ! "$@"; then verdict=FAILED; failed=1; fi
  results+=("$(printf '%-6s %5d s  %s' "$verdict" $((SECONDS - started)) "$name")")
}

summary() {  # prints what ran and ends the script
  say "summary, after $SECONDS s"
  printf '%s\n' "${results[@]}"
  [ "$failed" = 0 ] || { echo "FAILED"; exit 1; }
  echo "all passed"
  exit 0
}
