package past

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

func TestJobFromCreateToDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw, aggregates := &fakeTarget{name: "raw", steps: 3, takes: time.Second}, &fakeTarget{name: "aggregates", steps: 2, takes: time.Second}
		j := newQueue(t, Options{Targets: []Target{raw, aggregates}})
		job := create(t, j, "aggregates", "all")
		if job.ID == "" || job.State != StateWaiting || !slices.Equal(job.Projections, []string{"raw", "aggregates"}) ||
			len(job.Parts) != 2 || job.Parts[1].State != StateWaiting || !job.To.Equal(time.Now()) || job.SecondsLeft != nil {
			t.Fatalf("created: %+v", job)
		}
		start(t, j)
		half := await(t, j, job.ID, "a step", func(job Job) bool { return job.Progress > 0.3 })
		if half.State != StateRunning || half.Parts[0].Events != 2 || half.Parts[0].EventsTotal != 3 || half.Progress != 0.4 || half.Started.IsZero() ||
			half.SecondsLeft == nil || *half.SecondsLeft < 3 || *half.SecondsLeft > 8 {
			t.Errorf("half-way: %+v, %v seconds", half, half.SecondsLeft)
		}
		done := awaitState(t, j, job.ID, StateDone)
		want := Part{Projection: "raw", State: StateDone, Counts: Counts{3, 6, 9, 12, 15, 19}, EventsTotal: 3, Notes: []string{"planned", "stepped"}}
		if done.Progress != 1 || fmt.Sprint(done.Parts[0]) != fmt.Sprint(want) || done.Parts[1].Events != 2 || done.Finished.IsZero() || done.SecondsLeft != nil {
			t.Errorf("done: %+v", done)
		}
		if !slices.Equal(raw.done, []int{3, 2, 1}) {
			t.Errorf("steps %v", raw.done)
		}
		if list := j.List(); len(list) != 1 || list[0].ID != job.ID {
			t.Errorf("listed: %+v", list)
		}
	})
}

// The API returns a Job in its JSON form.
func TestJobJSON(t *testing.T) {
	job := Job{ID: "7", Projections: []string{"raw"}, From: time.Unix(0, 0).UTC(), To: time.Unix(60, 0).UTC(), State: StateWaiting,
		Created: time.Unix(90, 0).UTC(), Parts: []Part{{Projection: "raw", State: StateWaiting, Notes: []string{}}}}
	b, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"7","projections":["raw"],"from":"1970-01-01T00:00:00Z","to":"1970-01-01T00:01:00Z","dry_run":false,"state":"waiting",` +
		`"created":"1970-01-01T00:01:30Z","progress":0,"seconds_left":null,"parts":[{"projection":"raw","state":"waiting",` +
		`"events":0,"events_total":0,"readings":0,"points":0,"expired":0,"refused":0,"lost":0,"notes":[]}]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	j := newQueue(t, Options{Targets: []Target{&fakeTarget{name: "raw"}, &fakeTarget{name: "aggregates"}}, Now: func() time.Time { return now }})
	for name, tt := range map[string]struct {
		q    Request
		says string
	}{
		"no projection":         {Request{From: now.Add(-time.Hour)}, "projection is missing; it may be raw, aggregates or all"},
		"unknown projection":    {Request{Projections: []string{"raw", "latest"}, From: now.Add(-time.Hour)}, `projection is "latest"; it may be raw, aggregates or all`},
		"no from":               {Request{Projections: []string{"raw"}}, "from must be"},
		"from is to":            {Request{Projections: []string{"raw"}, From: now.Add(-time.Hour), To: now.Add(-time.Hour)}, "before to"},
		"from behind to":        {Request{Projections: []string{"raw"}, From: now.Add(-time.Hour), To: now.Add(-2 * time.Hour)}, "before to"},
		"from in the future":    {Request{Projections: []string{"raw"}, From: now.Add(time.Hour), To: now.Add(2 * time.Hour)}, "in the future"},
		"from is now":           {Request{Projections: []string{"raw"}, From: now}, "before to"},
		"a year beyond int64":   {Request{Projections: []string{"raw"}, From: now, To: time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC)}, "to must be"},
		"a year before the era": {Request{Projections: []string{"raw"}, From: time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)}, "from must be"},
	} {
		if _, err := j.Create(tt.q); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, call := range []func(string) (Job, error){j.Get, j.Cancel} {
		if _, err := call("99"); !errors.Is(err, ErrNotFound) {
			t.Errorf("an unknown id: %v", err)
		}
	}
	if len(j.List()) != 0 || j.List() == nil {
		t.Errorf("listed: %+v", j.List())
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	db := openDB(t)
	raw := &fakeTarget{name: "raw"}
	for name, o := range map[string]Options{
		"no DB": {Targets: []Target{raw}}, "no targets": {DB: db}, "share": {DB: db, Targets: []Target{raw}, Share: 1.5},
		"negative share": {DB: db, Targets: []Target{raw}, Share: -1}, "double": {DB: db, Targets: []Target{raw, raw}},
		"all": {DB: db, Targets: []Target{&fakeTarget{name: "all"}}}, "unnamed": {DB: db, Targets: []Target{&fakeTarget{}}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTooManyJobs(t *testing.T) {
	j := newQueue(t, Options{Targets: []Target{&fakeTarget{name: "raw"}}})
	var last Job
	for range maxUnfinished {
		last = create(t, j, "raw")
	}
	q := Request{Projections: []string{"raw"}, From: time.Now().Add(-time.Hour)}
	if _, err := j.Create(q); !errors.Is(err, ErrTooMany) {
		t.Fatalf("one more: %v", err)
	}
	if job, err := j.Cancel(last.ID); err != nil || job.State != StateCanceled || job.Parts[0].State != StateCanceled || job.Finished.IsZero() {
		t.Fatalf("%+v, %v", job, err)
	}
	if job, err := j.Cancel(last.ID); err != nil || job.State != StateCanceled {
		t.Fatalf("again: %+v, %v", job, err)
	}
	if _, err := j.Create(q); err != nil {
		t.Fatal(err)
	}
}

func TestFinishedJobsAreForgottenInTheEnd(t *testing.T) {
	db := openDB(t)
	j := newQueue(t, Options{DB: db, Targets: []Target{&fakeTarget{name: "raw"}}})
	first := create(t, j, "raw") // this job is not finished, so it is kept
	for range keepFinished + 5 {
		if _, err := j.Cancel(create(t, j, "raw").ID); err != nil {
			t.Fatal(err)
		}
	}
	for _, j := range []*Queue{j, newQueue(t, Options{DB: db, Targets: []Target{&fakeTarget{name: "raw"}}})} {
		list := j.List()
		if len(list) != keepFinished+1 || list[len(list)-1].ID != first.ID || list[0].ID != fmt.Sprint(keepFinished+6) || list[len(list)-2].ID != "7" {
			t.Errorf("%d are kept, the oldest %s and %s", len(list), list[len(list)-1].ID, list[len(list)-2].ID)
		}
	}
}

// A restart between any two steps repeats no step and leaves no step out.
func TestJobsGoOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t)
		target := &fakeTarget{name: "raw", steps: 9, takes: time.Second}
		id := ""
		for round := range 10 {
			j := newQueue(t, Options{DB: db, Targets: []Target{target}})
			if round == 0 {
				id = create(t, j, "raw").ID
			}
			if err := j.Start(context.Background()); err != nil {
				t.Fatal(err)
			}
			if round == 9 {
				awaitState(t, j, id, StateDone)
			} else {
				await(t, j, id, "a step", func(job Job) bool { return job.Parts[0].Events > uint64(round) })
			}
			if s, err := j.Get(id); err != nil || round < 9 && s.State != StateRunning {
				t.Fatalf("%+v, %v", s, err)
			}
			stop(t, j)
			stop(t, j)
		}
		if !slices.Equal(target.done, []int{9, 8, 7, 6, 5, 4, 3, 2, 1}) || target.plans != 1 {
			t.Errorf("steps %v, planned %d times", target.done, target.plans)
		}
		j := newQueue(t, Options{DB: db, Targets: []Target{target}})
		if job, err := j.Get(id); err != nil || job.Parts[0].Events != 9 || job.Parts[0].Lost != 9*6+1 || job.Progress != 1 {
			t.Errorf("%+v, %v", job, err)
		}
	})
}

func TestAProjectionThatIsGoneFailsTheJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t)
		id := create(t, newQueue(t, Options{DB: db, Targets: []Target{&fakeTarget{name: "old"}}}), "old").ID
		raw := &fakeTarget{name: "raw", steps: 1}
		j := start(t, newQueue(t, Options{DB: db, Targets: []Target{raw}}))
		job := awaitState(t, j, id, StateFailed)
		if !strings.Contains(job.LastError, "no projection old") || job.Parts[0].State != StateFailed {
			t.Errorf("%+v", job)
		}
		awaitState(t, j, create(t, j, "raw").ID, StateDone) // the other jobs go on
		raw.setFail(func() error { return fmt.Errorf("%w: the cursor", ErrInvalid) })
		awaitState(t, j, create(t, j, "raw").ID, StateFailed)
	})
}

// A stored job that cannot be read does not prevent the start.
func TestAStoredJobThatCannotBeRead(t *testing.T) {
	db := openDB(t)
	create(t, newQueue(t, Options{DB: db, Targets: []Target{&fakeTarget{name: "raw"}}}), "raw")
	err := db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(replaysBucket)
		return errors.Join(b.Put([]byte("12345678"), []byte("{")), b.Put([]byte("1"), []byte("{}")), b.Put([]byte("12345679"), []byte(`{"parts":[{}]}`)))
	})
	if err != nil {
		t.Fatal(err)
	}
	if list := newQueue(t, Options{DB: db, Targets: []Target{&fakeTarget{name: "raw"}}}).List(); len(list) != 1 || list[0].ID != "1" {
		t.Errorf("%+v", list)
	}
}

// All methods may be called concurrently at any time.
func TestJobsAreSafe(t *testing.T) {
	j := start(t, newQueue(t, Options{Targets: []Target{&fakeTarget{name: "raw", steps: 20}}, Share: 1}))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for k := range 20 {
				job, err := j.Create(Request{Projections: []string{"all"}, From: time.Unix(1, 0)})
				if errors.Is(err, ErrTooMany) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if (i+k)%3 == 0 {
					canceled, err := j.Cancel(job.ID)
					if err != nil && !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
					if job, gone := j.Get(job.ID); err == nil && gone == nil && job.State != canceled.State {
						t.Errorf("it was %s and is %s", canceled.State, job.State)
					}
				}
				for _, job := range j.List() {
					if job.State == StateDone && job.Parts[0].Events != 20 {
						t.Errorf("done: %+v", job)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := j.Start(context.Background()); err == nil {
		t.Error("it was started twice")
	}
	stop(t, j)
	if _, err := j.Create(Request{Projections: []string{"all"}, From: time.Unix(1, 0)}); !errors.Is(err, ErrStopped) {
		t.Errorf("created after Stop: %v", err)
	}
	if err := newQueue(t, Options{Targets: []Target{&fakeTarget{name: "raw"}}}).Stop(context.Background()); err != nil {
		t.Errorf("Stop without Start: %v", err)
	}
}
