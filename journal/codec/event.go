// Package codec is the event and its bytes: what the journal stores of a poll's reply or of a
// change of a relay, as JSON, and the NATS subject under which it is stored.
//
// [EncodeEvent] and [EncodeRelayEvent] write one form only, which golden files hold: what a version
// wrote stays readable, and the same event is always the same bytes. A [Decoder] takes any JSON of
// the schema, keeps the strings that it has seen, and does not allocate in a steady state. Nothing
// here blocks or keeps what it is given.
package codec

import "time"

// Event is one poll's reply: everything a relay answered at one moment.
// It is what the journal stores and what every projection is computed from.
type Event struct {
	// Relay is the id of the relay that answered.
	Relay string
	// Time is when the reply arrived (but see Past), in nanoseconds since 1970 UTC. It is the time of every
	// point made from the event, so that a replay overwrites and never adds.
	Time int64
	// Collectors are the collectors that answered, in the order of the reply.
	Collectors []Collector
	// Spool says which record of the relay's spool the event is. It is zero if the relay has none.
	Spool Spool
	// Past reports that the record waited in the spool: Time is when it was taken, which may be long
	// before it came.
	Past bool
	// Edge is the name of the edge from whose journal a hub took the event, "" for an event of this
	// Pulse's own relays. Origin is the event's number in the journal of the edge.
	Edge   string
	Origin int64
}

// RelayKey names a relay: the edge that it belongs to, "" for this Pulse, and its id there. Relays of
// two edges may have the same id.
type RelayKey struct{ Edge, Relay string }

// Key names the relay that answered.
func (e *Event) Key() RelayKey { return RelayKey{e.Edge, e.Relay} }

// Key names the relay to which it happened.
func (e *RelayEvent) Key() RelayKey { return RelayKey{e.Edge, e.Relay} }

// Spool names records of a relay's spool: with the event that has it, the journal holds all records
// First to Seq of the spool ID.
type Spool struct {
	ID         uint32
	First, Seq int64 // 1 <= First <= Seq
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

	// RelaySkipped is the kind of the events that stand for sequence numbers that were left out.
	// They belong to no relay.
	RelaySkipped RelayEventKind = "skipped"
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
	// Edge and Origin are as in an [Event].
	Edge   string
	Origin int64
}
