package main

import (
	"os"
	"path/filepath"
)

// extras returns what belongs to a program besides its binary and its unit.
func (b *builder) extras(p program, parts []part) ([]extra, error) {
	dir := filepath.Join(b.work, p.name+".extras")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	others := filepath.Join(dir, "licenses")
	text, err := licenses(parts)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(others, text, 0o644); err != nil {
		return nil, err
	}
	doc := "/usr/share/doc/" + p.name + "/"
	file := func(name string) string { return filepath.Join(b.root, name) }
	return []extra{
		{source: file("LICENSE"), path: doc + "copyright", name: "LICENSE", license: true},
		{source: others, path: doc + "THIRD-PARTY-LICENSES", name: "THIRD-PARTY-LICENSES", license: true},
		{source: file("README.md"), path: doc + "README.md", name: "README.md"},
		{source: file("CHANGELOG.md"), path: doc + "CHANGELOG.md", name: "CHANGELOG.md"},
		{source: file("docs/OPERATIONS.md"), path: doc + "OPERATIONS.md"},
	}, nil
}
