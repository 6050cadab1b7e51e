package agent

import (
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

// claims keep two collectors from answering one series, whose history would be a mix of both: a stat
// with the same tags belongs to one of them. The host's own stats go before those of files and
// commands, otherwise the collector that came first keeps it.
type claims struct {
	rejects *source.Rejects

	mu     sync.Mutex // guards owners
	owners map[string]owner
}

type owner struct {
	collector string
	rank      int // of its source: the lowest goes first
}

func newClaims(log *slog.Logger) *claims {
	return &claims{rejects: source.NewRejects(log, "the agent"), owners: make(map[string]owner)}
}

// collector returns c without the stats that belong to another collector.
func (c *claims) collector(name string, tags []string, rank int, inner relay.Collector) relay.Collector {
	sorted := slices.Sorted(slices.Values(tags))
	series := strings.Join(slices.Compact(sorted), ",") + "\n"
	return relay.CollectorFunc(func() map[string]float64 {
		values := inner.Collect()
		for stat := range values {
			id := stat
			if id == "" {
				id = name
			}
			if other := c.take(series+id, owner{name, rank}); other != "" {
				delete(values, stat)
				c.rejects.Add("stat of another collector", 1, id+" of "+name+", which "+other+" has too")
			}
		}
		return values
	})
}

// take returns the collector that has the series, or "" if it is by's from now on.
func (c *claims) take(series string, by owner) (other string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	has, taken := c.owners[series]
	if taken && has.collector != by.collector && has.rank <= by.rank {
		return has.collector
	}
	c.owners[series] = by
	return ""
}

// release gives up what a collector has.
func (c *claims) release(collector string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for series, has := range c.owners {
		if has.collector == collector {
			delete(c.owners, series)
		}
	}
}
