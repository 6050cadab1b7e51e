package influx

import "time"

// Damage is something of a store that was missing or not as it was written, and what became of it.
type Damage struct {
	// Found is when it was found, What which file or directory below the store's own it is, and Why
	// what is wrong with it.
	Found time.Time `json:"found"`
	What  string    `json:"what"`
	Why   string    `json:"why"`
	// Aside is where it was moved to, for people to look at; empty if it was gone.
	Aside string `json:"aside,omitempty"`
	// Policy, From and To say which points were in it, both times included. Policy is empty if none
	// were; From is zero if it is not known whether any is missing.
	Policy Policy    `json:"policy,omitempty"`
	From   time.Time `json:"from,omitzero"`
	To     time.Time `json:"to,omitzero"`
	// Replay is the replay that writes them again from the journal; empty until it was asked for,
	// or if the journal holds nothing of the time.
	Replay string `json:"replay,omitempty"`
	// LostFrom and LostTo are the part of the time that the journal did not hold any more, LostTo
	// excluded; zero if there is none.
	LostFrom time.Time `json:"lost_from,omitzero"`
	LostTo   time.Time `json:"lost_to,omitzero"`
	// Settled says that the replay was asked for, as far as there is any to ask for.
	Settled bool `json:"settled"`
}
