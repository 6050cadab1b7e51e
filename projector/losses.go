package projector

import (
	"slices"
	"time"

	"github.com/nanopack/pulse/internal/apijson"
)

// Losses are what a projection could not apply.
type Losses struct {
	// Rejected counts records that could not be read or applied.
	Rejected uint64 `json:"-"`
	// Lost counts the records that were missing from the journal. Gaps are the newest such gaps.
	Lost uint64 `json:"lost"`
	Gaps []Gap  `json:"gaps"`
}

// Gap is a range of records that were missing from the journal when the projection came to them.
type Gap struct {
	From   uint64    `json:"from"`
	To     uint64    `json:"to"`
	Count  uint64    `json:"count"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// MarshalJSON shows the gap as the API does.
func (g Gap) MarshalJSON() ([]byte, error) {
	type plain Gap // without this method
	g.Time = apijson.Time(g.Time)
	return apijson.Marshal(plain(g))
}

// maxGaps is how many gaps are listed.
const maxGaps = 16

// plus returns the sum of two.
func (l Losses) plus(other Losses) Losses {
	gaps := slices.Concat(l.Gaps, other.Gaps)
	slices.SortStableFunc(gaps, func(a, b Gap) int { return a.Time.Compare(b.Time) })
	return Losses{Rejected: l.Rejected + other.Rejected, Lost: l.Lost + other.Lost, Gaps: gaps[max(0, len(gaps)-maxGaps):]}
}
