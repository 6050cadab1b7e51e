package source

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// sayInterval is how often at most a source logs what it left out.
const sayInterval = time.Minute

// Rejects counts what a source left out, by reason. Its methods may be called from any goroutine.
type Rejects struct {
	log    *slog.Logger
	source string

	mu      sync.Mutex // guards the fields below
	counts  map[string]uint64
	unsaid  map[string]uint64
	example string // the first one that is unsaid
	said    time.Time
}

// NewRejects returns counters of a source. A nil logger logs nothing.
func NewRejects(log *slog.Logger, source string) *Rejects {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Rejects{log: log, source: source, counts: map[string]uint64{}, unsaid: map[string]uint64{}}
}

// Add counts n for a reason. The reasons of a source are few fixed words. where is an example, such
// as a file and a line. Add logs unless something was logged less than a minute ago.
func (r *Rejects) Add(reason string, n int, where string) {
	if n <= 0 {
		return
	}
	r.mu.Lock()
	r.counts[reason] += uint64(n)
	r.unsaid[reason] += uint64(n)
	if r.example == "" {
		r.example = fmt.Sprintf("%s: %.200q", reason, where)
	}
	r.mu.Unlock()
	r.Say()
}

// Say logs what was counted since the last log line, if that is a minute ago. A source calls it at
// each look, so that the last counts are said too.
func (r *Rejects) Say() {
	r.mu.Lock()
	if len(r.unsaid) == 0 || !r.said.IsZero() && time.Since(r.said) < sayInterval {
		r.mu.Unlock()
		return
	}
	var counts []string
	for _, reason := range slices.Sorted(maps.Keys(r.unsaid)) {
		counts = append(counts, fmt.Sprintf("%d of %s", r.unsaid[reason], reason))
	}
	example := r.example
	clear(r.unsaid)
	r.example, r.said = "", time.Now()
	r.mu.Unlock()
	r.log.Warn("relay: "+r.source+" leaves out what makes no sense; this is said once a minute", "reasons", strings.Join(counts, ", "), "first", example)
}

// Counts returns how often each reason was counted.
func (r *Rejects) Counts() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}
