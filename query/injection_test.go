package query

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/influxdata/influxql"
)

// corpus is what people try, and what people merely have in their names: testdata/injection.txt, one Go string a line. The tests of
// cmd/pulse try it on a real server.
func corpus(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/injection.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		evil, err := strconv.Unquote(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		list = append(list, evil)
	}
	return list
}

// The corpus goes through every place of every route that takes a name or a value. Whatever is sent to
// InfluxDB is checked here a second time, by the rules below and not by those of statement.go.
func TestInjectionThroughEveryParameter(t *testing.T) {
	live := &fakeLive{}
	w := startWorld(t, func(o *Options) { o.Live = live })
	w.tokenGuesses.Limit = math.MaxInt
	w.control.cancel = func(string) error { return ErrNotFound }
	w.control.forget = func(string) error { return ErrNotFound }
	w.control.override = func(OverrideRequest) (Override, error) { return Override{}, ErrInvalid }
	w.control.flush = func([]string) (int, error) { return 0, nil }
	goldenAlerts(w.alerts, "")
	goldenReplays(w.replays, "")
	sent := 0
	for _, evil := range corpus(t) {
		q, path := url.QueryEscape(evil), url.PathEscape(evil)
		for _, kind := range []string{"latest", "hourly", "daily"} {
			for _, target := range []string{
				"/" + kind + "/" + path,
				"/" + kind + "/cpu?verb=" + q,
				"/" + kind + "/cpu?start=" + q,
				"/" + kind + "/cpu?stop=" + q,
				"/" + kind + "/cpu?backfill=" + q,
				"/" + kind + "/cpu?host=" + q,
				"/" + kind + "/cpu?host=a&host=" + q + "&service=" + q,
				"/" + kind + "/cpu?" + q + "=x",
				"/" + kind + "/cpu?" + q + "=" + q + "&" + q + "=x",
				"/" + kind + "/" + path + "?" + q + "=" + q,
				"/" + kind + "/cpu?X-AUTH-TOKEN=" + q,
				"/" + kind + "/cpu?" + q,
			} {
				a := w.get(t, target)
				if a.status >= 500 {
					t.Errorf("%s: %d %s", target, a.status, a.body)
				}
				for _, st := range w.influx.statements() {
					sent++
					checkSent(t, target, st)
				}
			}
		}
		for _, target := range []string{"/keys?", "/tags?", "/relays?", "/ping?", "/status?"} {
			if a := w.get(t, target+q+"="+q); a.status != 200 {
				t.Errorf("%s: %d %s", target, a.status, a.body)
			}
			for _, st := range w.influx.statements() {
				if st.text != showFields && st.text != showTags || len(st.params) > 0 {
					t.Errorf("%s sent %q", target, st.text)
				}
			}
		}
		for _, target := range []string{"/rejects?projection=" + q, "/rejects?" + q + "=" + q} {
			if a := w.get(t, target); a.status >= 500 {
				t.Errorf("%s: %d %s", target, a.status, a.body)
			}
		}
		if a := w.do(t, "DELETE", "/overrides/"+path, ""); a.status >= 500 {
			t.Errorf("DELETE %s: %d", path, a.status)
		}
		if a := w.do(t, "DELETE", "/relays/"+path, ""); a.status >= 500 {
			t.Errorf("DELETE relay %s: %d", path, a.status)
		}
		injectAlerts(t, w, evil)
		injectReplays(t, w, evil)
		injectLive(t, w, live, evil)
		injectOrders(t, w, evil)
	}
	if sent < 1000 {
		t.Fatalf("only %d statements were sent: the corpus does not reach them", sent)
	}
}

// injectReplays puts evil into every place of the replay routes: nothing of it is a range of time.
func injectReplays(t *testing.T, w *world, evil string) {
	t.Helper()
	path := url.PathEscape(evil)
	answers := []answer{w.get(t, "/replay/"+path), w.do(t, "DELETE", "/replay/"+path, ""), w.do(t, "POST", "/replay", evil)}
	for _, field := range []string{"from", "to", "dry_run", evil} {
		body, err := json.Marshal(map[string]any{"projection": "raw", "from": "6h", field: evil})
		if err != nil {
			t.Fatal(err)
		}
		if evil != "" || field == "dry_run" { // an empty to is none
			answers = append(answers, w.do(t, "POST", "/replay", string(body)))
		}
	}
	for _, a := range answers {
		if a.status < 400 || a.status >= 500 || !strings.HasPrefix(a.body, `{"error":"`) || !json.Valid([]byte(a.body)) {
			t.Errorf("%q: %d %s", evil, a.status, a.body)
		}
	}
}

// injectLive puts evil into every place of the live routes: what is subscribed to holds it as it is, or it is refused.
func injectLive(t *testing.T, w *world, live *fakeLive, evil string) {
	t.Helper()
	q, path := url.QueryEscape(evil), url.PathEscape(evil)
	asked := make(chan LiveRequest, 1)
	live.subscribe = func(r LiveRequest) (LiveStream, error) {
		asked <- r
		return &fakeStream{}, nil
	}
	resumed := LiveRequest{Resume: true, After: 1} // "1" is in the corpus
	for _, c := range []struct {
		target, header string
		want           LiveRequest
	}{
		{"/live/" + path, "", LiveRequest{Stat: evil}},
		{"/live/cpu?host=" + q + "&host=" + q + "x", "", LiveRequest{Stat: "cpu", Filters: map[string][]string{"host": {evil, evil + "x"}}}},
		{"/live?" + q + "=x", "", LiveRequest{Filters: map[string][]string{evil: {"x"}}}},
		{"/live?last-event-id=" + q, "", resumed},
		{"/live", evil, resumed},
		{"/live?ticket=" + q, "", LiveRequest{}},
	} {
		if strings.ContainsFunc(c.header, unicode.IsControl) || strings.TrimSpace(c.header) != c.header || c.header == "" && c.target == "/live" {
			continue // it would not arrive as it is
		}
		a := w.do(t, "GET", c.target, "", lastEventID+": "+c.header, "X-AUTH-TOKEN: "+testToken)
		select {
		case got := <-asked:
			if len(got.Filters) == 0 {
				got.Filters = nil
			}
			if a.status != 200 || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s %q: %d, subscribed to %+v", c.target, c.header, a.status, got)
			}
		default:
			if a.status != 400 || !strings.HasPrefix(a.body, `{"error":"`) {
				t.Errorf("%s %q: %d %s", c.target, c.header, a.status, a.body)
			}
		}
	}
	if st := w.influx.statements(); len(st) > 0 {
		t.Errorf("%q: a stream sent %q", evil, st)
	}
}

// injectOrders puts evil into every place of what relays are told to do.
func injectOrders(t *testing.T, w *world, evil string) {
	t.Helper()
	text, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range []string{
		"/overrides " + evil,
		"/overrides {\"duration\":" + string(text) + ",\"collectors\":{\"cpu\":5}}",
		"/overrides {\"duration\":60,\"collectors\":{" + string(text) + ":5}}",
		"/overrides {\"duration\":60,\"collectors\":{\"cpu\":" + string(text) + "}}",
		"/overrides {\"duration\":60,\"collectors\":{\"cpu\":5},\"relays\":[" + string(text) + "]}",
		"/overrides {" + string(text) + ":1}",
		"/flush " + evil,
		"/flush {\"relays\":[" + string(text) + "]}",
		"/flush {" + string(text) + ":1}",
	} {
		path, body, _ := strings.Cut(order, " ")
		if a := w.do(t, "POST", path, body); a.status >= 500 || !json.Valid([]byte(a.body)) {
			t.Errorf("%s: %d %s", order, a.status, a.body)
		}
	}
	if st := w.influx.statements(); len(st) > 0 {
		t.Errorf("%q: an order sent %q", evil, st)
	}
}

// injectAlerts puts evil into every place of the alert routes: into the path, each field of the body, and their names.
func injectAlerts(t *testing.T, w *world, evil string) {
	t.Helper()
	path := url.PathEscape(evil)
	answers := map[string]answer{"GET": w.get(t, "/alerts/"+path), "DELETE": w.do(t, "DELETE", "/alerts/"+path, ""),
		"GET ?": w.get(t, "/alerts?"+url.QueryEscape(evil)), "POST plain": w.do(t, "POST", "/alerts", evil)}
	for _, field := range []string{"id", "metric", "level", "operator", "threshold", "duration", "post", "every", "recover", "deadman",
		"tags", "tag", "key", "by", "keys", "name"} {
		alert := map[string]any{"id": "a1", "metric": "cpu", "threshold": 1, "post": "http://127.0.0.1/"}
		switch field {
		case "tag":
			alert["tags"] = map[string]string{"host": evil}
		case "key":
			alert["tags"] = map[string]string{evil: "a"}
		case "by", "keys":
			alert["by"] = []string{"host", evil}
			alert["tags"] = map[string]string{evil: evil}
			if field == "keys" { // it is a key that there is, so that its values are asked for
				keys, stats := w.latest.tagKeys, w.latest.stats
				defer func() { w.latest.tagKeys, w.latest.stats = keys, stats }()
				w.latest.tagKeys, w.latest.stats = []string{"host", evil}, []string{"cpu"}
			}
		case "name":
			alert[evil] = evil
		default:
			alert[field] = evil
		}
		body, err := json.Marshal(alert)
		if err != nil {
			t.Fatal(err)
		}
		answers["PUT "+field] = w.do(t, "PUT", "/alerts", string(body))
		answers["POST "+field] = w.do(t, "POST", "/alerts", string(body))
	}
	for where, a := range answers {
		if a.status >= 500 || !json.Valid([]byte(a.body)) {
			t.Errorf("%q as %s: %d %s", evil, where, a.status, a.body)
		}
	}
	said, err := json.Marshal(evil)
	if err == nil {
		err = json.Unmarshal(said, &evil) // as it arrives
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range w.influx.statements() {
		checkNamesSent(t, evil, st)
	}
}

// checkNamesSent checks that a statement asks for names: of the stats, the tags, or the values of a tag by one value that is bound.
func checkNamesSent(t *testing.T, evil string, st statement) {
	t.Helper()
	if (st.text == showFields || st.text == showTags) && len(st.params) == 0 {
		return
	}
	p := influxql.NewParser(strings.NewReader(st.text))
	p.SetParams(st.params)
	q, err := p.ParseQuery()
	if err != nil {
		t.Errorf("%q: %q does not parse: %v", evil, st.text, err)
		return
	}
	show, ok := q.Statements[0].(*influxql.ShowTagValuesStatement)
	if !ok || len(q.Statements) != 1 || show.Database != "statistics" || show.Sources.String() != `one_week.aggregate` {
		t.Errorf("%q sent %q", evil, st.text)
		return
	}
	key, isString := show.TagKeyExpr.(*influxql.StringLiteral)
	equal, isBinary := show.Condition.(*influxql.BinaryExpr)
	if !isString || show.Op != influxql.EQ || !isBinary || equal.Op != influxql.EQ {
		t.Errorf("%q sent %q", evil, st.text)
		return
	}
	ref, isRef := equal.LHS.(*influxql.VarRef)
	value, isValue := equal.RHS.(*influxql.StringLiteral)
	if !isRef || !isValue || ref.Val != key.Val || key.Val != "host" && key.Val != evil || value.Val != evil && value.Val != "a" {
		t.Errorf("%q sent %q", evil, st.text)
	}
}

// checkSent takes the statement apart as InfluxDB's parser does, and its text without what is quoted.
func checkSent(t *testing.T, target string, st statement) {
	t.Helper()
	p := influxql.NewParser(strings.NewReader(st.text))
	p.SetParams(st.params)
	q, err := p.ParseQuery()
	if err != nil {
		t.Errorf("%s: %q does not parse: %v", target, st.text, err)
		return
	}
	sel, ok := q.Statements[0].(*influxql.SelectStatement)
	if !ok || len(q.Statements) != 1 || sel.Target != nil {
		t.Errorf("%s sent %q", target, st.text)
		return
	}
	if src := sel.Sources.String(); src != `statistics.one_week.aggregate` {
		t.Errorf("%s reads %s", target, src)
	}
	for _, name := range influxql.Sources(sel.Sources).Measurements() {
		if name.Database != "statistics" {
			t.Errorf("%s reads %v", target, name)
		}
	}
	// Outside of quotes there are only our own words.
	bare := outsideQuotes(st.text)
	for _, word := range strings.FieldsFunc(bare, func(r rune) bool { return strings.ContainsRune(" (),=:.><$", r) }) {
		word = strings.Trim(strings.TrimPrefix(word, "p"), "0123456789")
		if !slices.Contains([]string{"", "SELECT", "AS", "FROM", "WHERE", "AND", "OR", "GROUP", "BY", "time", "fill", "none", "tag", "s",
			"mean", "min", "max", "sum", "count", "first", "last", "median", "mode", "spread", "stddev"}, word) {
			t.Errorf("%s: the word %q stands outside of quotes in %q", target, word, st.text)
		}
	}
	for name, v := range st.params {
		if !strings.HasPrefix(name, "p") || fmt.Sprintf("%T", v) != "string" {
			t.Errorf("%s: parameter %s is %T", target, name, v)
		}
	}
}

// outsideQuotes leaves out "identifiers", in which \ escapes.
func outsideQuotes(text string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case !quoted:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

// The text of statements, letter by letter.
func TestStatementText(t *testing.T) {
	sum := []call{{"sum", ":sum"}, {"sum", ":count"}}
	mean := []call{{"mean", ""}}
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
		st, err := aggregateStatement(c.stat, c.calls, c.filters, 1, 2, c.step, asIs)
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

// The second look refuses what the first should have prevented.
func TestStatementCheck(t *testing.T) {
	calls := []call{{"mean", ""}}
	fs := filters{{key: "host", values: []string{"a"}}}
	good, err := aggregateStatement("cpu", calls, fs, 1, 2, time.Hour, asIs)
	if err != nil {
		t.Fatal(err)
	}
	if err := good.check([]string{"cpu"}, calls, fs); err != nil {
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
		if err := (statement{text, good.params}).check([]string{"cpu"}, calls, fs); err == nil {
			t.Errorf("%q passed", text)
		}
	}
}

// Whatever the query string, reading it does not panic, and what comes out of it is one statement that
// means what was asked.
func FuzzParameters(f *testing.F) {
	for _, evil := range corpus(f) {
		f.Add(evil, "host="+url.QueryEscape(evil)+"&verb=max&start=3h", true)
		f.Add("cpu", url.QueryEscape(evil)+"=1&"+url.QueryEscape(evil)+"=2&backfill="+url.QueryEscape(evil), false)
	}
	f.Add("cpu", "start=1d12h&stop=90m&verb=stddev&a=&a=&b", true)
	f.Add("cpu", "start=999999999999w", true)
	f.Add("cpu", "a;b&%zz&=x", false)
	f.Fuzz(func(t *testing.T, name, rawQuery string, daily bool) {
		if checkName("the stat", name) != nil {
			return
		}
		history := hoursDefault
		if daily {
			history = daysDefault
		}
		if _, err := parseSelection(rawQuery, 0, testNow, time.UTC); err != nil && err.Error() == "" {
			t.Fatal("an error without a text")
		}
		sel, err := parseSelection(rawQuery, history, testNow, time.UTC)
		if err != nil {
			return
		}
		if sel.stop < 0 || sel.start <= sel.stop || sel.start > maxBack || !finite(sel.fillValue) {
			t.Fatalf("%q: start %s stop %s fill %v", rawQuery, sel.start, sel.stop, sel.fillValue)
		}
		if _, err := parseVerb(string(sel.verb), false); err != nil {
			t.Fatalf("%q: verb %q", rawQuery, sel.verb)
		}
		for _, p := range []plan{exactPlan(sel.verb), meansPlan(sel.verb)} {
			st, err := aggregateStatement(name, p.calls, sel.filters, 1, 2, time.Hour, asIs)
			if err != nil {
				t.Fatalf("%q %q: %v", name, rawQuery, err)
			}
			checkSent(t, rawQuery, st)
		}
	})
}

// Durations never overflow and never exceed the bound; what is accepted is what it says.
func FuzzDuration(f *testing.F) {
	for _, s := range []string{"1d", "90m", "1h30m", "5u", "5µ", "10ms", "2w", "", "0", "-1h", "1", "d", "1.5h", "9999999999999999999h", "3660d", "3660d1u", "1h 2m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDuration(s)
		if err != nil {
			return
		}
		if d < 0 || d > maxBack {
			t.Fatalf("%q is %s", s, d)
		}
		if again, err := influxql.ParseDuration(s); err != nil || again != d {
			t.Fatalf("%q is %s here and %s (%v) to InfluxQL", s, d, again, err)
		}
	})
}
