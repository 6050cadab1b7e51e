package query

import (
	"encoding/base64"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/projector/latest"
)

// Every route is tried with every way to send the token, or not to send it, as documented in
// README.md.
func TestAuthMatrix(t *testing.T) {
	credentials := []struct {
		name    string
		headers []string
		query   string
		passes  bool
	}{
		{"none", []string{"-"}, "", false},
		{"header", []string{"X-AUTH-TOKEN: " + testToken}, "", true},
		{"header in lower case", []string{"x-auth-token: " + testToken}, "", true},
		{"wrong header", []string{"X-AUTH-TOKEN: wrong"}, "", false},
		{"empty header", []string{"X-AUTH-TOKEN: "}, "", false},
		{"prefix of the token", []string{"X-AUTH-TOKEN: " + testToken[:3]}, "", false},
		{"token and more", []string{"X-AUTH-TOKEN: " + testToken + "x"}, "", false},
		{"bearer", []string{"Authorization: Bearer " + testToken}, "", true},
		{"bearer in lower case", []string{"Authorization: bearer " + testToken}, "", true},
		{"basic", []string{"Authorization: Basic " + testToken}, "", false},
		{"password of basic", []string{"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("any:"+testToken))}, "", true},
		{"user of basic", []string{"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(testToken+":"))}, "", false},
		{"password of InfluxDB's token", []string{"Authorization: Token any:" + testToken}, "", true},
		{"InfluxDB's token without a password", []string{"Authorization: Token " + testToken}, "", false},
		{"wrong bearer", []string{"Authorization: Bearer x"}, "", false},
		{"bearer without a token", []string{"Authorization: Bearer"}, "", false},
		{"query", []string{"-"}, tokenName + "=" + testToken, true},
		{"query in lower case", []string{"-"}, "x-auth-token=" + testToken, false},
		{"wrong query", []string{"-"}, tokenName + "=no", false},
		{"empty query", []string{"-"}, tokenName + "=", false},
		{"wrong header, right query", []string{"X-AUTH-TOKEN: wrong"}, tokenName + "=" + testToken, true},
		{"query malformed", []string{"-"}, "%zz&" + tokenName + "=" + testToken, true}, // then 400, not 401
	}
	for _, compat := range []string{"", Compat02} {
		w := startWorld(t, func(o *Options) { o.Compat = compat })
		w.tokens.SetLimit(math.MaxInt)
		routes := w.routes()
		routes = append(routes,
			route{method: "GET", path: "/nosuch", access: reading},
			route{method: "PATCH", path: "/keys", access: reading},
			route{method: "GET", path: "/", access: reading})
		w.control.cancel = func(string) error { return nil }
		w.control.forget = func(string) error { return nil }
		w.control.flush = func([]string) int { return 0 }
		for _, rt := range routes {
			path := strings.NewReplacer("{stat}", "cpu", "{id}", "1").Replace(rt.path)
			for _, c := range credentials {
				name := compat + " " + rt.method + " " + path + " " + c.name
				before := value(t, w.metrics.unauthorized)
				a := w.do(t, rt.method, path+"?"+c.query, "", c.headers...)
				refused := a.status == http.StatusUnauthorized
				passes := c.passes && (!strings.Contains(c.name, "password of") || rt.path == "/ping" || rt.path == "/query")
				if want := !passes && rt.access != open; refused != want {
					t.Errorf("%s: %d %q", name, a.status, a.body)
				}
				if !refused {
					continue
				}
				if got := value(t, w.metrics.unauthorized); got != before+1 {
					t.Errorf("%s: counted %v after %v", name, got, before)
				}
				if compat != "" && a.body != "" || compat == "" && !strings.HasPrefix(a.body, `{"error":"unauthorized`) {
					t.Errorf("%s: body %q", name, a.body)
				}
			}
			if a := w.do(t, "OPTIONS", path, "", "-"); a.status != http.StatusOK {
				t.Errorf("OPTIONS %s: %d", path, a.status)
			}
		}
	}
}

// The token that only reads passes wherever nothing is changed and no secret is shown, and gets 403
// elsewhere. It passes in every place where a token may be.
func TestReadToken(t *testing.T) {
	const readToken = "only-reads"
	for _, compat := range []string{"", Compat02} {
		w := startWorld(t, func(o *Options) { o.Compat, o.ReadToken = compat, readToken })
		w.tokens.SetLimit(math.MaxInt)
		w.control.cancel = func(string) error { t.Error("an override was cancelled"); return nil }
		w.control.forget = func(string) error { t.Error("a relay was forgotten"); return nil }
		w.control.flush = func([]string) int { t.Error("relays were flushed"); return 0 }
		for _, rt := range w.routes() {
			path := strings.NewReplacer("{stat}", "cpu", "{id}", "1", "{name}", "one").Replace(rt.path)
			changes := rt.path == "/backup" || rt.method != http.MethodGet && !slices.Contains([]string{"/live/ticket", "/alerts/test", "/query"}, rt.path)
			for _, a := range []answer{
				w.do(t, rt.method, path, "", "X-AUTH-TOKEN: "+readToken), w.do(t, rt.method, path, "", "Authorization: Bearer "+readToken),
				w.do(t, rt.method, path+"?X-AUTH-TOKEN="+readToken, "", "-"), w.do(t, rt.method, path, "", "Authorization: Bearer wrong", "X-AUTH-TOKEN: "+readToken),
			} {
				if forbidden := a.status == http.StatusForbidden; forbidden != changes || a.status == http.StatusUnauthorized {
					t.Errorf("%s %s %s: %d %q", compat, rt.method, rt.path, a.status, a.body)
				}
				if changes && compat == "" && !strings.Contains(a.body, "this token only reads") {
					t.Errorf("%s %s: %q", rt.method, rt.path, a.body)
				}
			}
		}
		if a := w.do(t, "GET", "/backup", "", "Authorization: Bearer "+testToken, "X-AUTH-TOKEN: "+readToken); a.status == http.StatusForbidden {
			t.Error("with both tokens /backup is forbidden")
		}
		if a := w.do(t, "GET", "/ping", "", "X-AUTH-TOKEN: "); a.status != http.StatusUnauthorized {
			t.Errorf("an empty token: %d", a.status)
		}
		w.SetTokens(testToken, "")
		if a := w.do(t, "GET", "/ping", "", "X-AUTH-TOKEN: "+readToken); a.status != http.StatusUnauthorized {
			t.Errorf("after it was taken away: %d", a.status)
		}
	}
}

// Who only reads sees of an alert's receiver the host, and no error that may hold more of it.
func TestReadersSeeNoReceiver(t *testing.T) {
	w := startWorld(t, func(o *Options) { o.ReadToken = "only-reads" })
	view := kapa.View{Alert: kapa.Alert{ID: "a", Post: "https://joe:5ecret@hooks.example.org/5ecret?key=5ecret"},
		Status: kapa.Status{Error: "5ecret", DeliveryError: `Post "https://hooks.example.org/5ecret": refused`}}
	w.alerts.get = func(string) (kapa.View, error) { return view, nil }
	w.alerts.list = func() ([]kapa.View, error) { return []kapa.View{view}, nil }
	for _, path := range []string{"/alerts", "/alerts/a"} {
		w.get(t, path).contains(t, 200, "https://joe:5ecret@hooks.example.org/5ecret?key=5ecret")
		a := w.do(t, "GET", path, "", "X-AUTH-TOKEN: only-reads")
		a.contains(t, 200, `"post":"https://hooks.example.org/***"`)
		if strings.Contains(a.body, "5ecret") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
}

func TestNoTokenMeansOpen(t *testing.T) {
	w := startWorld(t, func(o *Options) { o.Token = "" })
	w.do(t, "GET", "/ping", "", "-").want(t, 200, "pong")
	w.do(t, "GET", "/ping", "", "X-AUTH-TOKEN: whatever").want(t, 200, "pong")
}

// A token with unusual characters works in the query if it is escaped.
func TestTokenEscaped(t *testing.T) {
	odd := "ä &=+%/'\""
	w := startWorld(t, func(o *Options) { o.Token = odd })
	w.do(t, "GET", "/ping?"+url.Values{tokenName: {odd}}.Encode(), "", "-").want(t, 200, "pong")
}

// The token's parameter is never a filter, whatever its case. Giving it twice is an error.
func TestTokenIsNoFilter(t *testing.T) {
	w := startWorld(t, nil)
	w.latest.readings = map[string][]latest.Reading{"cpu": {{Time: minutesAgo(0), Value: 1}}}
	for _, q := range []string{tokenName + "=" + testToken, "x-auth-token=abc"} {
		w.get(t, "/latest/cpu?"+q).contains(t, 200, `"value":1`)
		w.get(t, "/hourly/cpu?"+q)
		for _, st := range w.influx.statements() {
			if len(st.params) != 0 {
				t.Errorf("%s: parameters %v", q, st.params)
			}
		}
	}
	w.get(t, "/latest/cpu?X-AUTH-TOKEN=a&X-AUTH-TOKEN=b").contains(t, 400, "X-AUTH-TOKEN is given 2 times")
}

// Clients of InfluxDB may send the token as p, where they ask: elsewhere p is a tag.
func TestPasswordOfInfluxDB(t *testing.T) {
	w := startWorld(t, func(o *Options) { o.InfluxQL = fakeReads{} })
	for path, status := range map[string]int{
		"/ping?u=any&p=" + testToken: 200, "/ping?p=wrong": 401, "/query?q=SHOW+DATABASES&u=any&p=" + testToken: 200, "/query/?q=SHOW+DATABASES&p=" + testToken: 200,
		"/query?q=SHOW+DATABASES&p=wrong": 401, "/query?q=SHOW+DATABASES&u=" + testToken: 401, "/keys?p=" + testToken: 401, "/latest/cpu?u=a&p=" + testToken: 401,
	} {
		if a := w.do(t, "GET", path, "", "-"); a.status != status {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := w.do(t, "POST", "/query?p="+testToken, "q=SHOW+DATABASES", "-", "Content-Type: application/x-www-form-urlencoded"); a.status != 200 {
		t.Errorf("POST: %d %s", a.status, a.body)
	}
	// A form is not looked into before the token is right.
	if a := w.do(t, "POST", "/query", "q=SHOW+DATABASES&p="+testToken, "-", "Content-Type: application/x-www-form-urlencoded"); a.status != 401 {
		t.Errorf("POST with the token in the form: %d %s", a.status, a.body)
	}
}

// /ping is "pong", and no content for those who take it for an InfluxDB's.
func TestPingOfInfluxDB(t *testing.T) {
	w := startWorld(t, nil)
	for _, header := range []string{"", "User-Agent: curl/8.5", "Accept: */*"} {
		a := w.do(t, "GET", "/ping?X-AUTH-TOKEN="+testToken, "", header)
		a.want(t, 200, "pong")
		if a.header.Get("X-Influxdb-Version") == "" {
			t.Error("no version")
		}
	}
	for _, header := range []string{"User-Agent: InfluxDBClient", "User-Agent: InfluxDBShell/1.6.7", "Accept: application/x-msgpack"} {
		w.do(t, "GET", "/ping?X-AUTH-TOKEN="+testToken, "", header).want(t, 204, "")
	}
	w.get(t, "/ping?wait_for_leader=1s").want(t, 204, "")
}
