package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/selfsigned"
	"github.com/nanopack/pulse/relaywire"
)

// TestAgentReload changes the token, the trusted certificate and the log level of an agent by
// SIGHUP. The open connection stays, and the next connection uses the new values. A wrong
// configuration changes nothing.
func TestAgentReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, ca := filepath.Join(dir, "agent.json"), filepath.Join(dir, "ca.pem")
	var configs [2]*tls.Config
	var authorities [2]string
	for i, name := range []string{"one", "two"} {
		own := filepath.Join(dir, name)
		cert, key := filepath.Join(own, "cert.pem"), filepath.Join(own, "key.pem")
		if err := selfsigned.Make(cert, key, "pulse"); err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(cert)
		if err != nil {
			t.Fatal(err)
		}
		configs[i], authorities[i] = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, string(text)
	}
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	// accept is the server's side of one connection. It sends the ok, and returns the id line with
	// the token.
	accept := func(i int) (*tls.Conn, *bufio.Reader, string) {
		t.Helper()
		if err := server.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		for {
			raw, err := server.Accept()
			if err != nil {
				t.Fatal(err)
			}
			conn := tls.Server(raw, configs[i])
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(conn)
			line, err := lines.ReadString('\n')
			if err == nil { // the agent sends its token only to a server that asks for it
				if _, err := conn.Write(relaywire.AppendError(nil, relaywire.ErrMissingToken.Error())); err != nil {
					t.Fatal(err)
				}
				line, err = lines.ReadString('\n')
			}
			if err == nil {
				if _, err := io.WriteString(conn, "ok\n"); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				return conn, lines, strings.TrimSpace(line)
			}
			conn.Close() // it trusts another certificate
		}
	}
	write := func(values map[string]any) {
		t.Helper()
		text, err := json.Marshal(values)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, string(text))
	}
	address := server.Addr().String()
	writeFile(t, ca, authorities[0])
	write(map[string]any{"token": "first-token", "tls-ca": ca, "server": address})

	agent, _ := asPulse(t, "relay", "--config-file", file, "--id", "agent")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	agent.Stderr = w
	err = agent.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	log := bufio.NewScanner(r)
	awaitLine := func(want string) {
		t.Helper()
		for log.Scan() {
			if strings.Contains(log.Text(), want) {
				return
			}
		}
		t.Fatalf("the log ends without %q", want)
	}
	hangUp := func() {
		t.Helper()
		if err := agent.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	conn, lines, id := accept(0)
	if id != "id agent token:first-token" {
		t.Errorf("it says %q", id)
	}

	for text, want := range map[string]string{
		`{"token": `: "--config-file", `{"token": "two words"}`: "--token", `{"tls": "perhaps"}`: "--tls", `{"tls-ca": "nowhere.pem"}`: "--tls-ca",
		`{"log-level": "loud"}`: "--log-level",
	} {
		writeFile(t, file, text)
		hangUp()
		awaitLine(`msg="not reloaded: everything stays as it was" error="pulse relay: ` + want)
	}
	writeFile(t, ca, authorities[1])
	write(map[string]any{"token": "second-token", "tls-ca": ca, "server": "127.0.0.1:1", "tags": "rack:7", "log-level": "DEBUG", "id": "ignored: the flag wins"})
	hangUp()
	awaitLine(`msg=reloaded changed="--log-level, --token"`)
	awaitLine(`msg="new values are ignored until a restart" flags="--server, --tags"`)
	if _, err := io.WriteString(conn, "get ram\n"); err != nil {
		t.Fatal(err)
	}
	for line := ""; !strings.HasPrefix(line, "got ram-"); {
		if line, err = lines.ReadString('\n'); err != nil {
			t.Fatalf("the connection that stood: %v", err)
		}
	}
	conn.Close()
	if _, _, id := accept(1); id != "id agent token:second-token" {
		t.Errorf("after the reload it says %q", id)
	}
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	go func() {
		for log.Scan() {
		}
	}()
	if err := agent.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
