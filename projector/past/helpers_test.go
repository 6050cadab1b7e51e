package past

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/nanopack/pulse/projector/projectortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openDB(tb testing.TB) *bbolt.DB {
	tb.Helper()
	db, err := bbolt.Open(filepath.Join(tb.TempDir(), "pulse.db"), 0o600, &bbolt.Options{Timeout: time.Second, NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// fakeTarget is a target with a number of steps of one event each.
type fakeTarget struct {
	name  string
	steps int
	takes time.Duration // duration of each step
	fail  func() error  // called by Plan and Step before anything else
	seen  Seen          // result of each step; nil: all of the range

	mu    sync.Mutex
	began []time.Time // when the steps began
	done  []int       // the steps' numbers, counting down
	plans int
	// ranges are the planned ranges.
	ranges []Range
}

func (f *fakeTarget) Name() string { return f.name }

func (f *fakeTarget) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail()
	}
	return nil
}

func (f *fakeTarget) setFail(fail func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *fakeTarget) Plan(_ context.Context, r Range) (Plan, error) {
	if err := f.failure(); err != nil {
		return Plan{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plans++
	f.ranges = append(f.ranges, r)
	return Plan{Cursor: cursor(f.steps), Left: uint64(f.steps), Lost: 1, Notes: []string{"planned"}}, nil
}

func cursor(n int) json.RawMessage {
	b, _ := json.Marshal(n)
	return b
}

func (f *fakeTarget) Step(ctx context.Context, r Range, at json.RawMessage) (Step, error) {
	var n int
	if err := json.Unmarshal(at, &n); err != nil {
		return Step{}, err
	}
	if err := f.failure(); err != nil {
		return Step{}, err
	}
	f.mu.Lock()
	f.began = append(f.began, time.Now())
	f.mu.Unlock()
	if f.takes > 0 {
		select {
		case <-time.After(f.takes):
		case <-ctx.Done():
			return Step{}, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = append(f.done, n)
	seen := f.seen
	if seen == nil {
		seen = Seen{{r.From.UnixNano(), r.To.UnixNano()}}
	}
	return Step{Counts: Counts{Events: 1, Readings: 2, Points: 3, Expired: 4, Refused: 5, Lost: 6}, Cursor: cursor(n - 1),
		Done: n == 1, Left: uint64(n - 1), Notes: []string{"stepped", "stepped"},
		Seen: seen}, nil
}

func (f *fakeTarget) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.done)
}

func newQueue(tb testing.TB, o Options) *Queue {
	tb.Helper()
	if o.DB == nil {
		o.DB = openDB(tb)
	}
	if o.Journal == nil {
		o.Journal = projectortest.NewMemory()
	}
	j, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return j
}

// start starts j and stops it at the end of the test.
func start(tb testing.TB, j *Queue) *Queue {
	tb.Helper()
	if err := j.Start(context.Background()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stop(tb, j) })
	return j
}

func stop(tb testing.TB, j *Queue) {
	tb.Helper()
	if err := j.Stop(context.Background()); err != nil {
		tb.Error(err)
	}
}

func create(tb testing.TB, j *Queue, projections ...string) Job {
	tb.Helper()
	job, err := j.Create(Request{Projections: projections, From: time.Now().Add(-time.Hour)})
	if err != nil {
		tb.Fatal(err)
	}
	return job
}

// await waits until ok returns true for a job, and returns the job.
func await(tb testing.TB, j *Queue, id string, what string, ok func(Job) bool) Job {
	tb.Helper()
	deadline := time.Now().Add(time.Hour)
	for {
		job, err := j.Get(id)
		if err != nil {
			tb.Fatal(err)
		}
		if ok(job) {
			return job
		}
		if time.Now().After(deadline) {
			tb.Fatalf("waiting for %s: %+v", what, job)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func awaitState(tb testing.TB, j *Queue, id string, s State) Job {
	tb.Helper()
	return await(tb, j, id, string(s), func(job Job) bool { return job.State == s })
}

var errAway = errors.New("it is away")
