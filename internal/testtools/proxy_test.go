package testtools_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
)

// Each fault looks to a client as its comment says, and a healthy proxy changes nothing.
func TestProxy(t *testing.T) {
	var taken atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		taken.Add(1)
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Kept", "kept")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.RequestURI(), body)
	}))
	defer server.Close()
	p := testtools.StartProxy(t, server.URL)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func() (answer string, passed int32) {
		before := taken.Load()
		response, err := client.Post(p.Addr+"/a?b=c", "text/plain", strings.NewReader("body"))
		if err != nil {
			return err.Error(), taken.Load() - before
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return fmt.Sprint(response.StatusCode, " ", response.Header.Get("X-Kept"), " ", string(body), " ", err), taken.Load() - before
	}
	for _, step := range []struct {
		fault  testtools.Fault
		answer string // a part of the answer
		passed int32
	}{
		{testtools.Healthy, "202 kept POST /a?b=c body <nil>", 1},
		{testtools.Refuse, "connection refused", 0},
		{testtools.Healthy, "202 kept", 1},
		{testtools.Status500, "500 ", 0},
		{testtools.Status503, "503 ", 0},
		{testtools.Refuse, "connection refused", 0},
		{testtools.Garbage, "malformed HTTP", 0},
		{testtools.Portal, "200  <html>", 0},
		{testtools.Cut, "EOF", 1},
		{testtools.Slow, "202 kept", 1},
		{testtools.Healthy, "202 kept", 1},
	} {
		p.Set(step.fault)
		if answer, passed := ask(); !strings.Contains(answer, step.answer) || passed != step.passed {
			t.Errorf("%s: %q, passed on %d times; want %q, %d", step.fault, answer, passed, step.answer, step.passed)
		}
	}

	p.Set(testtools.Hang)
	answered := make(chan string)
	go func() { answer, _ := ask(); answered <- answer }()
	select {
	case answer := <-answered:
		t.Errorf("hang: %q", answer)
	case <-time.After(100 * time.Millisecond):
	}
	p.Set(testtools.Healthy)
	if answer := <-answered; !strings.Contains(answer, "202 kept") {
		t.Errorf("after the hang: %q", answer)
	}
}
