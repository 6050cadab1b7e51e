package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocsConfigsAreValid checks each configuration that docs/FROM.md shows, as a file of the agent
// or of the server.
func TestDocsConfigsAreValid(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "FROM.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) < 4 {
		t.Errorf("only %d configurations were found", len(blocks))
	}
	for _, block := range blocks {
		file := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(file, block[1], 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"relay", "--check-config", "--config-file", file}
		if strings.Contains(string(block[1]), `"server": true`) {
			args = args[1:]
		}
		check := exec.Command(os.Args[0], args...)
		check.Dir, check.Env = t.TempDir(), append(os.Environ(), runAsPulse+"=1")
		if said, err := check.CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, said, block[1])
		}
	}
}
