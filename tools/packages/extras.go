package main

import (
	"path"
)

// extras returns what belongs to a program besides its binary and its unit.
func (b *builder) extras(p program) ([]extra, error) {
	doc := "/usr/share/doc/" + p.name
	file := func(name string) string { return path.Join(b.root, name) }
	return []extra{
		{source: file("LICENSE"), path: doc + "/copyright", name: "LICENSE"},
		{source: file("README.md"), path: doc + "/README.md", name: "README.md"},
		{source: file("CHANGELOG.md"), path: doc + "/CHANGELOG.md", name: "CHANGELOG.md"},
		{source: file("docs/OPERATIONS.md"), path: doc + "/OPERATIONS.md"},
	}, nil
}
