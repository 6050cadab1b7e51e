package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/internal/pulseproc"
)

// relayExamples are the relays in docs/examples in other languages.
var relayExamples = []relayExample{
	{"python", "python3", "relay-python/relay.py"},
	{"node", "node", "relay-node/relay.js"},
	{"bash", "bash", "relay-bash/relay.sh"},
}

type relayExample struct{ language, program, file string }

// start starts the relay, and kills it when the test ends. It has the token of-the-relays.
func (e relayExample) start(t *testing.T, address, id string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath(e.program)
	if err != nil {
		t.Fatalf("%v: make tools installs it", err)
	}
	said := &pulseproc.Tail{}
	relay := exec.Command(program, filepath.Join("..", "..", "docs", "examples", e.file), address, id)
	relay.Env = append(os.Environ(), "PULSE_RELAY_TOKEN=of-the-relays")
	relay.Stdout, relay.Stderr = said, said
	if err := relay.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if relay.ProcessState == nil {
			_ = relay.Process.Kill() // the test has failed
			_ = relay.Wait()
		}
		if t.Failed() {
			t.Logf("the relay said:\n%s", said)
		}
	})
	return relay
}

// terminate ends the relay with SIGTERM, after which it exits with 0.
func terminate(t *testing.T, relay *exec.Cmd) {
	t.Helper()
	if err := relay.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := relay.Wait(); err != nil {
		t.Errorf("the relay ended with %v", err)
	}
}

// TestExampleRelays runs each example relay against a server, with and without a relay token. Its
// readings come, also after the server was killed and started again, and it leaves at SIGTERM.
func TestExampleRelays(t *testing.T) {
	for _, example := range relayExamples {
		for how, args := range map[string][]string{"without a token": nil, "with a token": {"--relay-token", "of-the-relays"}} {
			t.Run(example.language+" "+how, func(t *testing.T) {
				t.Parallel()
				s := startServer(t, t.TempDir(), append(args, "--influx-address", "embedded", "-p", "1", "-b", "1")...)
				id := "example-" + example.language
				relay := example.start(t, s.RelayAddr, id)

				for _, when := range []string{"at first", "after a restart"} {
					began := time.Now().Unix()
					for _, stat := range []string{"load_1", "memory_available"} {
						await(t, s, stat+" "+when, time.Minute, func() error { return freshExample(s, stat, example.language, began) })
					}
					var keys []struct{ Stat, Unit string }
					if err := s.Get("/keys?detail=1&host="+id, &keys); err != nil {
						t.Fatal(err)
					}
					for _, k := range keys {
						if k.Unit == "" {
							t.Errorf("%s: %s has no unit", when, k.Stat)
						}
					}
					if when == "at first" {
						s.Kill()
						if err := s.Start(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
				}
				terminate(t, relay)
				await(t, s, "the end of the connection", time.Minute, func() error {
					var relays []ingest.Relay
					if err := s.Get("/relays", &relays); err != nil {
						return err
					}
					if len(relays) != 1 || relays[0].ID != id || relays[0].Connected {
						return fmt.Errorf("/relays has %+v", relays)
					}
					return nil
				})
			})
		}
	}
}

// freshExample returns nil if /latest has a reading of the example's relay since began.
func freshExample(s *pulseproc.Server, name, language string, began int64) error {
	var latest stat
	if err := s.Get("/latest/"+name+"?host=example-"+language+"&example="+language, &latest); err != nil {
		return err
	}
	if latest.Time <= began || latest.Value < 0 || name == "memory_available" && latest.Value < 1<<20 {
		return fmt.Errorf("%s is %+v", name, latest)
	}
	return nil
}

// TestExampleRelaysWords plays the server and checks each line of an example: what is said when, and
// that the relay takes a silent server for gone.
func TestExampleRelaysWords(t *testing.T) {
	for _, example := range relayExamples {
		t.Run(example.language, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			relay := example.start(t, listener.Addr().String(), "web 1")

			s := acceptExample(t, listener)
			s.expect("id web 1") // no token before the server asks for it
			s.say("error missing token: send id {id} token:{token}\n")
			s.expect("id web 1 token:of-the-relays")
			s.say("ok\nbeat 1\n")
			added := []string{s.line(), s.line(), s.line()}
			if want := "add load:example:" + example.language; !slices.Contains(added, want) || !strings.HasPrefix(added[0], "add ") {
				t.Errorf("it adds %q, not %q and two more", added, want)
			}
			s.say("ok\nok\nok\ntakes past,others\ntakes past,units\n")
			if line := s.line(); !strings.HasPrefix(line, "units load_1:processes,load_5:") {
				t.Errorf("it says %q to a server that takes units", line)
			}
			s.say("flush\n")
			s.expect("ok")
			s.say("override 10 load:1\n")
			s.expect("ok")
			s.say("words of another release\nget load,nobody\n")
			if line := s.line(); !strings.HasPrefix(line, "got load-load_1:") || strings.Count(line, ",") != 2 {
				t.Errorf("it answers %q to a get of load", line)
			}
			s.say("get nobody\n")
			s.expect("got")
			s.expect("ping") // after a beat
			s.say("pong\n")
			s.expect("ping")
			s.ended() // after another beat

			s = acceptExample(t, listener)
			s.expect("id web 1")
			s.say("ok\r\nbeat 1\r\nget lo")
			for range added {
				s.line()
			}
			s.expect("ping") // a beat after the half line
			s.say("ad\r\n")
			if line := s.line(); !strings.HasPrefix(line, "got load-load_1:") {
				t.Errorf("it answers %q to a get that came in two parts", line)
			}
			terminate(t, relay)
			for {
				line := s.line()
				if line == "close" {
					break
				}
				if line != "ping" {
					t.Fatalf("it says %q instead of close", line)
				}
			}
			s.ended()
		})
	}
}

// examplesServer is the server's side of a connection with an example.
type examplesServer struct {
	t     *testing.T
	conn  net.Conn
	lines *bufio.Reader
}

func acceptExample(t *testing.T, listener net.Listener) examplesServer {
	t.Helper()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return examplesServer{t, conn, bufio.NewReader(conn)}
}

func (s examplesServer) say(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.conn, text); err != nil {
		s.t.Fatal(err)
	}
}

func (s examplesServer) line() string {
	s.t.Helper()
	line, err := s.lines.ReadString('\n')
	if err != nil {
		s.t.Fatalf("%q, then %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (s examplesServer) expect(line string) {
	s.t.Helper()
	if got := s.line(); got != line {
		s.t.Fatalf("it says %q instead of %q", got, line)
	}
}

func (s examplesServer) ended() {
	s.t.Helper()
	if line, err := s.lines.ReadString('\n'); err != io.EOF {
		s.t.Errorf("it says %q (%v) instead of closing the connection", line, err)
	}
}
