package kapa

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testLog(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// openDB opens a state file with the buckets that migrations create.
func openDB(tb testing.TB, path string) *bbolt.DB {
	tb.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() }) // a test may have closed it
	if err := db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists([]byte(rootBucket))
		return err
	}); err != nil {
		tb.Fatal(err)
	}
	return db
}

func newDB(tb testing.TB) *bbolt.DB {
	tb.Helper()
	return openDB(tb, filepath.Join(tb.TempDir(), "pulse.db"))
}

// eventually polls until ok, or fails the test.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("not within two minutes: %s", what)
		}
		time.Sleep(5 * time.Millisecond) // polling, with a deadline
	}
}

// sampleAlert is an alert with only the required fields.
func sampleAlert() Alert {
	return Alert{Metric: "cpu_used", Threshold: 80, Post: "http://127.0.0.1:1/alert"}
}

// sendable returns the hostile names in the form in which a relay can send them for a stat: without
// the characters that the protocol reserves.
func sendable() []string {
	var names []string
	for _, name := range hostile() {
		name = strings.Trim(strings.NewReplacer("-", "", ":", "", ",", "").Replace(name), " ")
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// hostile returns names and values that have a meaning to some program on their way.
func hostile() []string {
	return []string{
		`it's`, `say "hi"`, `back\slash`, `ends\`, `'; DROP DATABASE statistics; --`, `" OR 1=1 --`, `x" FROM "y`, `{{ .Level }}`, `}}{{ panic }}`,
		`'''`, `''') |alert()`, "`tick`", `$name`, `/.*/`, `*`, `a.b.c`, `a,b=c d`, `ünï€ø`, `日本`, `<script>&amp;`, `%2e%2e/`, `../../x`, `select`, `time`, `\n`, `\'`, `\"`,
		`value`, `mean`, `"value"`, `a b`, ` lead`, `trail `, `#x`, `-`, `=`, `;`, `(`, `lambda: TRUE`,
	}
}
