package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// spooled are the events of the journal that are records of a spool, as text: where they came from,
// their range, their age in seconds at the time now, and their readings.
func (w *world) spooled(now time.Time) (list []string) {
	w.journal.mu.Lock()
	defer w.journal.mu.Unlock()
	for _, e := range w.journal.events {
		kind := "took"
		if e.Past {
			kind = "past"
		}
		text := fmt.Sprintf("%s %x %d-%d %v", kind, e.Spool.ID, e.Spool.First, e.Spool.Seq, now.Sub(time.Unix(0, e.Time)).Round(time.Second))
		for _, c := range e.Collectors {
			for _, s := range c.Stats {
				text += fmt.Sprintf(" %s=%v", s.ID, s.Value)
			}
		}
		list = append(list, text)
	}
	return list
}

func (w *world) wantSpooled(now time.Time, want ...string) {
	w.t.Helper()
	if got := strings.Join(w.spooled(now), "\n"); got != strings.Join(want, "\n") {
		w.t.Errorf("the journal has\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// spoolLine is what a relay with the right clock says of its spool.
func spoolLine(waiting, dropped int) string {
	return fmt.Sprintf("spool 5f2a00c1 %d %d %d", waiting, dropped, time.Now().UnixMilli())
}

func pastLine(first, seq int, age time.Duration, items string) string {
	return fmt.Sprintf("past %d %d %d %s", first, seq, time.Now().Add(-age).UnixMilli(), items)
}

// A relay hands over what waited, newest first, and is told what the journal has; a later connection
// is told again.
func TestSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("cpu")
		p.send(spoolLine(3, 0))
		p.want("recall 20")
		p.send(pastLine(2, 2, 2*time.Minute, "cpu-used:2"), pastLine(2, 3, time.Minute, "cpu-used:3,what-is:1"), spoolLine(1, 0))
		p.want("kept 5f2a00c1 2-3")
		p.want("recall 20")
		p.want("get cpu")
		p.send("took 4 4 cpu-used:4")
		p.send(pastLine(1, 1, 3*time.Minute, "cpu-used:1"), spoolLine(0, 7))
		p.want("kept 5f2a00c1 1-1")
		settle()
		if got := w.relay("web1").Spool; got == nil || *got != (RelaySpool{Waiting: 0, Dropped: 7}) {
			t.Errorf("the relay's spool is %+v", got)
		}
		now := time.Now()
		w.wantMetric(7, "spool_readings_dropped")
		w.wantMetric(3, "past_readings_total")
		w.wantMetric(4, "readings_total")
		w.wantMetric(0, "readings_lost_total")
		p.want("kept 5f2a00c1 4-4") // with the next poll
		p.want("get cpu")
		all := []string{"past 5f2a00c1 2-2 2m0s used=2", "past 5f2a00c1 2-3 1m0s used=3", "took 5f2a00c1 4-4 0s used=4", "past 5f2a00c1 1-1 3m0s used=1"}
		w.wantSpooled(now, all...)
		p.send("took 4 5 cpu-used:5")
		settle()
		w.stop()
		p.wantClosed()
		w.start()
		p = w.connect("web1")
		p.want("get cpu")
		p.send(spoolLine(0, 7))
		p.want("kept 5f2a00c1 4-5")
		p.want("kept 5f2a00c1 1-1")
		p.want("recall 0")
		p.send("took 5 5 cpu-used:5", "took 6 6 cpu-used:6") // the first one it has
		p.send(pastLine(1, 1, 3*time.Minute, "cpu-used:1"), spoolLine(0, 7))
		p.want("kept 5f2a00c1 1-1") // it has that too
		p.send("ping")              // polls may be far apart
		p.want("kept 5f2a00c1 6-6")
		p.want("pong")
		settle()
		p.send("spool 00000001 0 0 1")
		p.want("recall 0") // another spool: nothing of it is there
		if got := w.spooled(time.Now()); len(got) != 6 || !strings.HasPrefix(got[5], "took 5f2a00c1 6-6") {
			t.Errorf("the journal has %q", got)
		}
	})
}

// What the journal refuses for now waits in the spool: no event and no kept line names it. Records of
// a batch are asked for again. After a live record that was refused, the others are passed over until
// the relay has connected again and knows what is there.
func TestSpoolRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.PollInterval = 4 * time.Second })
		refuse := true
		w.journal.append = func(_ context.Context, e *codec.Event) error {
			if v := e.Collectors[0].Stats[0].Value; refuse && (v == 2 || v == 12) {
				return journal.ErrDiskFull
			}
			return nil
		}
		p := w.connect("web1")
		p.add("cpu")
		p.want("get cpu")
		p.send(spoolLine(3, 0))
		p.want("recall 20")
		p.send(pastLine(11, 11, time.Minute, "cpu-used:11"), pastLine(11, 12, time.Minute, "cpu-used:12"), pastLine(11, 13, time.Minute, "cpu-used:13"), spoolLine(2, 0))
		p.want("kept 5f2a00c1 11-11")
		p.send("took 21 21 cpu-used:1", "took 21 22 cpu-used:2", "took 21 23 cpu-used:3")
		settle()
		began := time.Now()
		p.want("kept 5f2a00c1 21-21")
		last := 23
		for line := p.next(); line != "recall 20"; line = p.next() {
			if line != "get cpu" {
				t.Fatalf("server said %q", line)
			}
			last++
			p.send(fmt.Sprintf("took 21 %d cpu-used:%d", last, last))
		}
		if waited := time.Since(began); waited != recallAgain {
			t.Errorf("asked again after %v", waited)
		}
		refuse = false
		p.send(pastLine(12, 12, time.Minute, "cpu-used:12"), pastLine(12, 13, time.Minute, "cpu-used:13"), spoolLine(0, 0))
		p.want("kept 5f2a00c1 12-13")
		last++
		p.send(fmt.Sprintf("took 21 %d cpu-used:%d", last, last))
		p.want("error the journal did not take a record: connect again")
		p.wantClosed()
		p = w.connect("web1")
		p.want("get cpu")
		p.send(spoolLine(last-21, 0))
		p.want("kept 5f2a00c1 21-21")
		p.want("kept 5f2a00c1 12-13")
		p.want("recall 20")
		want := "11 1 12 13"
		for seq := 22; seq <= last; seq++ {
			p.send(pastLine(22, seq, time.Second, fmt.Sprint("cpu-used:", seq)))
			want += fmt.Sprint(" ", seq)
		}
		p.send(spoolLine(0, 0))
		p.want(fmt.Sprint("kept 5f2a00c1 22-", last))
		var values []string
		for _, line := range w.spooled(time.Now()) {
			values = append(values, line[strings.LastIndexByte(line, '=')+1:])
		}
		if got := strings.Join(values, " "); got != want {
			t.Errorf("the journal has %s, want %s", got, want)
		}
		w.wantMetric(0, "readings_lost_total")
		w.wantMetric(0, "polls_unanswered_total")
	})
}

// If the journal does not say whether it has a record, the connection ends, and the next one is told
// what is there.
func TestSpoolUnknown(t *testing.T) {
	for _, stored := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			p := w.connect("web1")
			p.add("cpu")
			p.want("get cpu")
			p.send(spoolLine(0, 0))
			p.want("recall 0")
			p.send("took 1 1 cpu-used:1")
			settle()
			w.journal.append = func(_ context.Context, e *codec.Event) error {
				w.journal.append = nil
				if stored {
					if _, err := w.journal.Append(context.Background(), e); err != nil {
						return err
					}
				}
				return journal.ErrUnknown
			}
			p.send("took 1 2 cpu-used:2")
			p.want("error the journal did not say whether it has a record: connect again")
			p.wantClosed()
			p = w.connect("web1")
			p.want("get cpu")
			p.send(spoolLine(1, 0))
			if stored {
				p.want("kept 5f2a00c1 1-2")
			} else {
				p.want("kept 5f2a00c1 1-1")
			}
			p.want("recall 20")
			p.send(pastLine(2, 2, time.Second, "cpu-used:2"), spoolLine(0, 0))
			if !stored {
				p.want("kept 5f2a00c1 2-2")
			}
			settle()
			if got := w.spooled(time.Now()); len(got) != 2 {
				t.Errorf("stored %v: the journal has %q", stored, got)
			}
			w.wantMetric(1, "disconnections_total", "reason", endJournal)
		})
	}
}

// A journal that does not say what it has is asked again by the next connection.
func TestSpoolJournalSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var silent silentJournal
		w := newWorld(t, func(o *Options) { silent.fakeJournal = &fakeJournal{}; o.Journal = &silent })
		silent.err = errors.New("no answer")
		p := w.connect("web1")
		p.send(spoolLine(0, 0))
		p.want("error the journal does not answer: connect again")
		p.wantClosed()
		silent.err = nil
		p = w.connect("web1")
		p.send(spoolLine(0, 0))
		p.want("recall 0")
	})
}

type silentJournal struct {
	*fakeJournal
	err error
}

func (j *silentJournal) Spooled(ctx context.Context, relay string) (took, past codec.Spool, err error) {
	if j.err != nil {
		return took, past, j.err
	}
	return j.fakeJournal.Spooled(ctx, relay)
}

// A record that an older connection still brings to the journal is there before the newer one is
// told what is.
func TestSpoolReplacedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		release := make(chan struct{})
		w.journal.append = func(context.Context, *codec.Event) error { <-release; return nil }
		p := w.connect("web1")
		p.add("cpu")
		p.want("get cpu")
		p.send(spoolLine(0, 0))
		p.want("recall 0")
		p.send("took 1 1 cpu-used:1")
		settle()
		q := w.connect("web1")
		q.want("get cpu")
		q.send(spoolLine(1, 0))
		settle()
		select {
		case line := <-q.lines:
			t.Fatalf("told %q before the record was there", line)
		default:
		}
		close(release)
		q.want("kept 5f2a00c1 1-1")
		q.want("recall 20")
	})
}

// The clock of a relay may be wrong, a record too old.
func TestSpoolClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.PastFor = 24 * time.Hour })
		p := w.connect("web1")
		p.add("cpu")
		p.want("get cpu")
		ahead := time.Now().Add(3 * time.Hour).UnixMilli()
		p.send(fmt.Sprintf("spool 5f2a00c1 4 0 %d", ahead))
		p.want("recall 20")
		for i, at := range []int64{ahead - 60_000, ahead + 60_000, ahead - 25*3600_000, 9223372036854775807} {
			p.send(fmt.Sprintf("past 1 %d %d cpu-used:%d", i+1, at, i+1))
		}
		p.send(spoolLine(0, 0))
		p.want("kept 5f2a00c1 1-4")
		w.wantSpooled(time.Now(), "past 5f2a00c1 1-1 1m0s used=1", "past 5f2a00c1 1-2 0s used=2", "past 5f2a00c1 1-4 0s used=4")
		w.wantMetric(1, "readings_rejected_total", "reason", rejectTooOld)
	})
}

// Some relays at a time hand over what waited; one that does not answer loses its turn.
func TestSpoolTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		peers := make([]*peer, maxRecalls+2)
		for i := range peers {
			peers[i] = w.connect(fmt.Sprint("web", i))
			peers[i].send(spoolLine(50, 0))
			if i < maxRecalls {
				peers[i].want("recall 20")
			} else {
				peers[i].want("recall 0")
			}
		}
		w.wantMetric(float64(50*len(peers)), "spool_records_waiting")
		peers[0].send(spoolLine(30, 0))
		peers[maxRecalls].want("recall 20") // it waited for longer
		peers[1].conn.Close()
		peers[maxRecalls+1].want("recall 20")
		peers[2].send(spoolLine(0, 0))
		peers[0].want("recall 20")
		settle()
		w.wantMetric(float64(50*len(peers)-50-50-20), "spool_records_waiting")
		began := time.Now()
		peers[2].send(spoolLine(1, 0))
		peers[2].want("recall 20") // the others have said nothing
		if waited := time.Since(began); waited != recallPatience {
			t.Errorf("waited %v", waited)
		}
	})
}

// Lines about a spool that make no sense are told and passed over.
func TestSpoolMalformed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.send("took 1 1 cpu-used:1")
		p.want("error took: say spool first")
		p.send("past 1 1 1 cpu-used:1")
		p.want("error past: say spool first")
		const form = "bad line about a spool: send spool {id} {waiting} {dropped} {now}, took {first} {seq} {items}, past {first} {seq} {ms} {items}"
		p.send("spool x")
		p.want("error spool: " + form)
		p.send(spoolLine(0, 0))
		p.want("recall 0")
		p.send("took 2 1 cpu-used:1")
		p.want("error took: " + form)
		p.send("ping")
		p.want("pong")
	})
}
