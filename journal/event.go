package journal

import "time"

// Event is one poll's reply: everything a relay answered at one moment.
// It is what the journal stores and what every projection is computed from.
type Event struct {
	// Relay is the id of the relay that answered.
	Relay string
	// Time is when the reply arrived, in nanoseconds since 1970 UTC. It is the time of every
	// point made from the event, so that a replay overwrites and never adds.
	Time int64
	// Collectors are the collectors that answered, in the order of the reply.
	Collectors []Collector
}

// Collector is one collector's part of an [Event].
type Collector struct {
	// Name is the name under which the relay added the collector.
	Name string
	// Tags are the collector's tags as the relay sent them: `key:value` or a bare word.
	Tags []string
	// Stats are the readings, in the order of the reply.
	Stats []Stat
}

// Stat is one reading of one stat.
type Stat struct {
	// ID names the stat.
	ID string
	// Value is the reading. NaN and infinities cannot be stored.
	Value float64
}

// Readings counts the readings of the event.
func (e *Event) Readings() int {
	n := 0
	for i := range e.Collectors {
		n += len(e.Collectors[i].Stats)
	}
	return n
}

// RelayEventKind says what happened to a relay or to one of its collectors.
type RelayEventKind string

// The kinds of relay events.
const (
	RelayConnected    RelayEventKind = "connected"    // a relay identified itself
	RelayDisconnected RelayEventKind = "disconnected" // its connection ended; Reason says why
	RelayAdded        RelayEventKind = "added"        // it added a collector
	RelayRemoved      RelayEventKind = "removed"      // it removed a collector, or did not add it again in time
	RelayOverride     RelayEventKind = "override"     // an override of the poll interval began, or ended (Duration 0)
	RelayForgotten    RelayEventKind = "forgotten"    // it is not expected to come back: a person said so, or it was away for too long
)

// RelayEvent is something that happened to a relay. Fields that do not belong to the kind are
// empty and are not stored.
type RelayEvent struct {
	// Relay is the relay's id, Time the moment in nanoseconds since 1970 UTC.
	Relay string
	Time  int64
	// Kind says what happened.
	Kind RelayEventKind
	// Collector is the collector's name (added, removed, override); Tags are its tags (added).
	Collector string
	Tags      []string
	// Addr is the relay's remote address (connected).
	Addr string
	// Reason is why it happened, for people.
	Reason string
	// Duration and Interval are an override's; they are stored in whole milliseconds.
	Duration time.Duration
	Interval time.Duration
}

// Record is one entry of the journal as a [Reader] returns it. Exactly one of Event, Relay and Err is set.
//
// A record and everything it points to is valid until the next Read of the same Reader; the strings
// are interned and stay valid for ever.
type Record struct {
	// Seq is the journal's sequence number of the record.
	Seq uint64
	// Event is the poll's reply, if the record is one.
	Event *Event
	// Relay is the relay event, if the record is one.
	Relay *RelayEvent
	// Err says why the record could not be decoded (a *[DecodeError], or [ErrSubject]). The record counts as read.
	Err error
}
