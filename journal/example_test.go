package journal_test

import (
	"context"
	"fmt"
	"math"
	"os"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// All that a journal holds, from the first record on.
func ExampleJournal_Range() {
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()
	j, err := journal.Open(ctx, journal.Options{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = j.Close(ctx) }()
	for i := range 3 {
		event := codec.Event{Relay: "web1", Time: int64(i), Collectors: []codec.Collector{
			{Name: "cpu", Stats: []codec.Stat{{ID: "used", Value: float64(i) / 4}}},
		}}
		if _, err := j.Append(ctx, &event); err != nil {
			fmt.Println(err)
			return
		}
	}

	all := journal.Span{First: 1, Last: math.MaxUint64}
	err = j.Range(ctx, all, func(records []journal.Record, gap *journal.GapError) error {
		if gap != nil {
			fmt.Println("missing:", gap.From, "to", gap.To)
			return nil
		}
		for _, record := range records {
			if event := record.Event; event != nil { // otherwise the relay's own event, or one that cannot be decoded
				fmt.Println(record.Seq, event.Relay, event.Collectors[0].Stats[0].Value)
			}
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// 1 web1 0
	// 2 web1 0.25
	// 3 web1 0.5
}
