package link

import (
	"errors"
	"time"
)

// States of an edge's link, as the edge sees it.
const (
	StateConnecting = "connecting" // it dials
	StateConnected  = "connected"
	StateRefused    = "refused" // the hub does not take it; Error says why
)

// States of an edge at the hub, beside StateConnected.
const (
	StateSilent = "silent" // it has been here, and has no link now
	StateNever  = "never"  // it has a token and was never here
	StateOff    = "off"    // it has been here, and its token was removed
)

// UplinkStatus is what an edge knows of its link.
type UplinkStatus struct {
	// Edge is the edge's name, Hub the address that it dials.
	Edge string `json:"edge"`
	Hub  string `json:"hub"`
	// State is one of StateConnecting, StateConnected and StateRefused; Since is when it began.
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// HubRelease is the hub's release, "" before the first connection.
	HubRelease string `json:"hub_release,omitempty"`
	// Known is whether the hub has said what it has since this start. HubHas and Lacks are 0 until then.
	Known bool `json:"known"`
	// HubHas is the number of the last event that the hub confirmed, Last that of the journal's last,
	// and Lacks how many numbers lie between them.
	HubHas uint64 `json:"hub_has"`
	Last   uint64 `json:"last"`
	Lacks  uint64 `json:"lacks"`
	// Error is why there is no link, Notice what the hub had to say in the last ten minutes.
	Error  string `json:"error,omitempty"`
	Notice string `json:"notice,omitempty"`
	// Gaps are what the hub will never get, the newest last.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Edge is what a hub knows of an edge.
type Edge struct {
	Name string `json:"name"`
	// State is one of StateConnected, StateSilent, StateNever and StateOff; Since is when it began,
	// and Heard when the edge was last heard. Both are zero for an edge that was never here.
	State string    `json:"state"`
	Since time.Time `json:"since,omitzero"`
	Heard time.Time `json:"heard,omitzero"`
	// Address and Release are those of the last connection.
	Address string `json:"address,omitempty"`
	Release string `json:"release,omitempty"`
	// Has is the number of the last event that the hub has, Last that of the edge's last event when
	// the edge was last heard, and Lacks how many numbers lie between them.
	Has   uint64 `json:"has"`
	Last  uint64 `json:"last"`
	Lacks uint64 `json:"lacks"`
	// ClockOffset is how far the edge's clock is ahead of the hub's, in seconds.
	ClockOffset float64 `json:"clock_offset"`
	// Events counts what came since the hub's start.
	Events uint64 `json:"events"`
	// Gaps are what the hub will never get, Begun when the edge began another history; the newest last.
	Gaps  []Gap   `json:"gaps,omitempty"`
	Begun []Begun `json:"begun,omitempty"`
	// Notice is what people should know of the last ten minutes, Refused the last refusal under this name.
	Notice  string   `json:"notice,omitempty"`
	Refused *Refusal `json:"refused,omitempty"`
}

// Gap is a range of numbers of an edge's journal that a hub will never get.
type Gap struct {
	From   uint64    `json:"from"`
	To     uint64    `json:"to"`
	Events uint64    `json:"events"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// Begun says that an edge began another history: what it says from its number At on is new, and the hub
// keeps what it had before, up to Kept.
type Begun struct {
	Time   time.Time `json:"time"`
	At     uint64    `json:"at"`
	Kept   uint64    `json:"kept"`
	Reason string    `json:"reason"`
}

// Refusal is an attempt to connect that a hub refused.
type Refusal struct {
	Time    time.Time `json:"time"`
	Address string    `json:"address"`
	Reason  string    `json:"reason"`
}

// UnknownEdge is a refusal under a name that the hub does not know.
type UnknownEdge struct {
	Name string `json:"name"`
	Refusal
}

// remark is something that people should know for a while.
type remark struct {
	text string
	time time.Time
}

// remarkFor is how long.
const remarkFor = 10 * time.Minute

// at returns the text, if it is still to be shown.
func (r remark) at(now time.Time) string {
	if now.Sub(r.time) > remarkFor {
		return ""
	}
	return r.text
}

// Errors of [Hub.Ask].
var (
	ErrNoEdge = errors.New("link: the hub knows no edge of this name; GET /edges lists them")
	ErrDown   = errors.New("link: there is no link to this edge now, so nothing was changed; try again when it is back, or ask the edge itself")
	// ErrUnanswered: the link ended before the answer.
	ErrUnanswered = errors.New("link: the link ended before the edge answered; look at what the edge has before you try again")
)

// Refused is what an edge answered instead of doing what it was asked for.
type Refused struct {
	// Kind is "invalid" for a request that is wrong, "not found" for something that is not there, and
	// "" otherwise.
	Kind string
	Text string
}

// Error is the edge's text.
func (e *Refused) Error() string { return e.Text }

// Kinds of Refused.
const (
	KindInvalid  = "invalid"
	KindNotFound = "not found"
)
