package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licenseFile matches the names of files that a license wants to go along with a program.
var licenseFile = regexp.MustCompile(`(?i)^(licen[sc]e|copying|notice|patents)([.-].*)?$`)

// A part is a module, a package of npm or Go itself, which a program contains.
type part struct {
	kind          string // golang or npm, as in the address of a package
	name, version string
	sum           string // of go.sum
	dir           string // its source, with its licenses
}

// parts returns what a program contains, for all of its binaries, sorted by kind and name. The
// modules are those that Go wrote into the binaries.
func (b *builder) parts(p program, built []binary) ([]part, error) {
	listed, err := output(b.root, "go", "list", "-m", "-f", "{{.Path}}\t{{.Dir}}", "all")
	if err != nil {
		return nil, err
	}
	dirs := make(map[string]string)
	for line := range strings.Lines(listed) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		dirs[path] = dir
	}
	found := make(map[string]part)
	for _, bin := range built {
		info, err := buildinfo.ReadFile(bin.path)
		if err != nil {
			return nil, err
		}
		goroot, err := output(b.root, "go", "env", "GOROOT")
		if err != nil {
			return nil, err
		}
		version := strings.TrimPrefix(strings.Fields(info.GoVersion)[0], "go")
		found["golang std"] = part{kind: "golang", name: "std", version: version, dir: goroot}
		for _, m := range info.Deps {
			found["golang "+m.Path] = part{"golang", m.Path, m.Version, m.Sum, dirs[m.Path]}
		}
	}
	if p.name == "pulse" {
		if err := b.pageParts(found); err != nil {
			return nil, err
		}
	}
	var sorted []part
	for _, key := range slices.Sorted(maps.Keys(found)) {
		sorted = append(sorted, found[key])
	}
	return sorted, nil
}

// pageParts adds what is bundled into the page, if the program has the page.
func (b *builder) pageParts(found map[string]part) error {
	console := filepath.Join(b.root, "query/console")
	if _, err := os.Stat(filepath.Join(console, "dist/index.html.gz")); os.IsNotExist(err) {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(console, "package.json"))
	if err != nil {
		return err
	}
	var page struct{ Dependencies map[string]string }
	if err := json.Unmarshal(text, &page); err != nil {
		return fmt.Errorf("package.json of the page: %w", err)
	}
	for name, version := range page.Dependencies {
		found["npm "+name] = part{kind: "npm", name: name, version: version, dir: filepath.Join(console, "node_modules", name)}
	}
	return nil
}

// licenses returns the texts of the licenses of all parts, which most of them want to be passed on.
func licenses(parts []part) ([]byte, error) {
	var out bytes.Buffer
	for _, p := range parts {
		entries, err := os.ReadDir(p.dir)
		if err != nil {
			return nil, err
		}
		has := false
		for _, e := range entries {
			if e.IsDir() || !licenseFile.MatchString(e.Name()) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(p.dir, e.Name()))
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&out, "==== %s %s: %s\n\n%s\n\n", p.name, p.version, e.Name(), bytes.TrimSpace(text))
			has = true
		}
		if !has {
			fmt.Fprintf(&out, "==== %s %s: has no file with a license\n\n", p.name, p.version)
		}
	}
	return out.Bytes(), nil
}
