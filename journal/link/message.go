package link

import "encoding/json"

// The link's version. An end says which one it speaks and the oldest that it understands.
const (
	protocol       = 1
	oldestProtocol = 1
)

type greeting struct {
	Protocol int    `json:"protocol"`
	Oldest   int    `json:"oldest"`
	Release  string `json:"release"`
}

type hello struct {
	Protocol int    `json:"protocol"`
	Oldest   int    `json:"oldest"`
	Release  string `json:"release"`
	Edge     string `json:"edge"`
	Token    string `json:"token"`
	// Instance is another one for each process, Journal for each journal.
	Instance string `json:"instance"`
	Journal  string `json:"journal"`
}

type refusal struct {
	Reason string `json:"reason"`
	// AgainMS is when it is worth trying again.
	AgainMS int64 `json:"again_ms"`
}

// refusedError is a refusal as the edge gets it.
type refusedError struct{ refusal }

func (e *refusedError) Error() string { return e.Reason }

// event names an event of an edge: its number there, and what it is known by.
type event struct {
	Origin uint64 `json:"origin"` // 0: none
	Relay  string `json:"relay"`
	Time   int64  `json:"time"`
}

type welcome struct {
	// Histories are what the hub has of the edge, the newest last.
	Histories []told `json:"histories"`
}

// told is a history as the edge gets to know it.
type told struct {
	Name    uint64 `json:"name"`
	Journal string `json:"journal"`
	Tip     event  `json:"tip"` // its last event
}

type find struct {
	History uint64 `json:"history"`
	Origin  uint64 `json:"origin"`
}

type begin struct {
	From uint64 `json:"from"`
	// Of is the history that the edge goes on from, 0 for none.
	Of     uint64 `json:"of"`
	Reason string `json:"reason,omitempty"` // of anything else than going on with the newest
}

type gap struct {
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	Reason string `json:"reason"`
	// Told: events are missing, which people want to know. Otherwise the numbers were never events
	// of the edge's relays.
	Told bool `json:"told"`
}

type kept struct {
	To uint64 `json:"to"`
}

type ping struct {
	Now  int64  `json:"now,omitempty"`
	Last uint64 `json:"last,omitempty"`
}

type notice struct {
	Text string `json:"text"`
}

type ask struct {
	ID   uint64          `json:"id"`
	What string          `json:"what"`
	Body json.RawMessage `json:"body,omitempty"`
}

type answer struct {
	ID    uint64          `json:"id"`
	Body  json.RawMessage `json:"body,omitempty"`
	Error string          `json:"error,omitempty"`
	Kind  string          `json:"kind,omitempty"`
}
