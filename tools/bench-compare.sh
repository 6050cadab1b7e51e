#!/usr/bin/env bash
# Compares the Go benchmarks of a revision with those of the present tree:
#
#   tools/bench-compare.sh REVISION [COUNT]
#
# The two take turns, COUNT (6) times, so that whatever else the machine does
# falls on both alike; benchstat then says which differences mean something.
# In the environment: BENCH (.) chooses benchmarks, PACKAGES the packages (those
# that have benchmarks in both), TIME (0.3s) is how long each benchmark runs.
set -euo pipefail

benchstat=golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

revision=${1:?which revision? make bench-compare OLD=HEAD~1}
count=${2:-6}
cd "$(dirname "$0")/.."
new=$PWD
tmp=$(mktemp -d)
old=$tmp/tree
trap 'git worktree remove --force "$old" || true; rm -rf "$tmp"' EXIT
git worktree add --quiet --detach "$old" "$revision"

benchmarked() { (cd "$1" && grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n1 dirname | sort -u); }
packages=${PACKAGES:-$(comm -12 <(benchmarked "$old") <(benchmarked "$new"))}

for side in old new; do
	for package in $packages; do
		mkdir -p "$tmp/$side/$package"
		(cd "${!side}" && go test -c -o "$tmp/$side/$package/test" "./$package")
	done
done
for round in $(seq "$count"); do
	for package in $packages; do
		for side in old new; do
			echo "round $round of $count: $package, $side" >&2
			(cd "${!side}/$package" && "$tmp/$side/$package/test" -test.run '^$' -test.bench "${BENCH:-.}" \
				-test.benchtime "${TIME:-0.3s}" -test.benchmem) >>"$tmp/$side.txt"
		done
	done
done
go run "$benchstat" "old=$tmp/old.txt" "new=$tmp/new.txt"
