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

// aTest matches the name of a test or a fuzz target.
var aTest = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)

// TestDocsNameTheirTests compares the pages with the code: every test that a page names exists, and
// every row of a table of failures names a test.
func TestDocsNameTheirTests(t *testing.T) {
	tests := testNames(t)
	rows := 0
	for path, text := range pages(t) {
		for i, line := range strings.Split(text, "\n") {
			for _, test := range aTest.FindAllString(line, -1) {
				if !tests[test] {
					t.Errorf("%s:%d names %s, which does not exist", path, i+1, test)
				}
			}
		}
		rows += failureRows(t, path, text)
	}
	if rows < 250 {
		t.Errorf("docs/failures has %d rows: is a page gone?", rows)
	}
}

// failureRows checks that each row of the page's tables of failures names a test, and counts the
// rows.
func failureRows(t *testing.T, path, text string) (rows int) {
	t.Helper()
	// These cells name a case of a suite or a golden answer instead of a test.
	other := regexp.MustCompile(`^(suite "[a-z ]+"(, "[a-z ]+")*|goldens|golden \w+)$`)
	column := -1 // the column of the tests; -1 outside of a table of failures
	for i, line := range strings.Split(text, "\n") {
		cells := strings.Split(strings.Trim(strings.ReplaceAll(line, `\|`, " "), "| "), "|")
		for k := range cells {
			cells[k] = strings.TrimSpace(cells[k])
		}
		switch {
		case !strings.HasPrefix(line, "|"):
			column = -1
		case cells[0] == "what breaks":
			if column = slices.Index(cells, "test"); column < 0 {
				t.Errorf("%s:%d: a table of failures without tests", path, i+1)
			}
		case column < 0 || strings.HasPrefix(cells[0], "-"):
		default:
			rows++
			test := cells[len(cells)-1]
			if len(cells) != column+1 || !aTest.MatchString(test) && !other.MatchString(test) {
				t.Errorf("%s:%d: no test is named for: %s", path, i+1, cells[0])
			}
		}
	}
	return rows
}

// TestDocsLinksLeadSomewhere checks that each link of a page to a file of the repository leads to
// an existing file.
func TestDocsLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	for path, text := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			target := filepath.Join("..", "..", filepath.Dir(path), match[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which does not exist", path, match[1])
			}
		}
	}
}

// TestDocsNameMetrics checks that each metric that a page of failures names exists in the code. A
// page may leave out the prefix that the metrics of a room share.
func TestDocsNameMetrics(t *testing.T) {
	var code strings.Builder
	readTree(t, ".go", func(path string, text []byte) {
		if !strings.HasSuffix(path, "_test.go") {
			code.Write(text)
		}
	})
	metric := regexp.MustCompile(`\bpulse_[a-z_]*[a-z]\b`)
	checked := 0
	for path, text := range pages(t) {
		if !strings.HasPrefix(path, "docs/failures/") {
			continue
		}
		for _, name := range metric.FindAllString(text, -1) {
			checked++
			_, short, _ := strings.Cut(strings.TrimPrefix(name, "pulse_"), "_")
			_, shortest, _ := strings.Cut(short, "_")
			inCode := func(s string) bool { return s != "" && s != "total" && strings.Contains(code.String(), `"`+s+`"`) }
			if !inCode(name) && !inCode(short) && !inCode(shortest) {
				t.Errorf("%s names %s, which no code has", path, name)
			}
		}
	}
	if checked < 150 {
		t.Errorf("%d names of metrics were found: is the pattern still right?", checked)
	}
}

// pages returns the text of every Markdown file of the repository, by its path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	readTree(t, ".md", func(path string, text []byte) { found[path] = string(text) })
	return found
}

// testNames returns the names of the tests and fuzz targets of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	readTree(t, "_test.go", func(_ string, code []byte) {
		for _, match := range function.FindAllSubmatch(code, -1) {
			names[string(match[1])] = true
		}
	})
	return names
}

// readTree calls visit for each file of the repository whose name ends with suffix, with its path
// from the root and its text.
func readTree(t *testing.T, suffix string, visit func(path string, text []byte)) {
	t.Helper()
	root := os.DirFS(filepath.Join("..", ".."))
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules"):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, suffix):
			return nil
		}
		text, err := fs.ReadFile(root, path)
		if err == nil {
			visit(path, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
