package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A component is a part of a program, in CycloneDX' words.
type component struct {
	Type       string     `json:"type"`
	BOMRef     string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl"`
	Properties []property `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// sbom writes the list of what is in a program, in CycloneDX 1.5. The list of the modules comes
// from the binaries themselves, of all targets: what Go wrote into them is what is in them.
func (b *builder) sbom(p program, built []binary) error {
	parts := make(map[string]component)
	for _, bin := range built {
		info, err := buildinfo.ReadFile(bin.path)
		if err != nil {
			return err
		}
		golang := strings.TrimPrefix(strings.Fields(info.GoVersion)[0], "go")
		std := library("golang", "std", golang)
		parts[std.BOMRef] = std
		for _, m := range info.Deps {
			sum := m.Sum
			if m.Replace != nil {
				m = m.Replace
			}
			c := library("golang", m.Path, m.Version)
			c.Properties = []property{{"go:sum", sum}}
			parts[c.BOMRef] = c
		}
	}
	if p.name == "pulse" {
		if err := b.pageParts(parts); err != nil {
			return err
		}
	}
	main := library("golang", "github.com/nanopack/pulse", b.revision.release)
	main.Type, main.Name = "application", p.name
	if b.revision.commit != "" {
		main.Properties = []property{{"git:commit", b.revision.commit}}
	}
	components := make([]component, 0, len(parts))
	refs := slices.Sorted(maps.Keys(parts))
	for _, ref := range refs {
		components = append(components, parts[ref])
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
		"metadata":     map[string]any{"timestamp": b.revision.time.Format(time.RFC3339), "component": main},
		"components":   components,
		"dependencies": []map[string]any{{"ref": main.BOMRef, "dependsOn": refs}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.out, p.name+"_"+b.revision.fileVersion()+".cdx.json"), out.Bytes(), 0o644)
}

// pageParts adds what is bundled into the page, if the program has the page.
func (b *builder) pageParts(parts map[string]component) error {
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
		c := library("npm", name, version)
		parts[c.BOMRef] = c
	}
	return nil
}

func library(kind, name, version string) component {
	purl := fmt.Sprintf("pkg:%s/%s@%s", kind, name, strings.ReplaceAll(version, "+", "%2B"))
	return component{Type: "library", BOMRef: purl, Name: name, Version: version, PURL: purl}
}
