package stream_test

import (
	"fmt"
	"testing"

	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/stream"
)

// This test uses a real journal, a real runner and a client that is cut off.
func TestHubOverAJournal(t *testing.T) {
	j := journaltest.Open(t)
	source := projector.FromJournal(j)
	h := newHub(t, stream.Options{Journal: source})
	runner, err := projector.NewRunner(projector.RunnerOptions{Projection: h.Hub, Journal: source, Start: projector.FromEnd()})
	if err != nil {
		t.Fatal(err)
	}
	if err := runner.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer runner.Stop()
	c := h.subscribe(stream.Request{})
	c.next()
	for i := 1; i <= 3; i++ {
		journaltest.Append(t, j, one("a", "s", float64(i)))
		c.wantShown("readings", fmt.Sprint(i), data("a", "s", float64(i)))
	}
	c.Close()
	for i := 4; i <= 300; i++ {
		journaltest.Append(t, j, one("a", "s", float64(i)))
	}
	c = h.subscribe(stream.Request{Resume: true, After: 3})
	for i := 4; i <= 300; i++ {
		c.wantShown("readings", fmt.Sprint(i), data("a", "s", float64(i)))
	}
	journaltest.Append(t, j, one("a", "s", 301))
	c.wantShown("readings", "301", data("a", "s", 301))
	c.Close()
}
