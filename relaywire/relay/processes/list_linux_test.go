package processes

import (
	"math"
	"os"
	"testing"
	"time"
)

const statLine = "4321 (a (b) c) S 1 4321 4321 0 -1 4194560 1563 0 0 0 250 50 0 0 20 0 12 0 98765 1263386624 512 18446744073709551615 1 1 0 0\n"

func TestParseStat(t *testing.T) {
	comm, fields, ok := cutStat([]byte(statLine))
	if !ok || string(comm) != "a (b) c" {
		t.Fatalf("%q", comm)
	}
	p, alive, err := parseStat(fields)
	if err != nil || !alive || p.cpu != 3*time.Second || p.id.started != 98765 || p.rss != float64(512*os.Getpagesize()) {
		t.Error(p, alive, err)
	}
	if _, alive, err := parseStat([]byte(" Z 1 2")); alive || err != nil {
		t.Error("a zombie", alive, err)
	}
	for _, bad := range []string{"", " S 1", " S 1 4321 4321 0 -1 4194560 1563 0 0 0 x 50 0 0 20 0 12 0 98765 1263386624 512"} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q", bad)
		}
	}
}

func TestFullName(t *testing.T) {
	for _, c := range [][3]string{
		{"prometheus-node", "/usr/bin/prometheus-node-exporter\x00--x\x00", "prometheus-node-exporter"}, {"prometheus-node", "", "prometheus-node"},
		{"prometheus-node", "other title", "prometheus-node"},
	} {
		if got := fullName(c[0], []byte(c[1])); got != c[2] {
			t.Errorf("%q of %q: %q", c[0], c[1], got)
		}
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte(statLine))
	f.Add([]byte("1 (x) Z 1"))
	f.Add([]byte(")("))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, fields, ok := cutStat(text)
		if !ok {
			return
		}
		if p, _, err := parseStat(fields); err == nil && (p.rss < 0 || math.IsNaN(p.rss)) {
			t.Error(p)
		}
	})
}
