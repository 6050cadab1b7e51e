package main

import (
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	small, large := size{100, 10, time.Second}, size{1000, 10, time.Second}
	s := &sitting{sizes: []size{small, large}, servers: contenders}
	results := map[cell]result{
		{small, "pulse"}:            {cpu: 10, rss: 50 << 20, peak: 60 << 20, written: 150, grown: 40},
		{small, "pulse-0.2"}:        {cpu: 20, rss: 200 << 20, peak: 210 << 20, written: 300, grown: 80},
		{small, "victoria-metrics"}: {cpu: 40, rss: 100 << 20, peak: 110 << 20, written: 12.34, grown: 0.4},
		{small, "prometheus"}:       {cpu: 30, rss: 220 << 20, peak: 230 << 20, written: 11, grown: 1.2},
		{small, "influxdb"}:         {cpu: 50, rss: 101 << 20, peak: 120 << 20, written: 400, grown: 3},
		{large, "pulse"}:            {cpu: 10, rss: 50 << 20, peak: 60 << 20, written: 150, grown: 40},
	}
	const want = `
| what | Pulse, ten stats a collector | Pulse, a collector a stat | VictoriaMetrics | Prometheus | InfluxDB 1.8 | limit | ratio |  |
|---|---|---|---|---|---|---|---|---|
| 100 x 10 every 1s: CPU of a reading, µs | 10.0 | 20.0 | 40.0 | 30.0 | 50.0 | 30.0 Prometheus | 3.00, 1.50, at least 1 | ok |
| 100 x 10 every 1s: RSS, MiB (peak) | 50 (60) | 200 (210) | 100 (110) | 220 (230) | 101 (120) | 100 VictoriaMetrics | 2.00, 0.50, at least 1 | **missed** |
| 100 x 10 every 1s: written for a reading, bytes | 150 | 300 | 12.3 | 11.0 | 400 | 11.0 Prometheus | 0.07, 0.04 |  |
| 100 x 10 every 1s: disk of a reading, bytes | 40.0 | 80.0 | 0.4 | 1.2 | 3.0 | 0.4 VictoriaMetrics | 0.01, 0.01 |  |
| 1000 x 10 every 1s: CPU of a reading, µs | 10.0 | failed | failed | failed | failed | - |  |  |
| 1000 x 10 every 1s: RSS, MiB (peak) | 50 (60) | failed | failed | failed | failed | - |  |  |
| 1000 x 10 every 1s: written for a reading, bytes | 150 | failed | failed | failed | failed | - |  |  |
| 1000 x 10 every 1s: disk of a reading, bytes | 40.0 | failed | failed | failed | failed | - |  |  |
`
	table := newTable(s, results)
	var b strings.Builder
	table.print(&b, true)
	if got := "\n" + b.String(); got != want {
		t.Errorf("got%s", got)
	}
	if !table.missed {
		t.Error("nothing is missed")
	}
	b.Reset()
	table.print(&b, false)
	if text := b.String(); strings.Count(text, "MISSED") != 1 || strings.Contains(text, "|") {
		t.Errorf("got\n%s", text)
	}

	s.long, s.sizes = true, s.sizes[:1]
	s.servers = contenders[2:]
	b.Reset()
	table = newTable(s, results)
	table.print(&b, true)
	if text := b.String(); table.missed || strings.Contains(text, "at least") || !strings.Contains(text, "disk after ten minutes") {
		t.Errorf("without Pulse:\n%s", text)
	}
}
