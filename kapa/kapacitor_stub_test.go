package kapa

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// stub answers as Kapacitor does, unless fail has another answer.
type stub struct {
	mu       sync.Mutex // guards the fields below
	tasks    map[string]task
	template string
	fail     func(method, path string) (status int, body string) // 0: answer normally; -1: hang up
	calls    []string
	dies     string // why each task ends at once
	refuse   string // tasks for this metric are refused
}

func newStub(tb testing.TB) (*stub, string) {
	s := &stub{tasks: map[string]task{}}
	srv := httptest.NewServer(s)
	tb.Cleanup(srv.Close)
	return s, srv.URL
}

func (s *stub) set(fail func(method, path string) (int, string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/kapacitor/v1/")
	kind, id, _ := strings.Cut(path, "/")
	s.calls = append(s.calls, r.Method+" "+kind)
	if s.fail != nil {
		if status, body := s.fail(r.Method, kind); status == -1 {
			panic(http.ErrAbortHandler)
		} else if status != 0 {
			if status == 500 && r.Method == http.MethodPost && kind == "tasks" { // but it is stored
				var t task
				_ = json.NewDecoder(r.Body).Decode(&t)
				s.tasks[t.ID] = t
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
			return
		}
	}
	switch {
	case kind == "templates" && r.Method == http.MethodGet:
		if s.template == "" {
			w.WriteHeader(404)
			_, _ = w.Write([]byte(`{"error":"no template exists"}`))
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"script": s.template})
	case kind == "templates":
		var t struct{ Script string }
		_ = json.NewDecoder(r.Body).Decode(&t)
		s.template = t.Script
	case r.Method == http.MethodGet:
		var all []task
		for _, t := range s.tasks {
			t.Executing, t.Error = t.Status == "enabled" && s.dies == "", s.dies
			all = append(all, t)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"tasks": all})
	case r.Method == http.MethodPost:
		var t task
		_ = json.NewDecoder(r.Body).Decode(&t)
		if q, _ := t.Vars["q"].Value.(string); s.refuse != "" && strings.Contains(q, s.refuse) {
			w.WriteHeader(400)
			_, _ = w.Write([]byte(`{"error":"no such metric"}`))
			return
		}
		if _, ok := s.tasks[t.ID]; ok {
			w.WriteHeader(400)
			_, _ = w.Write([]byte(`{"error":"task already exists"}`))
			return
		}
		s.tasks[t.ID] = t
	case r.Method == http.MethodPatch:
		t := s.tasks[id]
		_ = json.NewDecoder(r.Body).Decode(&t)
		s.tasks[id] = t
	case r.Method == http.MethodDelete:
		delete(s.tasks, id)
		w.WriteHeader(204)
	}
}

// Every step of a pass gets every answer that is not a success. The alert shows the error, and runs
// as soon as possible.
func TestKapacitorErrors(t *testing.T) {
	for _, at := range []string{"GET tasks", "GET templates", "POST templates", "POST tasks", "PATCH tasks", "DELETE tasks"} {
		for _, tt := range []struct {
			status int
			body   string
			want   string
		}{
			{-1, "", "does not answer"},
			{400, `{"error":"no good"}`, "no good"},
			{401, `{"error":"who are you"}`, "refuses the login"},
			{404, `not found`, "404"},
			{500, `{"error":"it broke"}`, "it broke"},
			{503, `<html>`, "503"},
			{200, `<html>`, "not a Kapacitor"},
			{302, ``, "302"},
		} {
			if tt.status == 200 && !strings.HasPrefix(at, "GET") || at == "GET templates" && tt.status == 404 {
				continue
			}
			s, address := newStub(t)
			store, err := openStore(newDB(t))
			if err != nil {
				t.Fatal(err)
			}
			o, err := Options{DB: store.db, Instance: "TEST", Kapacitor: address}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			k, err := newKapacitor(store, o)
			if err != nil {
				t.Fatal(err)
			}
			a, err := k.put(sampleAlert().withDefaults())
			if err != nil {
				t.Fatal(err)
			}
			// The pass has one task to change and one to delete.
			s.tasks["pulse-TEST-leftover"] = task{ID: "pulse-TEST-leftover", Status: "enabled"}
			if at == "PATCH tasks" {
				s.tasks["pulse-TEST-"+a.ID] = task{ID: "pulse-TEST-" + a.ID, Status: "enabled"}
			}
			s.set(func(method, kind string) (int, string) {
				if method+" "+kind == at {
					return tt.status, tt.body
				}
				return 0, ""
			})
			_, err = k.pass(t.Context())
			var answer *KapacitorError
			if !errors.As(err, &answer) && !strings.Contains(errString(err), tt.want) || !strings.Contains(errString(err), tt.want) {
				t.Errorf("%s %d: %v", at, tt.status, err)
			}
			if got, _ := k.status(a.ID, false); got.State == Executing && at != "DELETE tasks" || got.State == "" {
				t.Errorf("%s %d: %+v", at, tt.status, got)
			}
			s.set(nil)
			for range 2 {
				if _, err := k.pass(t.Context()); err != nil {
					t.Errorf("%s %d: afterwards: %v", at, tt.status, err)
				}
			}
			if got, _ := k.status(a.ID, false); !reflect.DeepEqual(got, Status{State: Executing}) || len(s.tasks) != 1 {
				t.Errorf("%s %d: afterwards: %+v, tasks %v", at, tt.status, got, s.tasks)
			}
			// If all is well, a pass only reads.
			s.calls = nil
			if _, err := k.pass(t.Context()); err != nil || strings.Join(s.calls, ", ") != "GET tasks, GET templates" {
				t.Errorf("%s %d: an idle pass: %v, %v", at, tt.status, s.calls, err)
			}
			k.client.close()
		}
	}
}

func errString(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// If Kapacitor refuses one alert, the others still run.
func TestKapacitorRefusesOne(t *testing.T) {
	s, address := newStub(t)
	s.refuse = "bad"
	a := startAlerts(t, Options{Kapacitor: address})
	alert := sampleAlert()
	good, err := a.Create(alert)
	if err != nil {
		t.Fatal(err)
	}
	alert.Metric = "bad"
	bad, err := a.Create(alert)
	if err != nil {
		t.Fatal(err)
	}
	if v := waitState(t, a, bad.ID, Failed); !strings.Contains(v.Status.Error, "no such metric") {
		t.Errorf("%+v", v.Status)
	}
	waitState(t, a, good.ID, Executing)
	s.mu.Lock()
	s.refuse = ""
	s.mu.Unlock()
	eventually(t, "the other runs at the next attempt", func() bool {
		v, err := a.Get(bad.ID)
		return err == nil && v.Status.State == Executing
	})
}

// The user and password of the address are sent as basic auth, and appear in no error.
func TestKapacitorLogin(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "pulse" || p != "s3cret" {
			t.Errorf("login %q %q", u, p)
		}
		w.WriteHeader(401)
	}))
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	u.User = url.UserPassword("pulse", "s3cret")
	c, err := newClient(u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if _, err := c.tasks(t.Context(), "x"); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
	srv.Close()
	if _, err := c.tasks(t.Context(), "x"); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}

// theKapacitor is the back end of alerts that Kapacitor watches.
func theKapacitor(a *Alerts) *kapacitor { return a.backend.(*kapacitor) }

func TestKapacitorHasNoDeadman(t *testing.T) {
	_, address := newStub(t)
	a := startAlerts(t, Options{Kapacitor: address})
	alert := sampleAlert()
	alert.Deadman = 10 * minute
	var field *FieldError
	if _, err := a.Create(alert); !errors.As(err, &field) || field.Field != "deadman" {
		t.Error(err)
	}
	// A deadman that was stored before Kapacitor was configured shows that it is not fully watched.
	kept, err := a.store.put(alert.withDefaults(), nil)
	if err != nil {
		t.Fatal(err)
	}
	theKapacitor(a).poke()
	if v := waitState(t, a, kept.ID, Executing); !strings.HasPrefix(v.Status.Error, "deadman is not watched") {
		t.Errorf("%+v", v.Status)
	}
}

// Kapacitor has no request that ends a group. The documented way to make it forget a host is to
// delete the alert and create it again. The new alert has a task of its own, and the old task is
// deleted.
func TestKapacitorForgetsWithTheAlert(t *testing.T) {
	s, address := newStub(t)
	a := startAlerts(t, Options{Kapacitor: address})
	alert := sampleAlert()
	alert.By = []string{"host"}
	var ids []string
	for range 2 {
		v, err := a.Create(alert)
		if err != nil {
			t.Fatal(err)
		}
		waitState(t, a, v.ID, Executing)
		if ids = append(ids, v.ID); len(ids) == 1 {
			if err := a.Delete(v.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ids[0] == ids[1] {
		t.Errorf("both are %s", ids[0])
	}
	eventually(t, "only the second has a task", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, ok := s.tasks[theKapacitor(a).prefix+ids[1]]
		return ok && len(s.tasks) == 1
	})
}

// A task that was accepted but does not run shows the reason and is tried again. When it runs, the
// reason is removed.
func TestKapacitorTaskDies(t *testing.T) {
	s, address := newStub(t)
	s.dies = "query1: no such InfluxDB config"
	a := startAlerts(t, Options{Kapacitor: address})
	v, err := a.Create(sampleAlert())
	if err != nil {
		t.Fatal(err)
	}
	if v = waitState(t, a, v.ID, Failed); !strings.Contains(v.Status.Error, s.dies) {
		t.Errorf("%+v", v.Status)
	}
	s.mu.Lock()
	s.dies = ""
	s.mu.Unlock()
	eventually(t, "it runs", func() bool {
		v, err := a.Get(v.ID)
		return err == nil && reflect.DeepEqual(v.Status, Status{State: Executing})
	})
}
