package query

import (
	"encoding/json"
	"fmt"
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

	"github.com/nanopack/pulse/ingest"
)

// corpus returns texts that attackers try, and texts that are merely unusual names, from
// testdata/injection.txt: one Go string a line. The tests of cmd/pulse try them on a real server.
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

// The corpus goes into every place of every route that takes a name or a value. Whatever is sent to
// InfluxDB is checked here a second time, by the rules below and not by those of statement.go.
func TestInjectionThroughEveryParameter(t *testing.T) {
	live := &fakeLive{}
	w := startWorld(t, func(o *Options) { o.Live = live })
	w.tokens.SetLimit(math.MaxInt)
	w.control.cancel = func(string) error { return ingest.ErrNotFound }
	w.control.forget = func(string) error { return ingest.ErrNotFound }
	w.control.override = func(ingest.OverrideRequest) (ingest.Override, error) { return ingest.Override{}, ingest.ErrInvalid }
	w.control.flush = func([]string) int { return 0 }
	goldenAlerts(w.alerts, "")
	goldenReplays(w.replays, "")
	sent := 0
	for _, evil := range corpus(t) {
		q, path := url.QueryEscape(evil), url.PathEscape(evil)
		for _, kind := range []string{"latest", "hourly", "daily", "range"} {
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
				"/" + kind + "/cpu?by=" + q,
				"/" + kind + "/cpu?by=host," + q + "&" + q + "=" + q,
				"/" + kind + "/cpu?step=" + q,
				"/" + kind + "/" + path + "?verb=p99&start=1h&by=" + q,
				"/" + kind + "/" + path + "?start=9h&step=60&by=" + q + "&verb=median",
			} {
				a := w.get(t, target)
				if a.status >= 500 {
					t.Errorf("%s: %d %s", target, a.status, a.body)
				}
				for _, st := range w.influx.statements() {
					sent++
					if kind == "range" && strings.HasPrefix(st.text, "SHOW") { // it looked for a name
						checkNamesSent(t, evil, st)
						continue
					}
					checkSent(t, target, st)
				}
			}
		}
		for _, target := range []string{"/keys?", "/tags?", "/relays?", "/ping?", "/status?"} {
			if a := w.get(t, target+q+"="+q); a.status != 200 && !(target == "/keys?" && a.status == 400) { // it takes filters
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

// injectReplays puts evil into every place of the replay routes. No text of the corpus is a range
// of time.
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

// injectLive puts evil into every place of the live routes. The subscription either holds evil
// unchanged, or the request is refused.
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
			continue // it would not arrive unchanged
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

// injectOrders puts evil into every place of the orders for relays.
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

// injectAlerts puts evil into every place of the alert routes: into the path, into each field of
// the body, and into the fields' names.
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
			if field == "keys" { // such a key exists, so that its values are queried
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
		err = json.Unmarshal(said, &evil) // as it arrives at the server
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range w.influx.statements() {
		checkNamesSent(t, evil, st)
	}
}

// checkNamesSent checks that a statement queries names: the names of the stats or of the tags, or
// the values of a tag with one bound value.
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
	if !isRef || !isValue || ref.Val != key.Val || key.Val != "host" && key.Val != evil || value.Val != evil && value.Val != "a" && value.Val != "x" {
		t.Errorf("%q sent %q", evil, st.text)
	}
}

// checkSent checks the statement as InfluxDB's parser sees it, and its text without the quoted
// parts.
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
	from, ok := sel.Sources[0].(*influxql.Measurement)
	if !ok || len(sel.Sources) != 1 || from.Database != "statistics" || from.Regex != nil ||
		!(from.RetentionPolicy == "one_week" && from.Name == "aggregate") &&
			!(from.RetentionPolicy == "one_day" && strings.HasPrefix(target, "/range/") && from.Name == statOf(t, target)) {
		t.Errorf("%s reads %s", target, sel.Sources)
	}
	// Outside of quotes there are only words of this package.
	bare := outsideQuotes(st.text)
	for _, word := range strings.FieldsFunc(bare, func(r rune) bool { return strings.ContainsRune(" (),=:.><$", r) }) {
		word = strings.Trim(word, "0123456789")
		if !slices.Contains([]string{"", "SELECT", "AS", "FROM", "WHERE", "AND", "OR", "GROUP", "BY", "time", "fill", "none", "tag", "s", "p",
			"mean", "min", "max", "sum", "count", "first", "last", "median", "mode", "spread", "stddev", "percentile"}, word) {
			t.Errorf("%s: the word %q stands outside of quotes in %q", target, word, st.text)
		}
	}
	for name, v := range st.params {
		if !strings.HasPrefix(name, "p") || fmt.Sprintf("%T", v) != "string" {
			t.Errorf("%s: parameter %s is %T", target, name, v)
		}
	}
}

// statOf returns the stat of a path.
func statOf(t *testing.T, target string) string {
	t.Helper()
	path, _, _ := strings.Cut(target, "?")
	stat, err := url.PathUnescape(path[strings.LastIndex(path, "/")+1:])
	if err != nil {
		t.Fatal(err)
	}
	return stat
}

// outsideQuotes returns text without "identifiers", in which \ escapes.
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

// Whatever the query string, reading it does not panic, and its result is one statement with the
// requested meaning.
func FuzzParameters(f *testing.F) {
	for _, evil := range corpus(f) {
		f.Add(evil, "host="+url.QueryEscape(evil)+"&verb=max&start=3h", true)
		f.Add("cpu", url.QueryEscape(evil)+"=1&"+url.QueryEscape(evil)+"=2&backfill="+url.QueryEscape(evil), false)
	}
	f.Add("cpu", "by=host,rack&step=1m&verb=p95&start=3h", true)
	f.Add("cpu", "by=a%22,b%5C&step=3660d&start=1795771200&stop=1795771201", true)
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
		if _, err := parseVerb(string(sel.verb)); err != nil {
			t.Fatalf("%q: verb %q", rawQuery, sel.verb)
		}
		fuzzRange(t, name, rawQuery)
		for _, p := range []plan{exactPlan(sel.verb), meansPlan(sel.verb)} {
			st, err := asked(name, sel.filters, time.Hour).statement(p.calls)
			if err != nil {
				t.Fatalf("%q %q: %v", name, rawQuery, err)
			}
			checkSent(t, rawQuery, st)
		}
	})
}

// fuzzRange reads the same parameters as those of /range.
func fuzzRange(t *testing.T, name, rawQuery string) {
	sel, err := parseRange(rawQuery, testNow, time.UTC)
	if err != nil {
		return
	}
	if sel.stop < 0 || sel.start <= sel.stop || sel.start > maxBack || sel.step < 0 || sel.step > maxBack || sel.step%time.Second != 0 {
		t.Fatalf("%q: start %s stop %s step %s", rawQuery, sel.start, sel.stop, sel.step)
	}
	step := max(sel.step, time.Second)
	span := wholeSlots(sel, step)
	if at := sel.now.Add(-sel.start).UnixNano(); at < span.from || at >= span.from+int64(step) || span.to <= span.from {
		t.Fatalf("%q: the slots from %d to %d are not those of %d", rawQuery, span.from, span.to, at)
	}
	q := asked(name, sel.filters, step)
	q.by = sel.by
	for _, p := range []plan{rawPlan(sel.verb), meansPlan(sel.verb)} {
		if sel.verb.percentile() > 0 && !p.raw {
			continue
		}
		st, err := p.statement(q)
		if err != nil {
			t.Fatalf("%q %q: %v", name, rawQuery, err)
		}
		checkSent(t, "/range/"+url.PathEscape(name), st)
	}
}
