package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/journal/link"
)

// fakeEdges are the edges of a hub. ask nil: an edge with a link is another world, asked.
type fakeEdges struct {
	edges   []link.Edge
	refused []link.UnknownEdge
	ask     func(ctx context.Context, edge, what string, body []byte) ([]byte, error)
}

func (f *fakeEdges) Edges() []link.Edge               { return f.edges }
func (f *fakeEdges) RefusedNames() []link.UnknownEdge { return f.refused }
func (f *fakeEdges) Ask(ctx context.Context, edge, what string, body []byte) ([]byte, error) {
	return f.ask(ctx, edge, what, body)
}

type fakeUplink link.UplinkStatus

func (f fakeUplink) Status() link.UplinkStatus { return link.UplinkStatus(f) }

// goldenEdges has ams1, which is connected and answers as the golden world does, fra1, which is
// silent, new1, which never came, and old1, which has no token any more. state "empty" has none.
func goldenEdges(state string) *fakeEdges {
	if state == "empty" {
		return &fakeEdges{}
	}
	since := testNow.Add(-time.Hour)
	control, relays := goldenControl()
	asked := Asked(&control, &relays, slog.New(slog.DiscardHandler))
	return &fakeEdges{
		edges: []link.Edge{
			{Name: "new1", State: "never"},
			{Name: "old1", State: "off", Since: since, Has: 7, Last: 7, Events: 7},
			{Name: "fra1", State: "silent", Since: since, Heard: since, Release: "0.4.0", Has: 900, Last: 950, Lacks: 50, Events: 890, Notice: "upgrade this edge to 0.5.0",
				Gaps:    []link.Gap{{From: 101, To: 110, Events: 10, Reason: "dropped by retention", Time: since}},
				Begun:   []link.Begun{{Time: since, At: 500, Kept: 650, Reason: "restored from a backup"}},
				Refused: &link.Refusal{Time: since, Address: "192.0.2.9:5123", Reason: "the token is wrong"}},
			{Name: "ams1", State: "connected", Since: since, Heard: testNow, Address: "192.0.2.7:41234", Release: "0.5.0", Has: 8000, Last: 8002, Lacks: 2, ClockOffset: -0.25, Events: 8000},
		},
		refused: []link.UnknownEdge{
			{Name: "ams2", Refusal: link.Refusal{Time: since, Address: "192.0.2.8:5000", Reason: "this hub has no token for ams2"}},
			{Name: "ams3", Refusal: link.Refusal{Time: testNow, Address: "192.0.2.8:5001", Reason: "this hub has no token for ams3"}},
		},
		ask: func(ctx context.Context, edge, what string, body []byte) ([]byte, error) {
			switch edge {
			case "ams1":
				return asked(ctx, what, body)
			case "fra1", "new1", "old1":
				return nil, link.ErrDown
			}
			return nil, link.ErrNoEdge
		},
	}
}

func goldenUplink(state string) fakeUplink {
	u := fakeUplink{Edge: "ams1", Hub: "hub.example.org:7422", State: state, Since: testNow.Add(-time.Minute), HubRelease: "0.5.0", Known: true, HubHas: 8000, Last: 8002, Lacks: 2}
	switch state {
	case "connecting":
		u.HubRelease, u.Known, u.HubHas, u.Lacks = "", false, 0, 0
		u.Error = "dial tcp 192.0.2.1:7422: connect: connection refused"
	case "refused":
		u.Error = "the hub has another edge of this name, from 192.0.2.9:5123"
		u.Gaps = []link.Gap{{From: 101, To: 110, Events: 10, Reason: "dropped by retention", Time: testNow}}
	}
	return u
}

// hub starts a hub with one edge, ams1, which answers as ask does.
func hub(t *testing.T, ask func(ctx context.Context, edge, what string, body []byte) ([]byte, error)) *world {
	t.Helper()
	return startWorld(t, func(o *Options) {
		o.Edges = &fakeEdges{edges: []link.Edge{{Name: "ams1", State: "connected"}}, ask: ask}
		o.ReadToken = "read"
	})
}

// passedOn are the requests that a hub passes on, with what is asked and the body that goes with it.
var passedOn = []struct{ method, path, body, what, asked, answer, want string }{
	{"POST", "/overrides", `{"edge":"ams1","duration":"1m","collectors":{"cpu":5}}`, "override", `{"collectors":{"cpu":5},"duration":"1m"}`, `{"id":"o1"}`, `{"id":"o1"}`},
	{"POST", "/overrides?edge=ams1", `{"duration":60}`, "override", `{"duration":60}`, `{"id":"<o1>"}`, `{"id":"<o1>"}`},
	{"GET", "/overrides?edge=ams1", "", "overrides", "", `[]`, `[]`},
	{"DELETE", "/overrides/o%2F1?edge=ams1", "", "cancel", `{"id":"o/1"}`, `{}`, `{"msg":"Success"}`},
	{"GET", "/relays?edge=ams1&X-AUTH-TOKEN=" + testToken, "", "relays", "", `[{"id":"web1","of a newer release":1}]`, `[{"id":"web1","of a newer release":1}]`},
}

func TestPassedOnToAnEdge(t *testing.T) {
	for _, c := range passedOn {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			n := 0
			w := hub(t, func(_ context.Context, edge, what string, body []byte) ([]byte, error) {
				n++
				if edge != "ams1" || what != c.what || string(body) != c.asked {
					t.Errorf("asked %s for %s with %s", edge, what, body)
				}
				return []byte(c.answer), nil
			})
			w.do(t, c.method, c.path, c.body).want(t, http.StatusOK, c.want+"\n")
			if n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestEdgeDoesNotAnswer: what the client gets when an edge was not reached, refused, or may have
// done it.
func TestEdgeDoesNotAnswer(t *testing.T) {
	for _, c := range []struct {
		name           string
		answer         string
		err            error
		status         int
		reads, changes string
	}{
		{"down", "", fmt.Errorf("link: %w", link.ErrDown), 503, "ams1 has no link now; ask", "ams1 has no link now: nothing was changed; ask again"},
		{"unknown", "", link.ErrNoEdge, 404, `no edge \"ams1\"`, `no edge \"ams1\"`},
		{"invalid", "", &link.Refused{Kind: "invalid", Text: "no such thing"}, 400, "edge ams1: no such thing", "edge ams1: no such thing"},
		{"not found", "", &link.Refused{Kind: "not found", Text: "no such thing"}, 404, "edge ams1: no such thing", "edge ams1: no such thing"},
		{"failed", "", &link.Refused{Text: internalError}, 502, "edge ams1: internal error", "edge ams1: internal error"},
		{"late", "", context.DeadlineExceeded, 504, "within 10s: ask again", "may have done"},
		{"broken", "", errors.New("connection reset"), 502, "broke before the answer came: ask again", "may have done"},
		{"no JSON", "<p>", nil, 502, "cannot be read: ask again", "may have done"},
		{"nothing", "", nil, 502, "cannot be read: ask again", "may have done"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := hub(t, func(context.Context, string, string, []byte) ([]byte, error) { return []byte(c.answer), c.err })
			for _, r := range passedOn {
				part := c.changes
				if r.method == "GET" {
					part = c.reads
				}
				a := w.do(t, r.method, r.path, r.body)
				a.contains(t, c.status, part)
				if strings.Contains(a.body, "reset") || (a.header.Get("Retry-After") != "") != (c.status == 503) {
					t.Errorf("%s %v", a.body, a.header)
				}
			}
		})
	}
}

// TestEdgeOfALeavingClient: the question to the edge ends when the client goes away.
func TestEdgeOfALeavingClient(t *testing.T) {
	asked, ended := make(chan struct{}), make(chan error, 1)
	w := hub(t, func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
		close(asked)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/relays?edge=ams1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-AUTH-TOKEN", testToken)
	go func() { <-asked; cancel() }()
	if res, err := w.client.Do(req); err == nil {
		res.Body.Close()
		t.Error("answered")
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventually(t, "counted as given up", func() bool {
		return value(t, w.metrics.requests.WithLabelValues("/relays", "GET", "499")) == 1
	})
}

// TestNoHub: a Pulse without edges refuses what is meant for one, and does not do it itself.
func TestNoHub(t *testing.T) {
	w := startWorld(t, nil) // every method of control would panic
	for _, r := range passedOn {
		w.do(t, r.method, r.path, r.body).contains(t, http.StatusBadRequest, "this Pulse is no hub")
	}
	w.get(t, "/edges").contains(t, http.StatusNotFound, "only a hub has edges")
	w.get(t, "/relays?edge=").want(t, http.StatusOK, "[]\n")
}

// TestEdgeParameters: which edge is meant is said once and clearly; nothing is done otherwise.
func TestEdgeParameters(t *testing.T) {
	w := hub(t, func(context.Context, string, string, []byte) ([]byte, error) {
		t.Error("asked")
		return nil, link.ErrDown
	})
	for _, c := range []struct{ method, path, body, part string }{
		{"GET", "/relays?edge=ams1&edge=fra1", "", "edge is given 2 times"},
		{"DELETE", "/overrides/o1?host=web1", "", `\"host\" is not a parameter`},
		{"GET", "/overrides?edge=%zz", "", "malformed"},
		{"GET", "/overrides?edge=" + strings.Repeat("x", 1000), "", "at most"},
		{"GET", "/overrides?edge=a%00", "", "control characters"},
		{"POST", "/overrides?edge=ams1", "", "not the JSON object expected: EOF"},
		{"POST", "/overrides?edge=ams1", "duration=60", "not the JSON object expected: invalid character 'd'"},
		{"POST", "/overrides", `{"edge":"ams1"} {}`, "more than one"},
		{"POST", "/overrides", `{"Edge":"ams1","duration":5}`, "unknown field"},
	} {
		w.do(t, c.method, c.path, c.body).contains(t, http.StatusBadRequest, c.part)
	}
}

// TestReadTokenAndEdges: the read token sees the edges and what they answer, and changes nothing.
func TestReadTokenAndEdges(t *testing.T) {
	n := 0
	w := hub(t, func(context.Context, string, string, []byte) ([]byte, error) { n++; return []byte("[]"), nil })
	const read = "X-AUTH-TOKEN: read"
	for _, path := range []string{"/edges", "/relays?edge=ams1", "/overrides?edge=ams1"} {
		w.do(t, "GET", path, "", read).contains(t, http.StatusOK, "[")
	}
	if n != 2 {
		t.Errorf("asked %d times", n)
	}
	for _, r := range passedOn {
		if r.method != "GET" {
			w.do(t, r.method, r.path, r.body, read).contains(t, http.StatusForbidden, "only reads")
		}
	}
	w.do(t, "GET", "/edges", "", "-").contains(t, http.StatusUnauthorized, "unauthorized")
	if n != 2 {
		t.Errorf("asked %d times", n)
	}
}

// TestAskedAsOverHTTP: what the hub passes on gets the edge's own answer, to the letter, and an
// error gets the same status and text with the edge's name before it.
func TestAskedAsOverHTTP(t *testing.T) {
	edge := goldenWorld(t, map[string]string{})
	asked := Asked(edge.control, edge.relays, slog.New(slog.DiscardHandler))
	w := hub(t, func(ctx context.Context, _, what string, body []byte) ([]byte, error) { return asked(ctx, what, body) })
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/overrides", `{"duration": "10m", "collectors": {"cpu": "2s"}}`},
		{"POST", "/overrides", `{"duration": 1.5, "collectors": {"cpu": 5}}`},
		{"POST", "/overrides", `{"duration": 60, "collectors": {"rma": 5, "nosuch": 1}}`},
		{"POST", "/overrides", `{"duration": 60, "collectors": {"cpu": 5}, "relays": [""]}`},
		{"POST", "/overrides", `{"duration": 60, "other": 1}`},
		{"POST", "/overrides", `{}`},
		{"POST", "/overrides", ``},
		{"POST", "/overrides", `duration=60`},
		{"GET", "/overrides", ""},
		{"DELETE", "/overrides/o1", ""},
		{"DELETE", "/overrides/o7", ""},
		{"DELETE", "/overrides/%00", ""},
		{"GET", "/relays", ""},
	} {
		own := edge.do(t, c.method, c.path, c.body)
		want := own.body
		if own.status != http.StatusOK {
			want = strings.Replace(own.body, `{"error":"`, `{"error":"edge ams1: `, 1)
		}
		a := w.do(t, c.method, c.path+"?edge=ams1", c.body)
		if c.body == "" && c.path == "/overrides" || strings.HasPrefix(c.body, "duration") {
			want = own.body // no JSON: it does not get as far as the edge
		}
		a.want(t, own.status, want)
	}
}

// TestAskedWhatItDoesNotKnow: questions of another release, and questions that are no JSON.
func TestAskedWhatItDoesNotKnow(t *testing.T) {
	asked := Asked(&fakeControl{}, &fakeRelays{}, slog.New(slog.DiscardHandler))
	for what, part := range map[string]string{"restart": "does not answer", "": "does not answer", "cancel": "not the JSON", "override": "not the JSON", "forget": "does not answer", "flush": "does not answer"} {
		_, err := asked(t.Context(), what, []byte(`[`))
		refused, ok := errors.AsType[*link.Refused](err)
		if !ok || refused.Kind != "invalid" || !strings.Contains(refused.Text, part) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestAskedPanics: a defect costs the hub one answer, and the edge nothing. Texts of errors that
// are not for clients stay in the edge's log.
func TestAskedPanics(t *testing.T) {
	var log strings.Builder
	control := &fakeControl{cancel: func(id string) error {
		if id == "panic" {
			panic("a defect")
		}
		return errors.New("/var/lib/pulse: input/output error")
	}}
	asked := Asked(control, &fakeRelays{}, slog.New(slog.NewTextHandler(&log, nil)))
	for _, id := range []string{"panic", "error"} {
		answer, err := asked(t.Context(), "cancel", []byte(`{"id":"`+id+`"}`))
		refused, ok := errors.AsType[*link.Refused](err)
		if answer != nil || !ok || *refused != (link.Refused{Text: internalError}) {
			t.Errorf("%s: %s %v", id, answer, err)
		}
	}
	if !strings.Contains(log.String(), "a defect") || !strings.Contains(log.String(), "input/output error") {
		t.Error(log.String())
	}
}

// TestPassedOnIsBounded: what does not fit into a frame of the link is refused before it would end
// the link, however it is escaped there.
func TestPassedOnIsBounded(t *testing.T) {
	w := hub(t, func(context.Context, string, string, []byte) ([]byte, error) {
		t.Error("asked")
		return nil, link.ErrDown
	})
	w.do(t, "POST", "/overrides", `{"edge":"ams1","relays":["`+strings.Repeat("<", maxBodyBytes/2)+`"]}`).contains(t, http.StatusRequestEntityTooLarge, "1572864 bytes")

	relays := fakeRelays{relays: make([]ingest.Relay, 20_000)}
	_, err := Asked(&fakeControl{}, &relays, slog.New(slog.DiscardHandler))(t.Context(), "relays", nil)
	if refused, ok := errors.AsType[*link.Refused](err); !ok || !strings.Contains(refused.Text, "ask the Pulse at the edge itself") {
		t.Error(err)
	}
}

// TestReadyOfAnEdge: an edge whose link is down is ready, because its readings are kept; one that
// the hub refuses is degraded, because that does not end by itself.
func TestReadyOfAnEdge(t *testing.T) {
	for state, want := range map[string]string{"connected": "ready", "connecting": "ready", "refused": "degraded"} {
		w := startWorld(t, func(o *Options) { o.Uplink = goldenUplink(state) })
		a := w.do(t, "GET", "/readyz", "", "-")
		a.contains(t, http.StatusOK, `"status":"`+want+`"`)
		if strings.Contains(a.body, "192.0.2.9") {
			t.Errorf("everybody may read %s", a.body)
		}
	}
}

// TestEdgesHasNoNull: lists that are empty are lists in JSON.
func TestEdgesHasNoNull(t *testing.T) {
	w := startWorld(t, func(o *Options) {
		o.Edges = &fakeEdges{edges: []link.Edge{{Name: "ams1"}}}
		o.Uplink = fakeUplink{}
	})
	for _, path := range []string{"/edges", "/status"} {
		a := w.get(t, path)
		if !json.Valid([]byte(a.body)) || strings.Contains(a.body, "null") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
}
