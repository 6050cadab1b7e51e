package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/nanopack/pulse/"

// TestImportDirection checks the arrows of docs/architecture.md: data flows in one direction
// through the rooms.
func TestImportDirection(t *testing.T) {
	mayImport := map[string][]string{
		"relaywire":  {},
		"journal":    {},
		"migrations": {},
		"ingest":     {"relaywire", "journal"},
		"projector":  {"journal"},
		"kapa":       {"journal"},
		"query":      {"journal", "ingest", "kapa", "projector"}, // values only: TestQueryNamesValuesOnly
		"cmd":        {"relaywire", "journal", "migrations", "ingest", "projector", "kapa", "query"},
	}
	// Packages of internal/ are shared, except those that only tests and the bench use. relaywire
	// is embedded in other programs, so it imports nothing of Pulse.
	forTests := []string{module + "internal/bench", module + "internal/pulseproc", module + "internal/testtools"}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		packages := strings.Fields(line)
		from := room(packages[0])
		allowed, known := mayImport[from]
		if from == "internal" || from == "" {
			continue // tools for tests and the bench
		}
		if !known {
			t.Errorf("%s is a room that docs/architecture.md does not have", packages[0])
			continue
		}
		seen[from] = true
		for _, imported := range packages[1:] {
			to := room(imported)
			if to == "" || to == from || slices.Contains(allowed, to) || strings.HasSuffix(packages[0], "test") && to == "internal" {
				continue
			}
			if from != "relaywire" && to == "internal" && !slices.Contains(forTests, imported) {
				continue
			}
			t.Errorf("%s imports %s: %s may import only %v", packages[0], imported, from, allowed)
		}
	}
	for _, r := range []string{"relaywire", "journal", "migrations", "ingest", "projector", "kapa", "query", "cmd"} {
		if !seen[r] {
			t.Errorf("no package of the room %s was seen", r)
		}
	}
}

// TestQueryNamesValuesOnly keeps reads from becoming writes. query may import a room only to name
// the values that the API shows and the errors that choose a status. It may not use a function of
// the room, or a type with behaviour. query reads and changes things only through the interfaces of
// query/sources.go.
func TestQueryNamesValuesOnly(t *testing.T) {
	values := map[string][]string{
		"ingest":           {"Relay", "Override", "OverrideRequest", "Error", "ErrConnected", "ErrInvalid", "ErrNotConnected", "ErrNotFound", "ErrTooMany"},
		"journal":          {"State", "Losses", "Reach"},
		"journal/link":     {"Begun", "Edge", "ErrDown", "ErrNoEdge", "Gap", "KindInvalid", "KindNotFound", "Refused", "StateConnected", "StateNever", "StateOff", "StateRefused", "StateSilent", "UnknownEdge", "UplinkStatus"},
		"journal/outside":  {"Consumer", "ErrNoConsumer"},
		"projector":        {"Gap", "Reject", "Status"},
		"projector/influx": {"Error", "Invalid", "ReadRequest", "ReadResult", "Tag", "TimeRange", "WindowRow"},
		"projector/latest": {"Reading", "Tag"},
		"projector/past":   {"ErrInvalid", "ErrNotFound", "ErrTooMany", "Job", "Request"},
	}
	var files []string
	for _, folder := range []string{"query", "query/influxquery"} {
		in, err := filepath.Glob("../../" + folder + "/*.go")
		if err != nil || len(in) == 0 {
			t.Fatal(in, err)
		}
		files = append(files, in...)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		may := map[string][]string{} // by the package's name in the file
		for _, i := range parsed.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			rest, ours := strings.CutPrefix(imported, module)
			if !ours || strings.HasPrefix(rest, "internal/") || strings.HasPrefix(rest, "query/") || rest == "kapa" { // it decodes alerts
				continue
			}
			if values[rest] == nil || i.Name != nil {
				t.Errorf("%s imports %s", file, imported)
			}
			may[path.Base(rest)] = values[rest]
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && may[x.Name] != nil && !slices.Contains(may[x.Name], s.Sel.Name) {
					t.Errorf("%s names %s.%s: query may name only %v of it", file, x.Name, s.Sel.Name, may[x.Name])
				}
			}
			return true
		})
	}
}

// TestRelayLibraryIsSmall checks that the library that other programs embed needs only the standard
// library.
func TestRelayLibraryIsSmall(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}{{end}}`, module+"relaywire/relay").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if !strings.HasPrefix(dep, module+"relaywire") {
			t.Errorf("relaywire/relay depends on %s", dep)
		}
	}
}

// TestAgentIsSmall checks that the agent has nothing of the server: no room, and none of the
// libraries that make the server large. Stripped, it has at most 8 MB.
func TestAgentIsSmall(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}{{end}}`, module+"cmd/pulse-relay").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"golang.org/x/sys/", "github.com/coreos/go-systemd/v22/daemon", "github.com/peterbourgon/ff/v3", "github.com/shirou/gopsutil/v4/", "github.com/tklauser/"}
	for _, dep := range strings.Fields(string(out)) {
		from := room(dep)
		ours := from == "relaywire" || from == "internal" || dep == module+"cmd/pulse-relay"
		if !ours && !slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(dep, prefix) }) {
			t.Errorf("cmd/pulse-relay depends on %s", dep)
		}
	}
	binary := filepath.Join(t.TempDir(), "pulse-relay")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, module+"cmd/pulse-relay")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := os.Stat(binary)
	if err != nil || info.Size() > 8e6 {
		t.Errorf("it has %d bytes, want at most 8 MB: %v", info.Size(), err)
	}
}

// room returns the top-level folder of a package of Pulse, and "" for other packages.
func room(importPath string) string {
	rest, ours := strings.CutPrefix(importPath, module)
	if !ours {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}
