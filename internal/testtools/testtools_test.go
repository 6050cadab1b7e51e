package testtools_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
)

func get(t *testing.T, address string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, err.Error() // no server is there
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// A server keeps its address and its data when it is stopped or killed, and does not answer before
// it is started again.
func TestInfluxdRestart(t *testing.T) {
	for _, version := range []testtools.InfluxDB{testtools.InfluxDB18, testtools.InfluxDB16} {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			s := testtools.StartInfluxd(t, version)
			if status, body := get(t, s.Addr+"/query?q=CREATE+DATABASE+kept"); status != http.StatusOK || strings.Contains(body, "error") {
				t.Fatalf("status %d: %s", status, body)
			}
			addr := s.Addr
			for name, end := range map[string]func(){"stop": s.Stop, "kill": s.Kill} {
				end()
				if status, _ := get(t, addr+"/ping"); status != 0 {
					t.Fatalf("after %s: status %d from a server that is gone", name, status)
				}
				s.Restart()
				if s.Addr != addr {
					t.Fatalf("after %s: address %s, was %s", name, s.Addr, addr)
				}
				if _, body := get(t, addr+"/query?q=SHOW+DATABASES"); !strings.Contains(body, `"kept"`) {
					t.Fatalf("after %s: %s", name, body)
				}
			}
		})
	}
}

func TestSettingsReachTheServer(t *testing.T) {
	t.Parallel()
	s := testtools.StartInfluxd(t, testtools.InfluxDB18, testtools.Setting{Section: "http", Line: "auth-enabled = true"})
	if status, body := get(t, s.Addr+"/query?q=SHOW+DATABASES"); status == http.StatusOK && !strings.Contains(body, "error") {
		t.Fatalf("status %d: %s", status, body)
	}
}

func TestKapacitord(t *testing.T) {
	t.Parallel()
	influx := testtools.StartInfluxd(t, testtools.InfluxDB18)
	s := testtools.StartKapacitord(t, influx.Addr)
	if status, body := get(t, s.Addr+"/kapacitor/v1/tasks"); status != http.StatusOK || !strings.Contains(body, `"tasks"`) {
		t.Fatalf("status %d: %s", status, body)
	}
	s.Stop()
	s.Restart()
	if status, _ := get(t, s.Addr+"/kapacitor/v1/ping"); status != http.StatusNoContent {
		t.Fatalf("status %d after a restart", status)
	}
}
