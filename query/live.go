package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/apijson"
)

// Live streams readings as they come. Without it (Options.Live nil) there are no routes for it.
// Subscribe is called from several goroutines at once.
type Live interface {
	// Subscribe returns a stream, which the API closes. It does not wait. An error is a 503, and its
	// text is shown.
	Subscribe(LiveRequest) (LiveStream, error)
}

// LiveRequest says what a stream is to hold and where it begins.
type LiveRequest struct {
	Stat    string              // "": all
	Filters map[string][]string // as for Latest.Select
	// Resume begins after the journal's record After. Without it the stream begins now.
	Resume bool
	After  uint64
}

// LiveStream is one client's. Its methods are called from one goroutine.
type LiveStream interface {
	// Next waits until there is something to send and appends it to dst, in whole server-sent events.
	// io.EOF means that the stream is over. Any other error is ctx's. dst is not kept.
	Next(ctx context.Context, dst []byte) ([]byte, error)
	Close()
}

const (
	// lastEventID is a header, which a browser sends when it connects again, and a parameter for other
	// clients.
	lastEventID = "Last-Event-ID"
	// ticketName is the parameter that takes the token's place where no header can be sent.
	ticketName = "ticket"
	// streamPatience is how long a client of a stream may take to read the next part of it.
	streamPatience = 10 * time.Second

	stopping = "event: stopping\ndata: {}\n\n"
)

// live streams readings, of one stat or of all, until the client goes or the server stops.
func (s *Server) live(w http.ResponseWriter, r *http.Request, p params) error {
	request, err := parseLive(r, p.get("stat"))
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // or nginx holds it back
	header.Set("Content-Type", "text/event-stream; charset=utf-8")
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	stream, err := s.o.Live.Subscribe(request)
	if err != nil {
		return &httpError{status: http.StatusServiceUnavailable, text: "live readings cannot be streamed now: " + err.Error(), err: err}
	}
	defer stream.Close()
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Time{}); err != nil { // it would end the request's context
		return fmt.Errorf("lifting the time limit: %w", err)
	}
	if rec, ok := w.(*recorder); ok {
		rec.stream = true
	}
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.streams, cancel)()
	w.WriteHeader(http.StatusOK)
	for buf := []byte(nil); ; {
		// At first without a text, so that the client has its answer.
		if !s.send(w, control, buf) {
			return nil
		}
		buf, err = stream.Next(ctx, buf[:0])
		if err != nil && s.streams.Err() != nil && !errors.Is(err, io.EOF) {
			buf = append(buf, stopping...)
		}
		if err != nil {
			s.send(w, control, buf)
			return nil
		}
	}
}

// send writes a part of a stream. It returns false if the client is gone, or does not read in time.
func (s *Server) send(w io.Writer, control *http.ResponseController, b []byte) bool {
	begin := time.Now()
	// A deadline cannot be set on a connection that is gone, and then the write fails too.
	_ = control.SetWriteDeadline(begin.Add(s.patience))
	_, err := w.Write(b)
	if err == nil {
		err = control.Flush()
	}
	if err != nil && time.Since(begin) >= s.patience {
		s.metrics.stuck.Inc()
	}
	return err == nil
}

// parseLive reads the query parameters and the header.
func parseLive(r *http.Request, stat string) (LiveRequest, error) {
	request := LiveRequest{Stat: stat}
	if stat != "" {
		if err := checkName("the stat", stat); err != nil {
			return request, err
		}
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return request, badRequest("the query string is malformed: %v", err)
	}
	last := r.Header.Get(lastEventID) // newer than the parameter, which stays in the address
	for _, key := range slices.Sorted(maps.Keys(values)) {
		switch key {
		case tokenName, strings.ToLower(tokenName), ticketName:
		case "verb":
			return request, badRequest("verb is given: readings come one by one here, leave it out")
		case strings.ToLower(lastEventID):
			if last == "" {
				last = values.Get(key)
			}
		default:
			continue
		}
		if n := len(values[key]); n > 1 {
			return request, badRequest("%s is given %d times: give it once", key, n)
		}
		delete(values, key)
	}
	if last != "" {
		if request.After, err = strconv.ParseUint(last, 10, 64); err != nil {
			return request, badRequest("%s is %q: it must be the id of an event, a whole number", lastEventID, shorten(last, 64))
		}
		request.Resume = true
	}
	fs, err := parseFilters(values)
	if err != nil {
		return request, err
	}
	request.Filters = fs.byKey()
	return request, nil
}

// makeTicket gives a ticket to somebody who has the token.
func (s *Server) makeTicket(w http.ResponseWriter, _ *http.Request, _ params) error {
	name, expires, err := s.tickets.issue(s.o.Now())
	if err != nil {
		return &httpError{status: http.StatusServiceUnavailable, text: err.Error()}
	}
	s.writeJSON(w, http.StatusOK, struct {
		Ticket  string    `json:"ticket"`
		Expires time.Time `json:"expires"`
	}{name, apijson.Time(expires)})
	return nil
}
