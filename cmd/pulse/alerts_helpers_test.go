package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
)

// callAPI sends a request to the server. A status other than 200 is an error that holds the answer.
func callAPI(s *pulseproc.Server, method, path string, body, out any) error {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(data)
	}
	request, err := http.NewRequest(method, "http://"+s.HTTPAddr+path, content)
	if err != nil {
		return err
	}
	request.Header.Set("X-AUTH-TOKEN", "secret")
	response, err := alertsClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %d %s", method, path, response.StatusCode, bytes.TrimSpace(answer))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

var alertsClient = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}

// A receiver keeps the posts that it gets, by path. Its methods are safe for concurrent use.
type receiver struct {
	base  string
	mu    sync.Mutex
	posts map[string]chan received
}

type received struct {
	body     string // canonical
	delivery string // the number that the built-in evaluator gives each post
}

func startReceiver(t *testing.T) *receiver {
	r := &receiver{posts: make(map[string]chan received)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := canonicalPost(q)
		if err != nil {
			t.Errorf("posted to %s: %v", q.URL, err)
		}
		r.of(q.URL.Path[1:]) <- received{body, q.Header.Get("X-Pulse-Delivery")}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	r.base = server.URL
	return r
}

func (r *receiver) url(path string) string { return r.base + "/" + url.PathEscape(path) }

func (r *receiver) of(path string) chan received {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.posts[path] == nil {
		r.posts[path] = make(chan received, 10_000)
	}
	return r.posts[path]
}

// next returns the next body that is posted to the path.
func (r *receiver) next(path string) (string, error) {
	select {
	case post := <-r.of(path):
		return post.body, nil
	case <-time.After(2 * time.Minute):
		return "", errors.New("nothing was posted within two minutes")
	}
}

// rest returns the bodies that next has not returned.
func (r *receiver) rest(path string) (bodies []string) {
	for {
		select {
		case post := <-r.of(path):
			bodies = append(bodies, post.body)
		default:
			return bodies
		}
	}
}

// canonicalPost checks the parts of a post that differ from one post to the next, and leaves them
// out: times, durations, and the details, which are the message as HTML.
func canonicalPost(q *http.Request) (string, error) {
	var post struct {
		Time     time.Time
		Duration *time.Duration
		Details  *string
		Level    string
		Previous string `json:"previousLevel"`
		Data     struct{ Series []struct{ Values [][]any } }
	}
	data, err := io.ReadAll(q.Body)
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(data, &post); err != nil {
		return "", fmt.Errorf("%q: %w", data, err)
	}
	switch {
	case q.Method != http.MethodPost || q.Header.Get("Content-Type") != "application/json":
		return "", fmt.Errorf("%s with the type %q", q.Method, q.Header.Get("Content-Type"))
	case post.Duration == nil || post.Details == nil || len(post.Data.Series) != 1 || len(post.Data.Series[0].Values) != 1:
		return "", fmt.Errorf("an incomplete body: %s", data)
	case post.Previous == "OK" && *post.Duration != 0 || post.Level == "OK" && *post.Duration <= 0:
		return "", fmt.Errorf("%v since the alert left OK: %s", *post.Duration, data)
	case time.Since(post.Time) > 10*time.Minute || time.Since(post.Time) < 0:
		return "", fmt.Errorf("not of these minutes: %s", data)
	}
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		return "", err
	}
	for _, name := range []string{"time", "duration", "details"} {
		delete(all, name)
	}
	row := all["data"].(map[string]any)["series"].([]any)[0].(map[string]any)["values"].([]any)[0].([]any)
	if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(row[0])); err != nil {
		return "", err
	}
	row[0] = "T"
	canonical, err := json.Marshal(all)
	return string(canonical), err
}

// A steadyRelay sends the same readings ten times a second, until say or hush changes that.
type steadyRelay struct {
	conn  net.Conn
	pongs chan struct{} // one for each pong; closed at the end of the connection

	mu   sync.Mutex
	line string
}

// connectSteady connects a relay with the collectors c0, c1..., one for each element of tags, which
// holds the collector's tags. The relay is disconnected when the test ends.
func connectSteady(t *testing.T, addr, id string, tags ...string) (*steadyRelay, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	var work sync.WaitGroup
	stop := make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		_ = conn.Close()
		work.Wait()
	})
	if _, err := conn.Write([]byte("id " + id + "\n")); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(conn)
	if line, err := lines.ReadString('\n'); err != nil || line != "ok\n" {
		return nil, fmt.Errorf("the server answered %q, %v to the id %q", line, err, id)
	}
	for i, tags := range tags {
		if _, err := fmt.Fprintf(conn, "add c%d:%s\n", i, tags); err != nil {
			return nil, err
		}
	}
	r := &steadyRelay{conn: conn, pongs: make(chan struct{}, 1)}
	work.Go(func() {
		defer close(r.pongs)
		for line := ""; err == nil; line, err = lines.ReadString('\n') {
			if line == "pong\n" {
				r.pongs <- struct{}{}
			}
		}
	})
	work.Go(func() {
		ticker := time.NewTicker(readEvery)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
			r.mu.Lock()
			// An ok has no effect, but a relay that sends nothing for two beats is disconnected.
			_, _ = conn.Write([]byte(cmp.Or(r.line, "ok") + "\n")) // the test would miss a lost line
			r.mu.Unlock()
		}
	})
	return r, nil
}

// hush stops the sending. When hush returns, the journal has all readings that were sent before. A
// reading that came later would have a later time, and be part of a mean with the readings that
// follow.
func (r *steadyRelay) hush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line = ""
	if _, err := r.conn.Write([]byte("ping\n")); err != nil {
		return err
	}
	if _, ok := <-r.pongs; !ok {
		return errors.New("the server has ended the connection")
	}
	return nil
}

// say changes the line that is sent.
func (r *steadyRelay) say(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line = line
}
