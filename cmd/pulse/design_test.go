package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDesignNamesItsTests holds docs/DESIGN.md against the code: every test that
// it names is there, and every row of a table of failures names one.
func TestDesignNamesItsTests(t *testing.T) {
	root := filepath.Join("..", "..")
	tests := testNames(t, root)
	text, err := os.ReadFile(filepath.Join(root, "docs", "DESIGN.md"))
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
	// Behaviour that is held by a case of a suite or a transcript instead.
	other := regexp.MustCompile(`^(suite "[a-z ]+"(, "[a-z ]+")*|goldens|golden \w+)$`)
	rows, column := 0, -1 // of a table's tests; -1 outside of such a table
	for i, line := range strings.Split(string(text), "\n") {
		for _, test := range name.FindAllString(line, -1) {
			if !tests[test] {
				t.Errorf("docs/DESIGN.md:%d names %s, which is nowhere", i+1, test)
			}
		}
		cells := strings.Split(strings.Trim(strings.ReplaceAll(line, `\|`, " "), "| "), "|")
		for k := range cells {
			cells[k] = strings.TrimSpace(cells[k])
		}
		switch {
		case !strings.HasPrefix(line, "|"):
			column = -1
		case cells[0] == "what breaks":
			if column = slices.Index(cells, "test"); column < 0 {
				t.Errorf("docs/DESIGN.md:%d: a table of failures without tests", i+1)
			}
		case column < 0 || strings.HasPrefix(cells[0], "-"):
		default:
			rows++
			if test := cells[len(cells)-1]; len(cells) != column+1 || !name.MatchString(test) && !other.MatchString(test) {
				t.Errorf("docs/DESIGN.md:%d: no test is named for: %s", i+1, cells[0])
			}
		}
	}
	if rows < 100 {
		t.Errorf("%d failures were found: is it still the same document?", rows)
	}
}

// testNames are the tests and fuzz targets of the module.
func testNames(t *testing.T, root string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, match := range function.FindAllSubmatch(code, -1) {
			names[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
