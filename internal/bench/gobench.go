package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// benchmarks are the Go benchmarks of a package, which measure what the package costs by itself.
// best is the best figure of all rounds, by the benchmark's name and the unit, because disturbances
// only ever make a measurement worse.
type benchmarks struct {
	pkg, dir, binary string
	best             map[string]float64
	missing          []string // the figures that were asked for and do not exist
}

// benchmarks builds the benchmarks of a package, which is named by its folder.
func (b *bench) benchmarks(ctx context.Context, pkg string) (*benchmarks, error) {
	path := "github.com/nanopack/pulse/" + pkg
	dir, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w", pkg, err)
	}
	f := &benchmarks{pkg: pkg, dir: strings.TrimSpace(string(dir)), best: make(map[string]float64)}
	f.binary = filepath.Join(b.dir, strings.ReplaceAll(pkg, "/", "-")+".test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", f.binary, path)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("building the benchmarks of %s: %w", pkg, err)
	}
	return f, nil
}

// run runs the benchmarks that match the pattern one after the other, in the given number of
// rounds. lasts is the length of each run (-benchtime). Rounds spread a slow minute of the machine
// over all benchmarks.
func (f *benchmarks) run(ctx context.Context, rounds int, pattern, lasts string) error {
	for range rounds {
		run := exec.CommandContext(ctx, f.binary, "-test.run=^$", "-test.bench="+pattern, "-test.benchtime="+lasts, "-test.benchmem")
		run.Dir = f.dir
		out, err := run.CombinedOutput()
		if err != nil {
			return fmt.Errorf("the benchmarks %s of %s: %w\n%s", pattern, f.pkg, err, out)
		}
		f.add(string(out))
	}
	return nil
}

// add reads the output of a round: lines of a name, the number of iterations, and pairs of a figure
// and its unit. Higher is better for a unit that ends with /s, lower for all others.
func (f *benchmarks) add(out string) {
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := fields[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 { // GOMAXPROCS
			name = name[:i]
		}
		for i := 2; i+1 < len(fields); i += 2 {
			v, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				continue
			}
			key := name + " " + fields[i+1]
			old, known := f.best[key]
			if !known || v > old == strings.HasSuffix(fields[i+1], "/s") {
				f.best[key] = v
			}
		}
	}
}

// of returns a figure. If the figure does not exist, err returns an error later.
func (f *benchmarks) of(name, unit string) float64 {
	v, ok := f.best[name+" "+unit]
	if !ok {
		f.missing = append(f.missing, name+" "+unit)
	}
	return v
}

// err returns an error if of was asked for a figure that does not exist.
func (f *benchmarks) err() error {
	if len(f.missing) > 0 {
		return fmt.Errorf("no benchmark has printed %s", strings.Join(f.missing, ", "))
	}
	return nil
}
