package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/selfsigned"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/link"
)

// sinkCommand is the first argument of the process that is a hub and keeps nothing: what is measured
// is the edge.
const sinkCommand = "sink"

// discarding is the journal of that hub.
type discarding struct{}

func (discarding) AppendInOrder(_ context.Context, records []journal.Record) (int, error) {
	return len(records), nil
}
func (discarding) LastOf(context.Context, string) (journal.Record, bool, error) {
	return journal.Record{}, false, nil
}
func (discarding) NextOf(context.Context, string, uint64) (journal.Record, bool, error) {
	return journal.Record{}, false, nil
}
func (discarding) LastSeq() uint64 { return 0 }
func (discarding) State(context.Context) (journal.State, error) {
	return journal.State{FirstSeq: 1}, nil
}

// runSink is the process: its arguments are the address and the files of the certificate, and its state.
func runSink(ctx context.Context, args []string) error {
	pair, err := tls.LoadX509KeyPair(args[1], args[2])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	db, err := bbolt.Open(args[3], 0o600, nil)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	h, err := link.NewHub(link.HubOptions{Listener: l, TLS: &tls.Config{Certificates: []tls.Certificate{pair}}, Journal: discarding{}, DB: db,
		Tokens: map[string]string{edgeName(0): edgeToken(0)}})
	if err != nil {
		return errors.Join(err, l.Close(), db.Close())
	}
	h.Start()
	fmt.Println(l.Addr())
	<-ctx.Done()
	return errors.Join(h.Stop(context.WithoutCancel(ctx)), db.Close())
}

// A sink is that process.
type sink struct {
	process *exec.Cmd
	benchHub
}

// startSink starts it. It has what the edge leaves of the processors, because hubs are elsewhere.
func (b *bench) startSink(ctx context.Context, name string) (*sink, error) {
	s := &sink{}
	cert, key := filepath.Join(b.dir, name+".crt"), filepath.Join(b.dir, name+".key")
	err := selfsigned.Make(cert, key, "hub")
	if err != nil {
		return nil, err
	}
	if s.trusted, err = command.ClientTLS(true, cert); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s.process = exec.CommandContext(ctx, self, sinkCommand, "127.0.0.1:0", cert, key, filepath.Join(b.dir, name+".db"))
	s.process.Stderr = os.Stderr
	out, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	line := bufio.NewScanner(out)
	if !line.Scan() {
		return nil, errors.Join(errors.New("the sink did not start"), s.process.Wait())
	}
	s.address = line.Text()
	return s, giveWay(s.process.Process.Pid)
}

// end kills it.
func (s *sink) end() {
	_ = s.process.Process.Kill() // it may have ended
	_ = s.process.Wait()         // it was killed
}
