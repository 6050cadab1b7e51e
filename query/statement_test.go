package query

import (
	"maps"
	"strings"
	"testing"
	"time"
)

// The text of statements is compared exactly.
func TestStatementText(t *testing.T) {
	sum := []call{{fn: "sum", suffix: ":sum"}, {fn: "sum", suffix: ":count"}}
	mean := []call{{fn: "mean"}}
	const from = ` FROM "statistics"."one_week"."aggregate" WHERE time >= 1 AND time < 2`
	for _, c := range []struct {
		stat    string
		calls   []call
		filters filters
		step    time.Duration
		text    string
		params  map[string]any
	}{
		{"cpu", sum, nil, time.Hour, `SELECT sum("cpu:sum") AS "c0", sum("cpu:count") AS "c1"` + from + ` GROUP BY time(3600s) fill(none)`, nil},
		{"select", mean, nil, time.Minute, `SELECT mean("select") AS "c0"` + from + ` GROUP BY time(60s) fill(none)`, nil},
		{`it's`, mean, nil, time.Minute, `SELECT mean("it's") AS "c0"` + from + ` GROUP BY time(60s) fill(none)`, nil},
		{`a"b\`, mean, nil, time.Minute, `SELECT mean("a\"b\\") AS "c0"` + from + ` GROUP BY time(60s) fill(none)`, nil},
		{`x") FROM y; DROP DATABASE z; --`, mean, nil, time.Minute,
			`SELECT mean("x\") FROM y; DROP DATABASE z; --") AS "c0"` + from + ` GROUP BY time(60s) fill(none)`, nil},
		{"cpu", mean, filters{{key: "host", values: []string{`a' OR '1'='1`}}}, time.Minute,
			`SELECT mean("cpu") AS "c0"` + from + ` AND ("host"::tag = $p0) GROUP BY time(60s) fill(none)`,
			map[string]any{"p0": `a' OR '1'='1`}},
		{"cpu", mean, filters{{key: `h" = 'x' OR "y`, values: []string{"1", "$p0"}}, {key: "z", values: []string{""}}}, time.Minute,
			`SELECT mean("cpu") AS "c0"` + from + ` AND ("h\" = 'x' OR \"y"::tag = $p0 OR "h\" = 'x' OR \"y"::tag = $p1)` +
				` AND ("z"::tag = $p2) GROUP BY time(60s) fill(none)`,
			map[string]any{"p0": "1", "p1": "$p0", "p2": ""}},
	} {
		st, err := asked(c.stat, c.filters, c.step).statement(c.calls)
		if err != nil {
			t.Errorf("%q: %v", c.stat, err)
			continue
		}
		if st.text != c.text || !maps.Equal(st.params, c.params) {
			t.Errorf("%q\ngot  %s %v\nwant %s %v", c.stat, st.text, st.params, c.text, c.params)
		}
	}
}

func asIs(s string) string { return s }

// asked is a question about the time from 1 to 2, with names as they are.
func asked(stat string, fs filters, step time.Duration) question {
	return question{stat: stat, filters: fs, from: 1, to: 2, step: step, stored: asIs, measurement: asIs}
}

// The check of a finished statement refuses mistakes that the builder should have prevented.
func TestStatementCheck(t *testing.T) {
	calls := []call{{fn: "mean"}}
	fs := filters{{key: "host", values: []string{"a"}}}
	q := asked("cpu", fs, time.Hour)
	good, err := q.statement(calls)
	if err != nil {
		t.Fatal(err)
	}
	if err := good.check(q, []string{"cpu"}, calls); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`SELECT`, `DROP DATABASE statistics; SELECT`},
		{`fill(none)`, `fill(none); DROP DATABASE statistics`},
		{`mean("cpu") AS "c0"`, `mean("cpu") AS "c0" INTO "x"`},
		{`mean("cpu")`, `max("cpu")`},
		{`mean("cpu")`, `mean("ram")`},
		{`mean("cpu")`, `"cpu"`},
		{`mean("cpu")`, `mean("cpu"), *`},
		{`mean("cpu")`, `percentile("cpu", 5)`},
		{`"statistics"."one_week"."aggregate"`, `"_internal"."monitor"."httpd"`},
		{`"statistics"."one_week"."aggregate"`, `"statistics"."one_week"./.*/`},
		{`"aggregate"`, `"aggregate", "cpu"`},
		{`"statistics"."one_week"."aggregate"`, `(SELECT * FROM "statistics"."one_week"."aggregate")`},
		{`time < 2`, `time < 2 OR "x"::tag = 'y'`},
		{`"host"::tag = $p0`, `"host"::tag = $p0 OR "host"::tag = 'b'`},
		{`"host"::tag = $p0`, `"host"::tag != $p0`},
		{`"host"::tag = $p0`, `"host" =~ /.*/`},
		{`"host"::tag`, `"host"`},
		{`"host"::tag`, `"hose"::tag`},
		{`$p0`, `$p9`},
		{`time >= 1 AND `, ``},
		{`time >= 1`, `time >= now()`},
		{`time >= 1`, `time > 1`},
		{`GROUP BY`, `GROUP BI`},
	} {
		text := strings.Replace(good.text, change[0], change[1], 1)
		if text == good.text {
			t.Fatalf("%q changes nothing", change)
		}
		if err := (statement{text, good.params}).check(q, []string{"cpu"}, calls); err == nil {
			t.Errorf("%q passed", text)
		}
	}
}
