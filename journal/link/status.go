package link

import (
	"errors"
	"time"
)

var (
	// ErrDown means that an edge has no link now, so nothing reached it.
	ErrDown = errors.New("the link to the edge is down")
	// ErrNoEdge means that no edge has the name.
	ErrNoEdge = errors.New("there is no such edge")
)

// Refused is an edge's own error.
type Refused struct {
	// Kind is "invalid", "not found", "conflict", or "" for any other.
	Kind, Text string
}

// Error is the edge's text.
func (r *Refused) Error() string { return r.Text }

type (
	// UplinkStatus is an edge's end of the link.
	UplinkStatus struct {
		Edge       string    `json:"edge"`
		Hub        string    `json:"hub"`
		State      string    `json:"state"` // connecting, connected or refused
		Since      time.Time `json:"since,omitzero"`
		HubRelease string    `json:"hub_release,omitempty"`
		HubHas     uint64    `json:"hub_has"`
		Last       uint64    `json:"last"`
		Lacks      uint64    `json:"lacks"`
		Error      string    `json:"error,omitempty"`
		Notice     string    `json:"notice,omitempty"`
		Gaps       []Gap     `json:"gaps"`
	}
	// Edge is an edge as its hub knows it.
	Edge struct {
		Name        string    `json:"name"`
		State       string    `json:"state"` // connected, silent, never or off
		Since       time.Time `json:"since,omitzero"`
		Heard       time.Time `json:"heard,omitzero"`
		Address     string    `json:"address,omitempty"`
		Release     string    `json:"release,omitempty"`
		Has         uint64    `json:"has"`
		Last        uint64    `json:"last"`
		Lacks       uint64    `json:"lacks"`
		ClockOffset float64   `json:"clock_offset"` // s, the edge's clock minus ours
		Events      uint64    `json:"events"`
		Gaps        []Gap     `json:"gaps"`
		Begun       []Begun   `json:"begun"`
		Notice      string    `json:"notice,omitempty"`
		Refused     *Refusal  `json:"refused,omitempty"`
	}
	// Gap is a range of an edge's journal that the hub will never have.
	Gap struct {
		From   uint64    `json:"from"`
		To     uint64    `json:"to"`
		Events uint64    `json:"events"`
		Reason string    `json:"reason"`
		Time   time.Time `json:"time"`
	}
	// Begun says that an edge began another history at its number At.
	Begun struct {
		Time   time.Time `json:"time"`
		At     uint64    `json:"at"`
		Kept   uint64    `json:"kept"`
		Reason string    `json:"reason"`
	}
	// Refusal is a connection that the hub refused.
	Refusal struct {
		Time    time.Time `json:"time"`
		Address string    `json:"address"`
		Reason  string    `json:"reason"`
	}
	// UnknownEdge is a refused connection under a name that no edge has.
	UnknownEdge struct {
		Name    string    `json:"name"`
		Time    time.Time `json:"time"`
		Address string    `json:"address"`
		Reason  string    `json:"reason"`
	}
)
