package ingest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/nanopack/pulse/internal/duration"
	"github.com/nanopack/pulse/relaywire"
)

const (
	// MaxOverride is how long an override may last.
	MaxOverride = 7 * 24 * time.Hour
	// MaxOverrides is how many may hold at the same time.
	MaxOverrides = 100
)

// OverrideRequest asks for some collectors to be polled at other intervals for a while.
type OverrideRequest struct {
	// Duration is how long: whole seconds, at most MaxOverride.
	Duration time.Duration
	// Collectors are their names and intervals: whole seconds, not longer than Duration.
	Collectors map[string]time.Duration
	// Relays are the ids of the relays it is for; empty means all. Those that are not connected are
	// left out.
	Relays []string
}

// Validate says what is wrong with the request by itself. The error is an *[Error] around
// ErrInvalid; its Subject is a field or a collector.
func (req OverrideRequest) Validate() error {
	if !duration.Whole(req.Duration, time.Second, MaxOverride) {
		return invalid("duration", "duration must be between 1 second and 1w, in whole seconds")
	}
	if len(req.Collectors) == 0 {
		return invalid("collectors", `collectors is empty: name at least one with its interval, like {"cpu": 5}`)
	}
	for _, name := range slices.Sorted(maps.Keys(req.Collectors)) {
		interval := req.Collectors[name]
		switch err := relaywire.CheckName(name); {
		case err != nil:
			return invalid(name, "the collector %.64q: %v", name, err)
		case !duration.Whole(interval, time.Second, math.MaxInt64):
			return invalid(name, "the interval of %s must be at least 1 second, in whole seconds", name)
		case interval > req.Duration:
			return invalid(name, "the interval of %s must be at most the duration", name)
		}
	}
	return nil
}

// invalid is ErrInvalid with a text of its own.
func invalid(subject, format string, args ...any) error {
	return &Error{Op: "override", Subject: subject, Err: &requestError{fmt.Sprintf(format, args...)}}
}

// requestError says what is wrong with a request. It is ErrInvalid to errors.Is.
type requestError struct{ text string }

func (e *requestError) Error() string   { return e.text }
func (e *requestError) Is(t error) bool { return t == ErrInvalid }

// Override is an override that holds.
type Override struct {
	ID             string
	Created, Until time.Time
	// Remaining is how long it still held when it was asked for.
	Remaining  time.Duration
	Collectors map[string]time.Duration
	// Relays are the ids of the relays that were connected when it was made, sorted. It holds for
	// no other.
	Relays []string
}

// override is an Override as it is used. It never changes.
type override struct {
	Override
	// ends is Until in the time of [env.tick]: setting the clock does not change how long it holds.
	ends  int64
	items []relaywire.OverrideItem // Collectors, by name
}

// newOverride needs the time by both clocks.
func newOverride(o Override, now time.Time, tick int64) *override {
	ov := &override{Override: o, ends: tick + int64(o.Until.Sub(now))}
	for _, name := range slices.Sorted(maps.Keys(o.Collectors)) {
		ov.items = append(ov.items, relaywire.OverrideItem{Name: name, Interval: o.Collectors[name]})
	}
	return ov
}

// holdsFor reports whether the override is for the relay.
func (o *override) holdsFor(relay string) bool {
	_, found := slices.BinarySearch(o.Relays, relay)
	return found
}

// without returns the override for its other relays.
func (o *override) without(relay string) *override {
	c := *o
	c.Relays = slices.DeleteFunc(slices.Clone(o.Relays), func(id string) bool { return id == relay })
	return &c
}

// appendLine appends the line for the time that remains.
func (o *override) appendLine(dst []byte, tick int64) []byte {
	return relaywire.AppendOverride(dst, time.Duration(o.ends-tick), o.items)
}

// appendLines appends the lines of several overrides, of which the newest is the first. Its line
// comes last: for a relay the last one counts.
func appendLines(dst []byte, overrides []*override, tick int64) []byte {
	for _, o := range slices.Backward(overrides) {
		dst = o.appendLine(dst, tick)
	}
	return dst
}

// intervals are how often the collectors of one relay are polled, at one moment.
type intervals struct {
	normal    time.Duration
	overrides []*override // those that hold for the relay, the newest first
}

// of returns how often the collector is polled.
func (i intervals) of(collector string) time.Duration {
	for _, o := range i.overrides {
		if interval, ok := o.Collectors[collector]; ok {
			return interval
		}
	}
	return i.normal
}

// describe returns a copy that the caller may change.
func (o *override) describe(tick int64) Override {
	c := o.Override
	c.Remaining = time.Duration(o.ends - tick)
	c.Collectors, c.Relays = maps.Clone(c.Collectors), slices.Clone(c.Relays)
	return c
}

// indexOverride returns the place of the override with that id, -1 if it is not there.
func indexOverride(list []*override, id string) int {
	return slices.IndexFunc(list, func(o *override) bool { return o.ID == id })
}
