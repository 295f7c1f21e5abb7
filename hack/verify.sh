#!/usr/bin/env bash
# make verify: regenerates and fails on a difference, then lint, types, layers and dead code. Runs all, names what failed.
set -uo pipefail
failed=()
step() {
  local name=$1
  shift
  echo "== $name"
  "$@" || failed+=("$name")
}
tree_state() { git ls-files --cached --others --exclude-standard -z | xargs -0 sha256sum 2>/dev/null; }
regenerate() {
  local before after
  before=$(tree_state)
  make generate || return 1
  after=$(tree_state)
  [ "$before" = "$after" ] && return 0
  echo 'Generated files are out of date; they have been regenerated now: look at them and commit them:'
  diff <(echo "$before") <(echo "$after") | awk '/^>/ {print "  " $3}'
  return 1
}
step generate regenerate
step typecheck make typecheck
step lint make lint
step layers make layers
step dead-code make dead-code
if [ ${#failed[@]} -gt 0 ]; then
  echo "verify failed: ${failed[*]}" >&2
  exit 1
fi
echo 'verify passed'
