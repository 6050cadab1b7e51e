package influx

import "time"

// Damage describes a missing or changed part of a store, and what was done about it.
type Damage struct {
	// Found is when the damage was found. What is the damaged file or directory, as a path below
	// the store's own directory. Why says what is wrong with it.
	Found time.Time `json:"found"`
	What  string    `json:"what"`
	Why   string    `json:"why"`
	// Aside is where the file was moved for people to look at; empty if the file was missing.
	Aside string `json:"aside,omitempty"`
	// Policy, From and To say which points were in the file, both times included. Policy is empty
	// if there were none. From is zero if it is not known whether any point is missing.
	Policy Policy    `json:"policy,omitempty"`
	From   time.Time `json:"from,omitzero"`
	To     time.Time `json:"to,omitzero"`
	// Replay is the replay that writes these points again from the journal. It is empty until the
	// replay was asked for, or if the journal holds nothing of the time.
	Replay string `json:"replay,omitempty"`
	// LostFrom and LostTo bound the part of the time that the journal did not hold any more, LostTo
	// excluded. Both are zero if there is no such part.
	LostFrom time.Time `json:"lost_from,omitzero"`
	LostTo   time.Time `json:"lost_to,omitzero"`
	// Settled reports whether the replay was asked for, or there was none to ask for.
	Settled bool `json:"settled"`
}
