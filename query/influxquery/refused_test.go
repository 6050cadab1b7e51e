package influxquery_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/query/influxquery"
)

// refusedCorpus is everything in InfluxQL that writes, drops, grants, kills, or reads what is not
// Pulse's: a line each.
func refusedCorpus(t testing.TB) (lines []string) {
	t.Helper()
	text, err := os.ReadFile("testdata/refused.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// everything is what a store holds, as far as SHOW says.
func everything(t *testing.T, store influx.Store) string {
	t.Helper()
	var all strings.Builder
	for _, statement := range []string{"SHOW DATABASES", "SHOW USERS", "SHOW CONTINUOUS QUERIES", "SHOW SUBSCRIPTIONS", `SHOW RETENTION POLICIES ON "statistics"`,
		`SHOW MEASUREMENTS ON "statistics"`, `SHOW SERIES ON "statistics"`, `SELECT count(*) FROM "statistics"."one_day"./.*/`, `SELECT count(*) FROM "statistics"."one_week"./.*/`,
		`SELECT count(*) FROM "other"."autogen"./.*/`} {
		rows, err := store.Query(t.Context(), statement, nil)
		if err != nil && influx.KindOf(err) != influx.Schema {
			t.Fatal(statement, err)
		}
		for _, row := range rows {
			for _, values := range row.Values {
				for _, v := range values {
					all.WriteString(strings.TrimSpace(strings.Join([]string{row.Name, toText(v)}, " ")) + "\n")
				}
			}
		}
	}
	return all.String()
}

// Nothing of the corpus changes or shows anything, by any method, alone or behind a statement that
// is allowed, by parameters or as the default database. It is refused before the store is asked.
func TestRefused(t *testing.T) {
	server := testtools.StartInfluxd(t, testtools.InfluxDB18)
	outside, inside := openServer(t, server), openEmbedded(t, embedded.Options{})
	for name, store := range map[string]influx.Store{"embedded": inside, "external": outside} {
		t.Run(name, func(t *testing.T) {
			fill(t, store)
			for _, statement := range []string{`CREATE DATABASE "other"`, `CREATE RETENTION POLICY "theirs" ON "statistics" DURATION 0s REPLICATION 1`} {
				if _, err := store.Query(t.Context(), statement, nil); err != nil {
					t.Fatal(err)
				}
			}
			before := everything(t, store)
			watched := &counting{Store: store}
			address := serve(t, influxquery.Options{Store: watched})
			c := client(t)
			for _, line := range refusedCorpus(t) {
				for _, text := range []string{line, "SHOW DATABASES; " + line, line + "; SHOW DATABASES", "/* SELECT */ " + line + " -- SHOW", strings.ToLower(line)} {
					for _, method := range []string{"GET", "POST"} {
						query := url.Values{"db": {"statistics"}, "q": {text}}.Encode()
						got := ask(t, c, address, method, query, "")
						if method == "POST" {
							got = ask(t, c, address, method, "", query)
						}
						if got.status != http.StatusForbidden || !strings.HasPrefix(got.body, `{"error":"error authorizing query: `) {
							t.Errorf("%s %s: %d %s", method, text, got.status, got.body)
						}
					}
				}
			}
			for _, x := range [][]string{
				{"db=_internal", `q=SELECT * FROM "write"`},
				{"db=other", `q=SELECT * FROM "cpu"`},
				{"db=other", `q=SHOW MEASUREMENTS`},
				{"db=statistics", "rp=theirs", `q=SELECT * FROM "cpu"`},
				{"db=statistics", `q=SELECT * FROM $m`, `params={"m":{"identifier":"_series"}}`},
				{"db=other", `q=SELECT * FROM $m`, `params={"m":{"identifier":"cpu"}}`},
				{"db=statistics", `q=SELECT "cpu_used" INTO $m FROM "cpu_used"`, `params={"m":{"identifier":"copy"}}`},
			} {
				if got := ask(t, c, address, "GET", encode(x), ""); got.status != http.StatusForbidden {
					t.Errorf("%s: %d %s", x, got.status, got.body)
				}
			}
			if watched.reads != 0 {
				t.Errorf("the store was asked %d times", watched.reads)
			}
			if got := ask(t, c, address, "GET", encode([]string{"q=SHOW DATABASES"}), ""); got.body != `{"results":[{"statement_id":0,"series":[{"name":"databases","columns":["name"],"values":[["statistics"]]}]}]}`+"\n" {
				t.Errorf("databases: %s", got.body)
			}
			if after := everything(t, store); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// counting counts the Reads of a store.
type counting struct {
	influx.Store
	reads int
}

func (c *counting) Read(ctx context.Context, r influx.ReadRequest, visit func(influx.ReadResult) error) error {
	c.reads++
	return c.Store.Read(ctx, r, visit)
}

// Both stores would refuse what influxquery lets through by mistake.
func TestStoresRefuseToo(t *testing.T) {
	inside := openEmbedded(t, embedded.Options{})
	fill(t, inside)
	for _, line := range refusedCorpus(t) {
		statements := mustParse(t, line)
		if influx.CheckReads(statements) == nil {
			continue // it reads what is not Pulse's
		}
		err := inside.Read(t.Context(), influx.ReadRequest{Statements: statements, Database: "statistics", ChunkRows: 1}, nil)
		if !errors.Is(err, influx.ErrWrites) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
