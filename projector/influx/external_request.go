package influx

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/influxdata/influxdb1-client/models"
	client "github.com/influxdata/influxdb1-client/v2"

	"github.com/nanopack/pulse/internal/cut"
)

// defaultMaxAnswer bounds the bytes that are read of an answer; they hold some 5 million values.
const defaultMaxAnswer = 256 << 20

// These are the limits, in bytes, of the headers of an answer and of the version in it, which ends
// up in the log and in answers of the API.
const (
	maxHeaders = 64 << 10
	maxVersion = 64
)

// request is one HTTP request to the server.
type request struct {
	op           string // for errors: ping, query or write
	method, path string
	params       url.Values // in the URL
	form, gzip   bool       // what body holds
	body         []byte     // not reused until bodies is 0
	bodies       atomic.Int32
}

// reusable reports whether nothing reads body any more. The transport may still read it after a
// server answered without having read the whole request.
func (r *request) reusable() bool { return r.bodies.Load() == 0 }

// openBody returns a new reader of body for the transport, which closes each reader.
func (r *request) openBody() (io.ReadCloser, error) {
	r.bodies.Add(1)
	return &requestBody{Reader: bytes.NewReader(r.body), bodies: &r.bodies}, nil
}

type requestBody struct {
	*bytes.Reader
	bodies *atomic.Int32
	closed atomic.Bool
}

func (b *requestBody) Close() error {
	if b.closed.CompareAndSwap(false, true) {
		b.bodies.Add(-1)
	}
	return nil
}

// response is an answer that was read to its end.
type response struct {
	status  int
	version string // "" if it does not come from an InfluxDB
	kind    string // content type
	body    []byte
}

// do sends one request and reads the answer, whatever its status. The error is an *Error: the store
// is closed, the request is not valid, the answer is too large, or no answer came in time.
func (e *external) do(ctx context.Context, r *request) (answer *response, err error) {
	err = e.exchange(ctx, r, func(resp *http.Response) error {
		answer, err = e.whole(r.op, resp)
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// whole reads an answer to its end.
func (e *external) whole(op string, resp *http.Response) (*response, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, e.maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > e.maxAnswer {
		return nil, e.tooLarge(op, resp)
	}
	return &response{
		status:  resp.StatusCode,
		version: cut.Text(resp.Header.Get("X-Influxdb-Version"), maxVersion),
		kind:    resp.Header.Get("Content-Type"),
		body:    body,
	}, nil
}

func (e *external) tooLarge(op string, resp *http.Response) *Error {
	return &Error{Op: op, Kind: Invalid, Status: resp.StatusCode,
		Err: fmt.Errorf("the answer is over %d MiB: ask for a shorter time or fewer series", e.maxAnswer>>20)}
}

// exchange sends one request and calls read with the answer, whatever its status. An *Error or
// *visitError of read is returned as it is.
func (e *external) exchange(ctx context.Context, r *request, read func(*http.Response) error) error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return &Error{Op: r.op, Err: ErrClosed}
	}
	e.calls.Add(1)
	e.mu.Unlock()
	defer e.calls.Done()

	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	if r.op != "write" {
		defer context.AfterFunc(e.done, cancel)()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, e.base.JoinPath(r.path).String(), nil)
	if err != nil {
		return &Error{Op: r.op, Kind: Invalid, Err: err}
	}
	req.URL.RawQuery = r.params.Encode()
	if e.user != "" {
		req.SetBasicAuth(e.user, e.password)
	}
	if r.form {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if r.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	// An Idempotency-Key of nil is not sent. It tells the transport that it may repeat the request
	// on a new connection if the server has closed the idle one.
	req.Header["Idempotency-Key"] = nil
	if r.body != nil {
		req.ContentLength = int64(len(r.body))
		req.GetBody = r.openBody
		req.Body, _ = r.openBody()
	}

	resp, err := e.http.Do(req)
	if err == nil {
		defer resp.Body.Close()
		err = read(resp)
	}
	switch {
	case err == nil:
		return nil
	case caller.Err() != nil:
		err = context.Cause(caller)
	case e.done.Err() != nil && r.op != "write":
		err = ErrClosed
	case ctx.Err() != nil:
		err = fmt.Errorf("no answer from %s within %v: %w", e.base.Host, e.timeout, ctx.Err())
	default:
		if own, ok := errors.AsType[*Error](err); ok {
			return own
		}
		if visited, ok := errors.AsType[*visitError](err); ok {
			return visited.err
		}
		// Take the cause out of a *url.Error: its URL repeats what the Error says.
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
	}
	return &Error{Op: r.op, Kind: Temporary, Err: cut.Error(err, maxSaid)}
}

// text returns the error message of an answer.
func (r *response) text() string {
	var answer struct{ Error string }
	if json.Unmarshal(r.body, &answer) == nil && answer.Error != "" {
		return answer.Error
	}
	text := strings.TrimSpace(string(r.body[:min(len(r.body), 512)]))
	if text == "" {
		text = http.StatusText(r.status)
	}
	if r.version == "" {
		text += " (not from an InfluxDB 1.x: check the address)"
	}
	return text
}

// failure returns the error for an unsuccessful answer to any operation.
func (r *response) failure(op string) *Error {
	text := r.text()
	e := &Error{Op: op, Kind: Temporary, Status: r.status, Err: errors.New(cut.Text(text, maxSaid))}
	switch {
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		e.Kind = Auth
	case hasAnyPrefix(text, schemaTexts):
		e.Kind = Schema
	case (op == "query" || op == "read") && r.status == http.StatusBadRequest && r.version != "":
		e.Kind = Invalid
	}
	return e
}

// rows decodes the answer to a query with the client's own types, as it arrives. A series that comes
// in parts becomes one row.
func (e *external) rows(resp *http.Response) ([]models.Row, error) {
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "application/json" || resp.StatusCode != http.StatusOK {
		whole, err := e.whole("query", resp)
		if err != nil {
			return nil, err
		}
		return nil, whole.failure("query")
	}
	body := &answerBody{in: resp.Body, left: e.maxAnswer + 1}
	parts := json.NewDecoder(body)
	parts.UseNumber()
	var rows []models.Row
	some, more := false, false // parts of the answer, parts of the last row
	for {
		var part client.Response
		err := parts.Decode(&part)
		switch {
		case errors.Is(err, io.EOF) && some:
			return rows, nil
		case body.left <= 0:
			return nil, e.tooLarge("query", resp)
		case body.err != nil:
			return nil, body.err
		case err != nil: // InfluxDB 1.6 breaks off like this, with its reason
			said, _ := io.ReadAll(io.LimitReader(io.MultiReader(parts.Buffered(), body), maxSaid))
			return nil, &Error{Op: "query", Status: resp.StatusCode, Err: fmt.Errorf("the answer is not readable: %s", cmp.Or(strings.TrimSpace(string(said)), err.Error()))}
		}
		if err := part.Error(); err != nil {
			return nil, StatementError(resp.StatusCode, err.Error())
		}
		some = true
		for _, result := range part.Results {
			for i := range result.Series {
				row := &result.Series[i]
				if err := normalise(row); err != nil {
					return nil, &Error{Op: "query", Status: resp.StatusCode, Err: err}
				}
				if more {
					last := &rows[len(rows)-1]
					last.Values = append(last.Values, row.Values...)
				} else {
					rows = append(rows, *row)
				}
				rows[len(rows)-1].Partial, more = false, row.Partial
			}
		}
	}
}

// answerBody reads the body of an answer up to a limit, and keeps the error of the connection: who
// decodes it says only what it got.
type answerBody struct {
	in   io.Reader
	left int64
	err  error
}

func (b *answerBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	n, err := b.in.Read(p[:min(int64(len(p)), b.left)])
	if b.left -= int64(n); err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// normalise converts the values of a row to the types that Store promises.
func normalise(row *models.Row) error {
	for _, values := range row.Values {
		for i, v := range values {
			n, ok := v.(json.Number)
			if !ok {
				continue
			}
			var err error
			if i < len(row.Columns) && row.Columns[i] == timeKey {
				values[i], err = n.Int64()
			} else {
				values[i], err = n.Float64()
			}
			if err != nil {
				return fmt.Errorf("column %d: %w", i, err)
			}
		}
	}
	return nil
}
