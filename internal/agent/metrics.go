package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nanopack/pulse/relaywire/relay"
)

// serveMetrics serves /metrics in Prometheus' text form until ctx ends, and returns what waits for
// its end.
func serveMetrics(ctx context.Context, listener net.Listener, h *HostRelay, log *slog.Logger) (wait func()) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		h.writeMetrics(w)
	})
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("/metrics is not served any more", "error", err)
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	return func() {
		stop()
		_ = server.Close() // what a scraper still reads is cut off
		<-done
	}
}

// A metric is one name with its samples, as text.
type metric struct {
	kind, help string
	samples    []string
}

// writeMetrics writes how the agent is doing, and the last value of each stat with its unit.
func (h *HostRelay) writeMetrics(w io.Writer) {
	all := make(map[string]*metric)
	add := func(name, kind, help, labels string, value float64) {
		m := all[name]
		if m == nil {
			m = &metric{kind: kind, help: help}
			all[name] = m
		}
		m.samples = append(m.samples, labels+" "+strconv.FormatFloat(value, 'g', -1, 64))
	}
	for _, info := range h.Info() {
		for stat, value := range info.Values {
			help := "Last value sent."
			if unit := info.Units[stat]; unit != "" {
				help = "Last value sent, in " + unit + "."
			}
			add(metricName(stat), "gauge", help, h.labels(info), value)
		}
		if info.Panics+info.Timeouts > 0 {
			add("pulse_relay_collector_failures_total", "counter", "Polls without this collector: it panicked or took too long.", h.labels(info, "collector", info.Name), float64(info.Panics+info.Timeouts))
		}
	}
	s := h.State()
	connected := 0.0
	if s.Connected {
		connected = 1
	}
	for _, m := range []struct {
		name, kind, help string
		value            float64
	}{
		{"connected", "gauge", "1 while a server has accepted this relay.", connected},
		{"connects_total", "counter", "Times that a server accepted this relay.", float64(s.Connects)},
		{"complaints_total", "counter", "Error lines of the server.", float64(s.Complaints)},
		{"polls_total", "counter", "Polls answered.", float64(s.Polls)},
		{"readings_total", "counter", "Readings in the answers.", float64(s.Readings)},
		{"spool_records_waiting", "gauge", "Records that wait for the server.", float64(s.Spool.Waiting)},
		{"spool_bytes", "gauge", "Space that the spool takes.", float64(s.Spool.Bytes)},
		{"spool_readings_collected_total", "counter", "Readings taken while no server polled.", float64(s.Spool.Collected)},
		{"spool_records_recalled_total", "counter", "Records handed over later.", float64(s.Spool.Recalled)},
		{"spool_readings_dropped_total", "counter", "Readings dropped because the spool was full, since it was made.", float64(s.Spool.Dropped)},
		{"spool_records_damaged_total", "counter", "Records of the spool that could not be read.", float64(s.Spool.Damaged)},
		{"spool_failures_total", "counter", "Times that the disk of the spool failed.", float64(s.Spool.Failures)},
	} {
		add("pulse_relay_"+m.name, m.kind, m.help, "", m.value)
	}
	for name, rejected := range h.rejected() {
		for reason, n := range rejected {
			add("pulse_relay_rejected_total", "counter", "Lines and values of a source that made no sense, by reason.",
				fmt.Sprintf(`{source=%s,reason=%s}`, labelValue(name), labelValue(reason)), float64(n))
		}
	}
	out := bufio.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		slices.Sort(m.samples)
		fmt.Fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(m.help), name, m.kind)
		for _, sample := range slices.Compact(m.samples) {
			fmt.Fprintf(out, "%s%s\n", name, sample)
		}
	}
	_ = out.Flush() // it fails only when the scraper is gone
}

// labels are those of a collector's stats: the host, its tags of the form key:value, and more.
func (h *HostRelay) labels(info relay.Info, more ...string) string {
	all := map[string]string{"host": h.options.ID}
	for _, tag := range info.Tags {
		if key, value, ok := strings.Cut(tag, ":"); ok && key != "host" {
			all[strings.ReplaceAll(metricName(key), ":", "_")] = value
		}
	}
	for i := 0; i+1 < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	var b strings.Builder
	for i, key := range slices.Sorted(maps.Keys(all)) {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(key + "=" + labelValue(all[key]))
	}
	return b.String() + "}"
}

func labelValue(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "\uFFFD")) + `"`
}

// metricName replaces what a name of Prometheus may not hold by '_'.
func metricName(s string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == ':':
			return r
		}
		return '_'
	}, s)
	if name == "" || name[0] <= '9' && name[0] >= '0' {
		return "_" + name
	}
	return name
}
