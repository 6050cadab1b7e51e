package query

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/kapa"
)

const trialBody = `{"metric": "cpu_used", "threshold": 80, "from": "2d"}`

// One alert is tried at a time. A client that leaves ends its trial, and the next one begins.
func TestTrialsOneAtATime(t *testing.T) {
	w := startWorld(t, func(o *Options) { o.QueryTimeout = 7 * time.Second })
	began, ended := make(chan kapa.TrialRequest, 2), make(chan error, 2)
	w.alerts.try = func(ctx context.Context, q kapa.TrialRequest) (kapa.Trial, error) {
		began <- q
		<-ctx.Done()
		ended <- ctx.Err()
		return kapa.Trial{}, ctx.Err()
	}
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		request, err := http.NewRequestWithContext(ctx, "POST", w.url+"/alerts/test", strings.NewReader(trialBody))
		if err == nil {
			request.Header.Set("X-AUTH-TOKEN", testToken)
			_, err = w.client.Do(request) //nolint:bodyclose // it fails
		}
		gone <- err
	}()
	q := <-began
	if q.Alert.Metric != "cpu_used" || !q.From.Equal(testNow.Truncate(time.Second).Add(-48*time.Hour)) || !q.To.Equal(testNow.Truncate(time.Second)) || q.Limit != 7*time.Second {
		t.Errorf("tried was %+v", q)
	}
	second := make(chan answer, 1)
	go func() { second <- w.do(t, "POST", "/alerts/test", trialBody) }()
	a := <-second
	a.contains(t, 503, "another alert is being tested: try again in a moment")
	if a.header.Get("Retry-After") == "" {
		t.Error("there is no Retry-After")
	}
	leave()
	if err := <-ended; err == nil || <-gone == nil {
		t.Error("the trial did not end with its client")
	}
	w.alerts.try = nil
	w.do(t, "POST", "/alerts/test", trialBody).contains(t, 200, `"posts":[]`)
}

// A trial ends with the server.
func TestTrialEndsAtTheStop(t *testing.T) {
	w := startWorld(t, nil)
	began := make(chan struct{})
	w.alerts.try = func(ctx context.Context, _ kapa.TrialRequest) (kapa.Trial, error) {
		close(began)
		<-ctx.Done()
		return kapa.Trial{}, ctx.Err()
	}
	said := make(chan answer, 1)
	go func() { said <- w.do(t, "POST", "/alerts/test", trialBody) }()
	<-began
	if err := w.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	a := <-said
	a.contains(t, 503, "the server stops")
}

// A metric of which nothing matched is probably misspelled.
func TestTrialOfTheUnseen(t *testing.T) {
	w := startWorld(t, nil)
	w.latest.stats = []string{"cpu_used"}
	w.do(t, "POST", "/alerts/test", `{"metric": "cpu_usd", "threshold": 80, "from": "2d"}`).contains(t, 200, `did you mean \"cpu_used\"?`)
}
