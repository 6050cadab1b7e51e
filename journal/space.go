package journal

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// space guards the free space: the server does not answer when the disk is full, so it must not
// come to that.
type space struct {
	dir     string
	minFree int64
	statfs  func(string) (free, total uint64, err error)
	log     *slog.Logger

	mu     sync.Mutex
	err    error     // why nothing may be written, nil if it may
	logged time.Time // when that was last said
}

// check returns why need bytes more may not be written.
func (s *space) check(need uint64) error {
	if s.minFree < 0 {
		return nil
	}
	free, total, err := s.statfs(s.dir)
	var low error
	switch {
	case err != nil:
		// Not a reason to lose readings: the write itself will tell.
	default:
		floor := uint64(s.minFree)
		if floor == 0 {
			floor = min(DefaultMinFree, total/100)
		}
		if free < floor+need {
			cause := fmt.Errorf("%d KiB free, %d KiB are kept free", free>>10, floor>>10)
			low = &Error{Op: "append", Dir: s.dir, Kind: ErrDiskFull, Err: cause}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case low != nil && (s.err == nil || time.Since(s.logged) > time.Minute):
		s.log.Error("readings are being lost: the disk is nearly full", "err", low)
		s.logged = time.Now()
	case low == nil && s.err != nil:
		s.log.Info("there is space on the disk again; appending resumed")
	}
	s.err = low
	return low
}

// state is what the last check found.
func (s *space) state() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
