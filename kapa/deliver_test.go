package kapa

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
)

type emptyJournal struct{}

func (emptyJournal) State(context.Context) (journal.State, error)       { return journal.State{}, nil }
func (emptyJournal) FirstAt(context.Context, time.Time) (uint64, error) { return 1, nil }
func (emptyJournal) Range(context.Context, journal.Span, func([]journal.Record, *journal.GapError) error) error {
	return nil
}

// transport answers requests without a network.
type transport func(r *http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(r *http.Request, status int, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader("")), Request: r}
}

// queue queues posts with the bodies "1", "2" and so on.
func queue(tb testing.TB, a *Alerts, id string, from, to int) {
	tb.Helper()
	fillQueue(tb, a, id, from, to)
	a.Projection().deliverer.poke()
}

// fillQueue stores the posts, with the bodies "1", "2" and so on; nobody looks for them yet.
func fillQueue(tb testing.TB, a *Alerts, id string, from, to int) {
	tb.Helper()
	if err := a.store.db.Update(func(tx *bbolt.Tx) error {
		for i := from; i <= to; i++ {
			if _, err := enqueue(tx, id, []delivery{{Created: time.Now().UnixNano(), Body: json.RawMessage(fmt.Sprint(i))}}, false); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
}

// arrivals collects what arrived, and at which path.
type arrivals struct {
	mu  sync.Mutex
	all []string
}

func (l *arrivals) add(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, r.URL.Path+string(body))
}

func (l *arrivals) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, " ")
}

func alertTo(tb testing.TB, a *Alerts, post string) string {
	tb.Helper()
	alert := sampleAlert()
	alert.Post = post
	v, err := a.Create(alert)
	if err != nil {
		tb.Fatal(err)
	}
	return v.ID
}

// A receiver that was away gets all posts later, in order, and the pauses between tries grow.
// Another alert does not wait for that receiver.
func TestDeliverRetriesInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pulse.db")
	synctest.Test(t, func(t *testing.T) {
		var got arrivals
		var tries []time.Duration
		began := time.Now()
		a := startAlerts(t, Options{DB: openDB(t, path), Journal: emptyJournal{}, Transport: transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/away" && time.Since(began) < 2*time.Minute {
				tries = append(tries, time.Since(began))
				return nil, syscall.ECONNREFUSED
			}
			got.add(r)
			return answer(r, 204), nil
		})})
		away, fine := alertTo(t, a, "http://h/away"), alertTo(t, a, "http://h/fine")
		queue(t, a, away, 1, 3)
		queue(t, a, fine, 1, 2)
		synctest.Wait()
		if got.String() != "/fine1 /fine2" {
			t.Errorf("at once: %s", &got)
		}
		v, err := a.Get(away)
		if err != nil || v.Status.Undelivered != 3 || v.Status.DeliveryError != "connection refused" || v.Status.LastDelivery != nil {
			t.Errorf("%+v, %v", v.Status, err)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if got.String() != "/fine1 /fine2 /away1 /away2 /away3" {
			t.Errorf("then: %s", &got)
		}
		if len(tries) < 7 || tries[0] != 0 {
			t.Fatalf("tried after %v", tries)
		}
		for i := range 6 { // pauses of 1, 2, 4 ... s, minus at most a fifth
			if pause, most := tries[i+1]-tries[i], time.Second<<i; pause > most || pause < most*4/5 {
				t.Errorf("tried after %v", tries)
			}
		}
		v, err = a.Get(away)
		if err != nil || v.Status.Undelivered != 0 || v.Status.DeliveryError != "" || v.Status.LastDelivery == nil {
			t.Errorf("%+v, %v", v.Status, err)
		}
		stopAlerts(t, a)
	})
}

// Posts to other receivers do not wait, however many alerts post to a receiver that hangs. Each of
// these many alerts gets its turn.
func TestDeliverHangingReceiver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pulse.db")
	synctest.Test(t, func(t *testing.T) {
		var got arrivals
		tried := map[string]int{} // by alert; guarded by got.mu
		a := startAlerts(t, Options{DB: openDB(t, path), Journal: emptyJournal{}, Transport: transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "fine" {
				got.add(r)
				return answer(r, 204), nil
			}
			got.mu.Lock()
			tried[r.URL.Path]++
			got.mu.Unlock()
			<-r.Context().Done()
			return nil, r.Context().Err()
		})})
		const many = 100
		for i := range many {
			queue(t, a, alertTo(t, a, fmt.Sprint("http://hangs/", i)), 1, 1)
		}
		fine := alertTo(t, a, "http://fine/")
		queue(t, a, fine, 1, 1)
		synctest.Wait()
		if got.String() != "/1" {
			t.Errorf("at once: %q", &got)
		}
		// A round of all these alerts takes 100 times 10 s, divided among four at a time.
		time.Sleep(5 * time.Minute)
		queue(t, a, fine, 2, 2)
		synctest.Wait()
		if got.String() != "/1 /2" {
			t.Errorf("later: %q", &got)
		}
		got.mu.Lock()
		if len(tried) != many {
			t.Errorf("%d of %d were tried", len(tried), many)
		}
		got.mu.Unlock()
		stopAlerts(t, a)
	})
}

// A corrected alert is posted at once, and a post that cannot be read delays no other post.
func TestDeliverMended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pulse.db")
	synctest.Test(t, func(t *testing.T) {
		var got arrivals
		db := openDB(t, path)
		a := startAlerts(t, Options{DB: db, Journal: emptyJournal{}, Transport: transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/wrong" {
				return answer(r, 500), nil
			}
			got.add(r)
			return answer(r, 204), nil
		})})
		id := alertTo(t, a, "http://h/wrong")
		queue(t, a, id, 1, 1)
		time.Sleep(20 * time.Minute)
		v, err := a.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		v.Alert.Post = "http://h/right"
		if _, err := a.Update(v.Alert); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got.String() != "/right1" {
			t.Errorf("mended: %q", &got)
		}

		broken := alertTo(t, a, "http://h/broken")
		synctest.Wait() // nobody looks at the queue while it is damaged
		fillQueue(t, a, broken, 1, 2)
		if err := db.Update(func(tx *bbolt.Tx) error {
			b := bucket(tx, queueBucket)
			return b.Put(keysOf(b, broken)[0], []byte("{"))
		}); err != nil {
			t.Fatal(err)
		}
		a.Projection().deliverer.changed(broken)
		queue(t, a, id, 2, 2)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := got.String(); !strings.Contains(s, "/right2") || !strings.Contains(s, "/broken2") {
			t.Errorf("%q", s)
		}
		stopAlerts(t, a)
	})
}

// A post that was not accepted is sent again by the next process, with the same number. An accepted
// post is not.
func TestDeliverOverARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pulse.db")
	synctest.Test(t, func(t *testing.T) {
		var got arrivals
		up := false
		numbers := map[string][]string{}
		o := Options{Journal: emptyJournal{}, Transport: transport(func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			numbers[string(body)] = append(numbers[string(body)], r.Header.Get("X-Pulse-Delivery"))
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			if !up && string(body) == "2" {
				return answer(r, 503), nil
			}
			got.add(r)
			return answer(r, 200), nil
		})}
		o.DB = openDB(t, path)
		a := startAlerts(t, o)
		id := alertTo(t, a, "http://h/")
		queue(t, a, id, 1, 3)
		synctest.Wait()
		stopAlerts(t, a)
		if err := o.DB.Close(); err != nil {
			t.Fatal(err)
		}
		up = true
		o.DB = openDB(t, path)
		a = startAlerts(t, o)
		synctest.Wait()
		if got.String() != "/1 /2 /3" {
			t.Error(got.String())
		}
		if n := numbers["2"]; len(n) != 2 || n[0] != n[1] || n[0] == numbers["1"][0] {
			t.Errorf("%v", numbers)
		}
		stopAlerts(t, a)
	})
}

func TestDeliverGivesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pulse.db")
	synctest.Test(t, func(t *testing.T) {
		var got arrivals
		a := startAlerts(t, Options{DB: openDB(t, path), Journal: emptyJournal{}, Transport: transport(func(r *http.Request) (*http.Response, error) {
			got.add(r)
			switch r.URL.Path {
			case "/gone":
				return answer(r, 410), nil
			case "/busy":
				return answer(r, 429), nil
			}
			<-r.Context().Done() // it hangs
			return nil, r.Context().Err()
		})})
		gone, busy, hang := alertTo(t, a, "http://h/gone"), alertTo(t, a, "http://h/busy"), alertTo(t, a, "http://h/hang")
		queue(t, a, gone, 1, 2)
		queue(t, a, busy, 1, 1)
		queue(t, a, hang, 1, 1)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := strings.Count(got.String(), "/gone1"); n != postRefusals || strings.Count(got.String(), "/gone2") != postRefusals {
			t.Errorf("refused %d times", n)
		}
		if v, err := a.Get(hang); err != nil || v.Status.DeliveryError != "no answer within 10s" || v.Status.Undelivered != 1 {
			t.Errorf("%+v, %v", v.Status, err)
		}
		if v, err := a.Get(busy); err != nil || v.Status.DeliveryError != "the receiver answered 429 Too Many Requests" || v.Status.Undelivered != 1 {
			t.Errorf("%+v, %v", v.Status, err)
		}
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		for _, id := range []string{gone, busy, hang} {
			if v, err := a.Get(id); err != nil || v.Status.Undelivered != 0 || v.Status.DeliveryError == "" {
				t.Errorf("%+v, %v", v.Status, err)
			}
		}
		stopAlerts(t, a)
	})
}

// The queue of an alert is bounded: the oldest posts are dropped first. A deleted alert posts
// nothing more.
func TestDeliverBounds(t *testing.T) {
	a, err := New(Options{DB: newDB(t), Instance: "T", Journal: emptyJournal{}})
	if err != nil {
		t.Fatal(err)
	}
	one, other := alertTo(t, a, "http://h/"), alertTo(t, a, "http://h/")
	queue(t, a, one, 1, maxQueue+5)
	queue(t, a, other, 1, 1)
	heads, err := a.store.heads()
	if err != nil || len(heads) != 2 {
		t.Fatalf("%v, %v", heads, err)
	}
	for _, h := range heads {
		if _, body, _, err := a.store.load(h); h.id == one && string(body) != "6" || err != nil {
			t.Errorf("the first is %s, %v", body, err)
		}
	}
	if v, _ := a.Get(one); v.Status.Undelivered != maxQueue {
		t.Errorf("%+v", v.Status)
	}
	if err := a.Delete(one); err != nil {
		t.Fatal(err)
	}
	if heads, err = a.store.heads(); err != nil || len(heads) != 1 || heads[0].id != other {
		t.Errorf("%v, %v", heads, err)
	}
	stopAlerts(t, a)
}

func TestDeliverRedirects(t *testing.T) {
	var got arrivals
	mux := http.NewServeMux()
	mux.HandleFunc("/308", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/end", http.StatusPermanentRedirect)
	})
	mux.HandleFunc("/302", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/end", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/loop", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/scheme", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+r.Host+"/end", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/linklocal", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/end", func(_ http.ResponseWriter, r *http.Request) { got.add(r) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	a := startAlerts(t, Options{Journal: emptyJournal{}})
	for path, want := range map[string]string{
		"/308": "", "/302": "loses the body", "/loop": "redirected too often", "/scheme": "redirected from http to https",
		"/linklocal": "it leads to a link-local address (169.254.0.0/16, fe80::/10), and alerts are not posted there",
	} {
		id := alertTo(t, a, srv.URL+path)
		queue(t, a, id, 1, 1)
		eventually(t, path, func() bool {
			v, err := a.Get(id)
			if err != nil {
				t.Fatal(err)
			}
			return want == "" && v.Status.LastDelivery != nil || want != "" && strings.Contains(v.Status.DeliveryError, want)
		})
	}
	if got.String() != "/end1" {
		t.Errorf("arrived: %s", &got)
	}
}
