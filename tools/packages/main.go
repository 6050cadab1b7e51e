// Command packages builds everything of a release: deb, rpm, a container image, archives, a list of
// what is inside (SBOM) and checksums. `make packages` runs it.
//
// The same commit, built with the same Go, gives the same bytes on every machine: nothing of the
// machine, its clock or its directories goes into a file. TestReproducible holds that.
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

func main() {
	root := flag.String("root", "../..", "The repository")
	out := flag.String("out", "../../bin/packages", "Directory to write to; what is in it is removed")
	host := flag.Bool("host", false, "Build only for the processor of this machine, and only what runs on Linux")
	flag.Parse()
	r, err := revisionOf(*root)
	if err == nil {
		err = run(r, *root, *out, *host)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
}

// run builds everything of a revision, or with host only what this machine can run, into the
// directory out.
func run(r revision, root, out string, host bool) error {
	work, err := os.MkdirTemp("", "pulse-packages")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	b := &builder{root: root, work: work, out: out, revision: r}
	for _, p := range programs() {
		if host {
			p.targets = []target{{"linux", runtime.GOARCH}}
		}
		if err := b.program(p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return writeSums(out)
}

// A builder makes the packages of one revision.
type builder struct {
	root, work, out string
	revision        revision
}

// program builds a program for each of its targets, and packs it.
func (b *builder) program(p program) error {
	var built []binary
	for _, t := range p.targets {
		bin, err := b.build(p, t)
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		built = append(built, bin)
	}
	parts, err := b.parts(p, built)
	if err != nil {
		return err
	}
	extras, err := b.extras(p, parts, built)
	if err != nil {
		return err
	}
	for _, bin := range built {
		if err := b.archive(p, bin, extras); err != nil {
			return fmt.Errorf("archive of %s: %w", bin.target, err)
		}
		if bin.os != "linux" {
			continue
		}
		if err := b.linuxPackages(p, bin, extras); err != nil {
			return fmt.Errorf("packages of %s: %w", bin.target, err)
		}
	}
	if p.image {
		linux := slices.DeleteFunc(slices.Clone(built), func(b binary) bool { return b.os != "linux" })
		if err := b.image(p, linux, extras); err != nil {
			return fmt.Errorf("image: %w", err)
		}
	}
	return b.sbom(p, parts)
}

// writeSums writes SHA256SUMS, as sha256sum -c reads it.
func writeSums(dir string) error {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), e.Name())
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
