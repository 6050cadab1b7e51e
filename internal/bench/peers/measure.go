package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nanopack/pulse/internal/procfs"
	"github.com/nanopack/pulse/internal/retry"
)

// A cell of the table is a server with a size.
type cell struct {
	size   size
	server string
}

// A result is what a server used for the readings that it stored.
type result struct {
	readings  float64
	share     float64 // of the readings that were due
	cpu       float64 // microseconds of a reading
	cores     float64 // busy, of the server,
	others    float64 // and of everything else, with the fleet
	rss, peak int64   // bytes
	written   float64 // bytes of a reading
	grown     float64 // bytes that the disk grew by for a reading
	disk      int64   // bytes on disk at the end
}

func (r result) String() string {
	return fmt.Sprintf("%.1f µs of CPU a reading (%.2f cores, others %.2f), %d MiB (peak %d), %.0f bytes written a reading, %.1f on disk (%d MiB); %.0f readings, %.4f of those due",
		r.cpu, r.cores, r.others, r.rss>>20, r.peak>>20, r.written, r.grown, r.disk>>20, r.readings, r.share)
}

// measure runs one server with the fleet.
func (s *sitting) measure(ctx context.Context, z size, c contender) (r result, err error) {
	parent, err := os.MkdirTemp(s.dir, c.name+"-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return r, err
	}
	srv, err := c.start(ctx, s, dir, z)
	if err != nil {
		return r, err
	}
	defer srv.stop()
	f := fleet{Kind: c.kind, Address: srv.address(), Hosts: z.hosts, Stats: z.stats, Collectors: 1, Every: z.every, Seed: s.seed}
	if c.perStat {
		f.Collectors = z.stats
	}
	hosts, err := f.start(ctx)
	if err != nil {
		return r, withLog(err, srv)
	}
	if r, err = s.window(ctx, z, srv, dir); err != nil {
		err = withLog(err, srv)
	}
	return r, errors.Join(err, hosts.stop())
}

// withLog adds the last lines of the server's log, as far as they fit on a screen.
func withLog(err error, srv server) error {
	log := srv.log()
	return fmt.Errorf("%w; the server's log ends with:\n%s", err, log[max(0, len(log)-2000):])
}

// window measures a server that has warmed up.
func (s *sitting) window(ctx context.Context, z size, srv server, dir string) (r result, err error) {
	if !retry.Sleep(ctx, s.warm) {
		return r, ctx.Err()
	}
	first, err := s.count(ctx, srv)
	if err != nil {
		return r, err
	}
	// Counting costs the server something, so it is not between the two looks at what it used.
	old, err := look(srv.pid(), dir)
	if err != nil {
		return r, err
	}
	if !retry.Sleep(ctx, s.lasts) {
		return r, ctx.Err()
	}
	now, err := look(srv.pid(), dir)
	if err != nil {
		return r, err
	}
	last, err := s.count(ctx, srv)
	if err != nil {
		return r, err
	}
	return s.evaluate(z, first, last, old, now)
}

// counted is what readings of a server returned.
type counted struct {
	at             time.Time
	taken, waiting float64
}

// count asks again while an answer takes long, because it is not known at which moment of that time
// the server counted.
func (s *sitting) count(ctx context.Context, srv server) (c counted, err error) {
	limit := max(s.lasts/50, time.Second)
	for range 10 {
		began := time.Now()
		if c.taken, c.waiting, err = srv.readings(ctx); err != nil {
			return c, err
		}
		took := time.Since(began)
		c.at = began.Add(took / 2)
		if took <= limit {
			return c, nil
		}
	}
	return c, fmt.Errorf("the server takes more than %s to say how many readings it has", limit)
}

// used is what a process has used up to a moment.
type used struct {
	at           time.Time
	cpu, machine time.Duration
	written      int64
	rss, peak    int64
	disk         int64
}

func look(pid int, dir string) (u used, err error) {
	var errs [5]error
	u.disk, errs[0] = diskUse(dir)
	u.at = time.Now()
	u.cpu, errs[1] = procfs.CPU(pid)
	u.machine, errs[2] = procfs.MachineCPU()
	u.written, errs[3] = procfs.Written(pid)
	u.rss, u.peak, errs[4] = procfs.RSS(pid)
	return u, errors.Join(errs[:]...)
}

// evaluate returns an error too if the number of readings is not the one that was due, or if the
// server fell behind with storing them. A second's readings may be on their way.
func (s *sitting) evaluate(z size, first, last counted, old, now used) (r result, err error) {
	took, seconds := last.at.Sub(first.at).Seconds(), now.at.Sub(old.at).Seconds()
	due := z.rate() * took
	r = result{readings: last.taken - first.taken, rss: now.rss, peak: now.peak, disk: now.disk}
	r.share = r.readings / due
	// The readings were counted over a slightly longer time.
	n := r.readings / took * seconds
	cpu := (now.cpu - old.cpu).Seconds()
	r.cpu, r.cores, r.others = cpu*1e6/n, cpu/seconds, ((now.machine-old.machine).Seconds()-cpu)/seconds
	r.written, r.grown = float64(now.written-old.written)/n, float64(now.disk-old.disk)/n
	if r.share < s.least || r.share > s.most {
		return r, fmt.Errorf("a figure needs %g to %g of the readings that were due, not %s", s.least, s.most, r)
	}
	if late := last.waiting - first.waiting; math.Abs(late) > (1-s.least)*due+z.rate() {
		return r, fmt.Errorf("the readings that wait to be stored went from %.0f to %.0f; a figure needs a server that keeps up, not %s",
			first.waiting, last.waiting, r)
	}
	return r, nil
}

// diskUse returns how many bytes the files in a directory take on the disk. Files that go away
// meanwhile do not count.
func diskUse(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				if stat, ok := info.Sys().(*syscall.Stat_t); ok {
					sum += stat.Blocks * 512
				}
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return sum, err
}
