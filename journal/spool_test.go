package journal

import (
	"errors"
	"testing"

	"github.com/nanopack/pulse/journal/codec"
)

// The newest events of a relay say what the journal has of its spool, also after a restart, and in a
// journal whose stream an older release made, which had no subject for events from the past.
func TestSpooled(t *testing.T) {
	dir := t.TempDir()
	j := open(t, Options{Dir: dir})
	run := j.runs.current()
	older := run.stream.CachedInfo().Config
	older.Subjects = []string{codec.ReadingsSubject + "*", codec.RelaysSubject + "*"}
	if _, err := run.js.UpdateStream(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	appendN(t, j, "web.1", 0, 2)
	closeJournal(t, j)

	j = open(t, Options{Dir: dir})
	want := func(relay string, took, past codec.Spool) {
		t.Helper()
		gotTook, gotPast, err := j.Spooled(t.Context(), relay)
		if err != nil || gotTook != took || gotPast != past {
			t.Errorf("%s: %v and %v, %v; want %v and %v", relay, gotTook, gotPast, err, took, past)
		}
	}
	put := func(relay string, spool codec.Spool, past bool) {
		t.Helper()
		e := sample(relay, 1)
		e.Spool, e.Past = spool, past
		if _, err := j.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	want("web.1", codec.Spool{}, codec.Spool{})
	want("nobody", codec.Spool{}, codec.Spool{})
	put("web.1", codec.Spool{ID: 7, First: 3, Seq: 4}, false)
	put("web.1", codec.Spool{ID: 7, First: 1, Seq: 2}, true)
	put("web.2", codec.Spool{ID: 9, First: 1, Seq: 1}, true)
	for range 2 {
		want("web.1", codec.Spool{ID: 7, First: 3, Seq: 4}, codec.Spool{ID: 7, First: 1, Seq: 2})
		want("web.2", codec.Spool{}, codec.Spool{ID: 9, First: 1, Seq: 1})
		closeJournal(t, j)
		if _, _, err := j.Spooled(t.Context(), "web.1"); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed journal: %v", err)
		}
		j = open(t, Options{Dir: dir})
	}
	seq := 0
	err := j.Range(t.Context(), Span{First: 1, Last: 5}, func(records []Record, gap *GapError) error {
		for _, r := range records {
			if seq++; r.Event == nil || r.Event.Past != (seq >= 4) {
				t.Errorf("record %d: %+v, %v", seq, r.Event, r.Err)
			}
		}
		return nil
	})
	if err != nil || seq != 5 {
		t.Errorf("%d records, %v", seq, err)
	}
	put("web.1", codec.Spool{}, false) // it came without a spool
	want("web.1", codec.Spool{}, codec.Spool{ID: 7, First: 1, Seq: 2})
}
