package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

const (
	// spoolAgents come back after an hour without a server, in which each took ten stats every ten
	// seconds, as before.
	spoolAgents, spoolStats = 1000, 10
	spoolEvery              = 10 * time.Second
	spoolRecords            = int(time.Hour / spoolEvery)
	// spoolPatience is how long it may take until all of it is there.
	spoolPatience = 10 * time.Minute
)

// runSpool measures how an hour from the spools of a thousand agents comes in behind their live
// polls.
func (b *bench) runSpool(ctx context.Context) (err error) {
	s, err := b.server("spool", spoolEvery, "--raw-retention", "8h")
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Kill()
	defer func() { err = withLog(err, s) }()
	cpu, err := s.CPU()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, spoolPatience)
	defer cancel()
	began := time.Now()
	fleet := new(spoolFleet)
	fleet.left.Store(int64(spoolAgents * spoolRecords))
	for i := range spoolAgents {
		fleet.work.Go(func() { fleet.run(ctx, s.RelayAddr, i) })
	}
	defer fleet.work.Wait()
	defer cancel()
	if err := s.Await(ctx, func() (bool, error) { return fleet.left.Load() == 0, fleet.error() }); err != nil {
		return fmt.Errorf("%d records still wait: %w", fleet.left.Load(), err)
	}
	took := time.Since(began)
	after, err := s.CPU()
	if err != nil {
		return err
	}
	values := make(map[string]float64)
	for _, name := range []string{"past_readings_total", "polls_skipped_total", "polls_unanswered_total", "polls_total", "poll_answer_seconds_count"} {
		if values[name], err = s.Metric("pulse_ingest_" + name); err != nil {
			return err
		}
	}
	quick, err := s.Metric("pulse_ingest_poll_answer_seconds_bucket", `le="0.5"`)
	if err != nil {
		return err
	}
	past, late := values["past_readings_total"], values["polls_skipped_total"]+values["polls_unanswered_total"]
	slow := 1 - quick/values["poll_answer_seconds_count"]
	what := fmt.Sprintf("spools: an hour of %d agents with %d stats every %v", spoolAgents, spoolStats, spoolEvery)
	all := float64(spoolAgents * spoolRecords * spoolStats)
	b.add(what+", until the journal has it", past == all, "all of it, once", "%.0f s, %.0f readings/s, %.1f µs of CPU a reading (%.0f of %.0f)",
		took.Seconds(), all/took.Seconds(), float64((after-cpu).Microseconds())/all, past, all)
	b.add(what+": polls skipped or unanswered meanwhile", late == 0, "0", "%.0f of %.0f", late, values["polls_total"])
	b.add(what+": polls answered after more than half a second", slow <= 0.01, "1 %", "%.2f %%", slow*100)
	return nil
}

// spoolFleet are agents that have just come back.
type spoolFleet struct {
	work sync.WaitGroup
	left atomic.Int64 // records that the server does not have

	mu  sync.Mutex
	err error
}

func (f *spoolFleet) error() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *spoolFleet) run(ctx context.Context, addr string, i int) {
	if err := f.talk(ctx, addr, i); err != nil && ctx.Err() == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = errors.Join(f.err, err)
	}
}

// talk is one agent. Its records are numbered from 1, the last of them was taken just now.
func (f *spoolFleet) talk(ctx context.Context, addr string, i int) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	began := time.Now()
	items := make([]relaywire.GotItem, spoolStats)
	hello := relaywire.AppendID(nil, relaytest.FleetID(i), "")
	for k := range items {
		items[k] = relaywire.GotItem{Collector: relaytest.FleetCollector(k), Stat: relaytest.FleetStat(k), Value: float64(k)}
		hello = relaywire.AppendAdd(hello, relaytest.FleetCollector(k), []string{"service:web"})
	}
	if _, err := conn.Write(hello); err != nil {
		return err
	}
	id := relaywire.SpoolID(i + 1)
	waiting, live := uint64(spoolRecords), uint64(spoolRecords)
	say := func(dst []byte) []byte {
		return relaywire.AppendSpool(dst, relaywire.SpoolState{ID: id, Waiting: waiting, Now: time.Now().UnixMilli()})
	}
	lines := relaywire.NewReader(conn)
	for {
		m, err := lines.Read()
		if err != nil {
			return err
		}
		var answer []byte
		switch m.Verb {
		case relaywire.VerbTakes:
			answer = say(nil)
		case relaywire.VerbGet:
			live++
			items[0].Value = float64(live)
			answer, _ = relaywire.AppendTook(nil, relaywire.Record{First: uint64(spoolRecords) + 1, Seq: live}, items)
		case relaywire.VerbKept:
			if _, r, err := relaywire.ParseKept(m.Args); err == nil && r.Seq <= uint64(spoolRecords) {
				f.left.Add(-int64(r.Seq - r.First + 1))
			}
		case relaywire.VerbRecall:
			n, err := relaywire.ParseRecall(m.Args)
			if err != nil {
				return err
			}
			batch := min(uint64(n), waiting)
			for seq := waiting - batch + 1; seq <= waiting; seq++ {
				items[0].Value = float64(seq)
				at := began.Add(time.Duration(int64(seq)-int64(spoolRecords)) * spoolEvery)
				answer, _ = relaywire.AppendPast(answer, relaywire.Record{First: waiting - batch + 1, Seq: seq}, at.UnixMilli(), items)
			}
			if waiting -= batch; batch > 0 {
				answer = say(answer)
			}
		case relaywire.VerbError:
			return fmt.Errorf("the server said %q", m.Args)
		}
		if _, err := conn.Write(answer); err != nil {
			return err
		}
	}
}
