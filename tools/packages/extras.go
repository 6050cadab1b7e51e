package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
)

// extras returns what belongs to a program besides its binary and its unit: licenses, documents, the
// manual page and completion for the shells.
func (b *builder) extras(p program, parts []part, built []binary) ([]extra, error) {
	dir := filepath.Join(b.work, p.name+".extras")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	doc := "/usr/share/doc/" + p.name + "/"
	file := func(name string) string { return filepath.Join(b.root, name) }
	all := []extra{
		{source: file("LICENSE"), path: doc + "copyright", name: "LICENSE", license: true},
		{source: file("README.md"), path: doc + "README.md", name: "README.md"},
		{source: file("CHANGELOG.md"), path: doc + "CHANGELOG.md", name: "CHANGELOG.md"},
		{source: file("docs/OPERATIONS.md"), path: doc + "OPERATIONS.md"},
		{source: file("docs/packages.md"), path: doc + "packages.md"},
	}
	add := func(text []byte, err error, e extra) error {
		if err != nil {
			return err
		}
		e.source = filepath.Join(dir, fmt.Sprint(len(all)))
		all = append(all, e)
		return os.WriteFile(e.source, text, 0o644)
	}
	text, err := licenses(parts)
	if err := add(text, err, extra{path: doc + "THIRD-PARTY-LICENSES", name: "THIRD-PARTY-LICENSES", license: true}); err != nil {
		return nil, err
	}
	here, err := b.forHere(p, built)
	if err != nil {
		return nil, err
	}
	text, err = says(here, "man")
	if err := add(text, err, extra{name: p.name + ".1"}); err != nil {
		return nil, err
	}
	if text, err = compress(text); err != nil {
		return nil, err
	}
	if err := add(text, nil, extra{path: "/usr/share/man/man1/" + p.name + ".1.gz"}); err != nil {
		return nil, err
	}
	for shell, paths := range map[string][]extra{
		"bash": {{path: "/usr/share/bash-completion/completions/" + p.name, name: "completion/" + p.name + ".bash"}},
		"zsh": {{path: "/usr/share/zsh/vendor-completions/_" + p.name, name: "completion/_" + p.name, format: "deb"},
			{path: "/usr/share/zsh/site-functions/_" + p.name, format: "rpm"}},
		"fish": {{path: "/usr/share/fish/vendor_completions.d/" + p.name + ".fish", name: "completion/" + p.name + ".fish"}},
	} {
		text, err := says(here, "completion", shell)
		for _, e := range paths {
			if err := add(text, err, e); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(all, func(a, b extra) int { return bytes.Compare([]byte(a.path+a.name), []byte(b.path+b.name)) })
	return all, nil
}

// forHere returns a binary that runs on this machine.
func (b *builder) forHere(p program, built []binary) (binary, error) {
	here := target{runtime.GOOS, runtime.GOARCH}
	if i := slices.IndexFunc(built, func(b binary) bool { return b.target == here }); i >= 0 {
		return built[i], nil
	}
	return b.build(p, here)
}

// says returns what a program prints, in an environment without settings.
func says(bin binary, args ...string) ([]byte, error) {
	cmd := exec.Command(bin.path, args...)
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"}
	cmd.Dir = filepath.Dir(bin.path)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", filepath.Base(bin.path), args, err)
	}
	return out, nil
}

// compress returns a text as gzip does it, without a time.
func compress(text []byte) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(text); err != nil {
		return nil, err
	}
	err = z.Close()
	return out.Bytes(), err
}
