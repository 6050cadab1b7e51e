package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/pulseproc"
)

// clockFile is the environment variable with the name of a file. A server under test reads from
// this file how wrong its clock is, in nanoseconds.
const clockFile = "TEST_CLOCK_FILE"

// readSuffix is the suffix of a second file, into which a server writes the offset that it has read.
const readSuffix = ".read"

// A wrongClock is the clock of the server processes. The test sets it.
type wrongClock struct {
	file   string
	offset time.Duration
}

func newClock(t *testing.T) *wrongClock {
	t.Helper()
	c := &wrongClock{file: filepath.Join(t.TempDir(), "clock")}
	c.step(t, 0)
	return c
}

// step moves the clock. A running server reads the new time within some milliseconds:
// awaitRead waits for it.
func (c *wrongClock) step(t *testing.T, d time.Duration) {
	t.Helper()
	c.offset += d
	next := c.file + ".next"
	if err := os.WriteFile(next, []byte(strconv.FormatInt(int64(c.offset), 10)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, c.file); err != nil {
		t.Fatal(err)
	}
}

// awaitRead waits until the running server has read the time that was set last.
func (c *wrongClock) awaitRead(t *testing.T, s *pulseproc.Server) {
	t.Helper()
	want := strconv.FormatInt(int64(c.offset), 10)
	await(t, s, "the server's clock", 30*time.Second, func() error {
		text, err := os.ReadFile(c.file + readSuffix)
		if err == nil && string(text) != want {
			err = fmt.Errorf("it is wrong by %s ns, not %s", text, want)
		}
		return err
	})
}

// now returns the time on the servers' clock.
func (c *wrongClock) now() time.Time { return time.Now().Add(c.offset) }

// newServer makes a server with this clock, and stops it when the test ends.
func (c *wrongClock) newServer(t *testing.T, dataDir string, args ...string) *pulseproc.Server {
	t.Helper()
	return serverOf(t, pulseproc.Options{Env: []string{clockFile + "=" + c.file}, DataDir: dataDir, Args: args})
}

// runWithClock runs main with a clock that is wrong by the number in the file.
func runWithClock(file string) {
	var offset atomic.Int64
	var known string
	read := func() error {
		text, err := os.ReadFile(file)
		if err != nil || string(text) == known {
			return err
		}
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return err
		}
		known = string(text)
		offset.Store(n)
		return os.WriteFile(file+readSuffix, text, 0o600)
	}
	config, err := ParseConfig(os.Args[1:])
	if err == nil {
		err = read()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pulse:", err)
		os.Exit(command.ExitUsage)
	}
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			if err := read(); err != nil && !os.IsNotExist(err) { // the test may have ended
				fmt.Fprintln(os.Stderr, "pulse: the clock:", err)
			}
		}
	}()
	// The monotonic part of the time is removed, so that a step of the clock has an effect.
	config.now = func() time.Time { return time.Now().Round(0).Add(time.Duration(offset.Load())) }
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(command.OnStandardStreams(func(stdout, stderr io.Writer) int { return serve(ctx, config, stdout, stderr) }))
}
