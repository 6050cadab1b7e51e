package agent

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/relaywire/relay"
)

// /metrics has the last values with their units, and what the sources left out, in a form that
// Prometheus reads.
func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.prom"), []byte("size_bytes{path=\"/a \\\"b\"} 5\nnonsense here and there\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	log := slog.New(slog.DiscardHandler)
	h, err := NewHostRelay(relay.Options{Address: server.Addr().String(), ID: `web"1`, Logger: log, Spool: &relay.SpoolOptions{}},
		[]string{"rack:7", "guy"}, Sources{Textfile: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.AddCollector("load", nil, relay.WithUnits(relay.NewPointCollector(func() float64 { return 1.5 }), func(string) string { return "processes" })); err != nil {
		t.Fatal(err)
	}
	conn, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	names := pollAll(t, conn)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer serveMetrics(t.Context(), listener, h, log)()
	res, err := http.Get("http://" + listener.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(string(text))); err != nil {
		t.Errorf("Prometheus does not read it: %v", err)
	}
	for _, want := range []string{
		"# HELP load Last value sent, in processes.\n# TYPE load gauge\nload{host=\"web\\\"1\"} 1.5\n",
		"# HELP size_bytes Last value sent, in bytes.\n# TYPE size_bytes gauge\nsize_bytes{host=\"web\\\"1\",path=\"/a \\\"b\",rack=\"7\"} 5\n",
		"\npulse_relay_connected 1\n", "\npulse_relay_spool_readings_dropped_total 0\n", `pulse_relay_rejected_total{source="textfile",reason="`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("/metrics has no %q; it polled %q:\n%s", want, names, text)
		}
	}
	res, err = http.Get("http://" + listener.Addr().String() + "/")
	if err != nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("/: %v, %v", res, err)
	}
	res.Body.Close()
}

// pollAll accepts the relay, waits for its adds, and polls what it added.
func pollAll(t *testing.T, conn net.Conn) (names []string) {
	t.Helper()
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		var rest string
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			rest += string(buf[:n])
			for {
				line, more, ok := strings.Cut(rest, "\n")
				if !ok {
					break
				}
				lines <- line
				rest = more
			}
			if err != nil {
				return
			}
		}
	}()
	say := func(text string) {
		if _, err := fmt.Fprintln(conn, text); err != nil {
			t.Fatal(err)
		}
	}
	for line := range lines {
		switch name, isAdd := strings.CutPrefix(line, "add "); {
		case strings.HasPrefix(line, "id "):
			say("ok")
		case isAdd:
			name, _, _ := strings.Cut(name, ":")
			if names = append(names, name); len(names) == 3 { // the file, its age, and load
				say("get " + strings.Join(names, ","))
			}
		case strings.HasPrefix(line, "got "):
			return names
		}
	}
	t.Fatalf("the relay left; it had added %q", names)
	return nil
}

func TestMetricsAddressTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var out, said strings.Builder
	code := Command("relay", nil)(t.Context(), []string{"--server", "127.0.0.1:1", "--metrics-address", taken.Addr().String()}, &out, &said)
	if code != command.ExitFailure || !strings.Contains(said.String(), "--metrics-address") || out.Len() != 0 {
		t.Errorf("code %d, %q, %q", code, said.String(), out.String())
	}
}
