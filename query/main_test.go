package query

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/influxdata/influxdb1-client/models"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/latest"
	"github.com/nanopack/pulse/projector/past"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testNow is the default time of the tests: a Monday, 20 minutes into an hour.
var testNow = time.Date(2026, 11, 23, 10, 20, 30, 123456789, time.UTC)

const testToken = "a-token"

// These fakes replace everything that the server reads from. A nil func returns zero values.
type (
	fakeLatest struct {
		readings map[string][]latest.Reading // by stat
		stats    []string
		tagKeys  []string
		since    atomic.Int64 // of the last Select
	}
	fakeInflux struct {
		query func(ctx context.Context, statement string, params map[string]any) ([]models.Row, error)
		ping  func(ctx context.Context) (string, error)

		mu    sync.Mutex
		asked []statement
	}
	fakeRelays struct {
		relays []ingest.Relay
		units  map[string]string
	}
	fakeProjections struct{ list []projector.Status }
	fakeRejects     struct {
		list []projector.Reject
		err  error
	}
	fakeAlerts struct {
		create, update func(kapa.Alert) (kapa.View, error)
		remove         func(id string) error
		get            func(id string) (kapa.View, error)
		list           func() ([]kapa.View, error)
		try            func(context.Context, kapa.TrialRequest) (kapa.Trial, error)
	}
	fakeJournal struct {
		state   journal.State
		lost    journal.Losses
		err     error
		healthy error
	}
	fakeControl struct {
		override  func(ingest.OverrideRequest) (ingest.Override, error)
		overrides []ingest.Override
		cancel    func(id string) error
		flush     func(relays []string) int
		forget    func(id string) error
	}
	fakeLive struct {
		subscribe func(LiveRequest) (LiveStream, error)
	}
	fakeReplays struct {
		create func(past.Request) (past.Job, error)
		list   []past.Job
		get    func(id string) (past.Job, error)
		cancel func(id string) (past.Job, error)
	}
)

// fakeStream sends its texts and ends.
type fakeStream []string

func (f *fakeLive) Subscribe(q LiveRequest) (LiveStream, error) {
	if f.subscribe == nil {
		return &fakeStream{"id: 7\nevent: readings\ndata: {}\n\n"}, nil
	}
	return f.subscribe(q)
}

func (f *fakeStream) Next(_ context.Context, dst []byte) ([]byte, error) {
	if len(*f) == 0 {
		return dst, io.EOF
	}
	dst = append(dst, (*f)[0]...)
	*f = (*f)[1:]
	return dst, nil
}

func (f *fakeStream) Close() {}

func (f *fakeLatest) Select(stat string, filters map[string][]string, since int64, visit func(latest.Reading)) {
	f.since.Store(since)
	for _, r := range f.readings[stat] {
		if r.Time >= since && tagsMatch(r.Tags, filters) {
			visit(r)
		}
	}
}

func tagsMatch(tags []latest.Tag, filters map[string][]string) bool {
	for key, values := range filters {
		has := ""
		for _, t := range tags {
			if t.Key == key {
				has = t.Value
			}
		}
		ok := false
		for _, v := range values {
			ok = ok || v == has
		}
		if !ok {
			return false
		}
	}
	return true
}

func (f *fakeLatest) Stats() []string   { return f.stats }
func (f *fakeLatest) TagKeys() []string { return f.tagKeys }

func (f *fakeInflux) Query(ctx context.Context, text string, params map[string]any) ([]models.Row, error) {
	f.mu.Lock()
	f.asked = append(f.asked, statement{text, params})
	f.mu.Unlock()
	if f.query == nil {
		return nil, nil
	}
	return f.query(ctx, text, params)
}

// statements returns the statements since the last call.
func (f *fakeInflux) statements() []statement {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	return asked
}

func (f *fakeInflux) Ping(ctx context.Context) (string, error) {
	if f.ping == nil {
		return "1.8.10", nil
	}
	return f.ping(ctx)
}

// fakeReads answers every statement with nothing.
type fakeReads struct{}

func (fakeReads) Read(_ context.Context, r influx.ReadRequest, visit func(influx.ReadResult) error) error {
	for i := range r.Statements {
		if err := visit(influx.ReadResult{Statement: i}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeRelays) Units() map[string]string             { return maps.Clone(f.units) }
func (f *fakeRelays) Relays() []ingest.Relay               { return append([]ingest.Relay{}, f.relays...) }
func (f *fakeProjections) Projections() []projector.Status { return f.list }
func (f *fakeRejects) List() ([]projector.Reject, error) {
	return append([]projector.Reject{}, f.list...), f.err
}
func (f *fakeJournal) State(context.Context) (journal.State, error) { return f.state, f.err }
func (f *fakeJournal) Losses() journal.Losses                       { return f.lost }
func (f *fakeJournal) Healthy() error                               { return f.healthy }
func (f *fakeControl) Overrides() []ingest.Override {
	return append([]ingest.Override{}, f.overrides...)
}
func (f *fakeControl) CancelOverride(id string) error            { return f.cancel(id) }
func (f *fakeControl) Forget(_ context.Context, id string) error { return f.forget(id) }

func (f *fakeAlerts) Create(a kapa.Alert) (kapa.View, error) { return f.create(a) }
func (f *fakeAlerts) Update(a kapa.Alert) (kapa.View, error) { return f.update(a) }
func (f *fakeAlerts) Delete(id string) error                 { return f.remove(id) }
func (f *fakeAlerts) Get(id string) (kapa.View, error)       { return f.get(id) }
func (f *fakeAlerts) List() ([]kapa.View, error)             { return f.list() }
func (f *fakeAlerts) Try(ctx context.Context, q kapa.TrialRequest) (kapa.Trial, error) {
	if f.try == nil {
		return kapa.Trial{Alert: q.Alert, From: q.From, To: q.To, Reached: q.To, Gaps: []kapa.TrialGap{}, Posts: []kapa.TrialPost{}}, nil
	}
	return f.try(ctx, q)
}

// Override validates, as the ingest server does.
func (f *fakeControl) Override(_ context.Context, o ingest.OverrideRequest) (ingest.Override, error) {
	if err := o.Validate(); err != nil {
		return ingest.Override{}, err
	}
	return f.override(o)
}

func (f *fakeControl) Flush(relays []string) int { return f.flush(relays) }

// Create validates the range, as the queue of replays does.
func (f *fakeReplays) Create(r past.Request) (past.Job, error) {
	if err := r.Validate(testNow); err != nil {
		return past.Job{}, err
	}
	return f.create(r)
}
func (f *fakeReplays) List() []past.Job                   { return append([]past.Job{}, f.list...) }
func (f *fakeReplays) Get(id string) (past.Job, error)    { return f.get(id) }
func (f *fakeReplays) Cancel(id string) (past.Job, error) { return f.cancel(id) }

// world is a server with the fakes that it reads from.
type world struct {
	*Server
	latest  *fakeLatest
	influx  *fakeInflux
	relays  *fakeRelays
	journal *fakeJournal
	proj    *fakeProjections
	control *fakeControl
	rejects *fakeRejects
	alerts  *fakeAlerts
	replays *fakeReplays
	client  *http.Client
	url     string
}

// newWorld makes a server on a port of its own; start starts it. change may change its options.
func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	w := &world{latest: &fakeLatest{}, influx: &fakeInflux{}, relays: &fakeRelays{}, journal: &fakeJournal{},
		proj: &fakeProjections{}, control: &fakeControl{}, rejects: &fakeRejects{}, alerts: &fakeAlerts{}, replays: &fakeReplays{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Listener: l, Token: testToken, Location: time.UTC, Version: "test",
		Latest: w.latest, Influx: w.influx, Relays: w.relays, Journal: w.journal, Projections: w.proj, Control: w.control,
		Rejects: w.rejects, Alerts: w.alerts, Replays: w.replays, Consumers: fakeConsumers{},
		Backup: func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, "a backup\n"); return err },
		Live:   &fakeLive{}, InfluxQL: fakeReads{},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics\n") }),
		Now:     func() time.Time { return testNow },
	}
	if change != nil {
		change(&o)
	}
	if w.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	w.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	w.url = "http://" + w.Addr().String()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := w.Stop(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	return w
}

func startWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	w := newWorld(t, change)
	w.Start()
	return w
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request over the network. It adds the token unless the headers ("Name: value") hold
// one. The header "-" means that no token is added.
func (w *world) do(t testing.TB, method, path, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, w.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-AUTH-TOKEN", testToken)
	for _, h := range headers {
		req.Header.Del("X-AUTH-TOKEN")
		if name, value, ok := strings.Cut(h, ": "); ok {
			req.Header.Set(name, value)
		}
	}
	res, err := w.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

func (w *world) get(t testing.TB, path string) answer {
	t.Helper()
	return w.do(t, "GET", path, "")
}

func (a answer) want(t testing.TB, status int, body string) {
	t.Helper()
	if a.status != status || a.body != body {
		t.Fatalf("got %d %q\nwant %d %q", a.status, a.body, status, body)
	}
}

// contains checks the status and a part of the body.
func (a answer) contains(t testing.TB, status int, part string) {
	t.Helper()
	if a.status != status || !strings.Contains(a.body, part) {
		t.Fatalf("got %d %q\nwant %d with %q", a.status, a.body, status, part)
	}
}

// eventually waits until another goroutine makes a condition true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// minutesAgo returns the time n minutes before testNow, in ns.
func minutesAgo(n int) int64 { return testNow.Add(-time.Duration(n) * time.Minute).UnixNano() }

func errorQuery(err error) func(context.Context, string, map[string]any) ([]models.Row, error) {
	return func(context.Context, string, map[string]any) ([]models.Row, error) { return nil, err }
}

func errorPing(err error) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return "", err }
}

// value returns the value of a counter or gauge.
func value(t testing.TB, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	if d.Counter != nil {
		return d.GetCounter().GetValue()
	}
	return d.GetGauge().GetValue()
}
