package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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

// sbom writes the list of what is in a program, in CycloneDX 1.5.
func (b *builder) sbom(p program, parts []part) error {
	main := componentOf(part{kind: "golang", name: "github.com/nanopack/pulse", version: b.revision.release})
	main.Type, main.Name = "application", p.name
	if b.revision.commit != "" {
		main.Properties = []property{{"git:commit", b.revision.commit}}
	}
	var components []component
	var refs []string
	for _, part := range parts {
		c := componentOf(part)
		components, refs = append(components, c), append(refs, c.BOMRef)
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

func componentOf(p part) component {
	purl := fmt.Sprintf("pkg:%s/%s@%s", p.kind, p.name, strings.ReplaceAll(p.version, "+", "%2B"))
	c := component{Type: "library", BOMRef: purl, Name: p.name, Version: p.version, PURL: purl}
	if p.sum != "" {
		c.Properties = []property{{"go:sum", p.sum}}
	}
	return c
}
