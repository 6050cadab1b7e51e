package influxquery

import (
	"strings"
	"testing"
	"time"

	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/projector/influx"
)

// What is allowed has a text that is allowed too, means the same, and never has an INTO among its
// words.
func FuzzAllowed(f *testing.F) {
	for _, text := range []string{
		`SELECT mean("cpu") FROM "cpu" WHERE time > now() - 1h AND "cpu" > 0.00012 GROUP BY time(10m), "host" fill(1.5) ORDER BY time DESC LIMIT 3 tz('Europe/Berlin')`,
		`SELECT * FROM (SELECT max("a") FROM /x.*\/y/ GROUP BY *), "one_week"."aggregate" SLIMIT 1 SOFFSET 2`,
		`SHOW MEASUREMENTS WITH MEASUREMENT =~ /a/ WHERE "into" = 'INTO' LIMIT 1`, `SHOW TAG VALUES FROM "a" WITH KEY IN ("x", "y") WHERE a < 1.0e5`,
		`SHOW SERIES EXACT CARDINALITY ON statistics FROM "into"; SHOW DATABASES`, `SELECT "into" FROM "INTO" WHERE "x" =~ /into/`,
		`SELECT a INTO b FROM c`, `DROP DATABASE "statistics"`, `SHOW FIELD KEYS FROM statistics.one_day.cpu`, `SELECT -1.5 * -a FROM b WHERE c = -0.25 OR d = 7ns`,
		`SHOW RETENTION POLICIES ON "statistics"; SHOW TAG KEYS WHERE time > '2026-11-28'`, `SELECT percentile(a, 99.9), top(b, host, 3) FROM x fill(-0.5)`,
	} {
		f.Add(text, "", "")
	}
	f.Fuzz(func(t *testing.T, text, database, policy string) {
		if boundText(text) != nil {
			return
		}
		q, err := influxql.ParseQuery(text)
		if err != nil || allow(q.Statements, database, policy) != nil || boundStatements(q.Statements, time.Now()) != nil {
			return
		}
		if err := influx.CheckReads(q.Statements); err != nil {
			t.Fatalf("%q is allowed: %v", text, err)
		}
		again, params, err := influx.Render(q.Statements)
		if err != nil {
			return // it is not passed on
		}
		p := influxql.NewParser(strings.NewReader(again))
		p.SetParams(params)
		q2, err := p.ParseQuery()
		if err != nil {
			t.Fatalf("%q becomes %q: %v", text, again, err)
		}
		if err := allow(q2.Statements, database, policy); err != nil {
			t.Fatalf("%q becomes %q: %v", text, again, err)
		}
		for s := influxql.NewScanner(strings.NewReader(again)); ; {
			token, _, _ := s.Scan()
			if token == influxql.EOF {
				break
			}
			if token == influxql.INTO && !strings.Contains(again, "/") { // a regex is not scanned as one here
				t.Fatalf("%q becomes %q, with INTO", text, again)
			}
		}
	})
}
