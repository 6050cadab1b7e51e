package influx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/internal/cut"
)

// visitError carries an error of a visitor through a request.
type visitError struct{ err error }

func (e *visitError) Error() string { return e.err.Error() }
func (e *visitError) Unwrap() error { return e.err }

// Read implements Store. The server gets the statements in the text of Render.
func (e *external) Read(ctx context.Context, r ReadRequest, visit func(ReadResult) error) error {
	if err := CheckReads(r.Statements); err != nil {
		return err
	}
	text, params, err := Render(r.Statements)
	if err == nil {
		return e.read(ctx, r, text, params, visit)
	}
	return &Error{Op: "read", Kind: Invalid, Err: err}
}

// read sends the text of r's statements and calls visit with each part of the answer as it arrives.
func (e *external) read(ctx context.Context, r ReadRequest, text string, params map[string]any, visit func(ReadResult) error) error {
	bound, err := encodeParams(params)
	if err != nil {
		return &Error{Op: "read", Kind: Invalid, Err: err}
	}
	form := url.Values{"q": {text}, "epoch": {"ns"}, "params": {bound}, "chunked": {"true"}, "chunk_size": {strconv.Itoa(r.ChunkRows)}}
	if r.Database != "" {
		form.Set("db", r.Database)
	}
	if r.Policy != "" {
		form.Set("rp", r.Policy)
	}
	return e.exchange(ctx, &request{
		op: "read", method: http.MethodPost, path: "/query", form: true, body: []byte(form.Encode()),
	}, func(resp *http.Response) error {
		if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "application/json" || resp.StatusCode != http.StatusOK {
			whole, err := e.whole("read", resp)
			if err != nil {
				return err
			}
			return whole.failure("read")
		}
		return e.parts(resp, r.Statements, visit)
	})
}

// parts decodes a chunked answer.
func (e *external) parts(resp *http.Response, statements influxql.Statements, visit func(ReadResult) error) error {
	body := &io.LimitedReader{R: resp.Body, N: e.maxAnswer + 1}
	in := json.NewDecoder(body)
	in.UseNumber()
	for {
		var part struct {
			Results []ReadResult
			Error   string
		}
		switch err := in.Decode(&part); {
		case errors.Is(err, io.EOF):
			return nil
		case body.N <= 0:
			return e.tooLarge("read", resp)
		case err != nil:
			return err
		case part.Error != "":
			return readError(resp.StatusCode, part.Error)
		}
		for _, result := range part.Results {
			if err := times(&result, statements); err != nil {
				return &Error{Op: "read", Status: resp.StatusCode, Err: cut.Error(err, maxSaid)}
			}
			if err := visit(result); err != nil {
				return &visitError{err}
			}
		}
	}
}

func readError(status int, text string) *Error {
	err := StatementError(status, text)
	err.Op = "read"
	return err
}

// times makes time.Time of the times of a SELECT, in its time zone, as the engine does.
func times(result *ReadResult, statements influxql.Statements) error {
	if result.Statement < 0 || result.Statement >= len(statements) {
		return fmt.Errorf("the answer is for statement %d of %d", result.Statement, len(statements))
	}
	sel, ok := statements[result.Statement].(*influxql.SelectStatement)
	if !ok {
		return nil
	}
	zone := time.UTC
	if sel.Location != nil {
		zone = sel.Location
	}
	for _, row := range result.Series {
		for _, values := range row.Values {
			if len(values) == 0 {
				continue
			}
			if n, ok := values[0].(json.Number); ok {
				ns, err := n.Int64()
				if err != nil {
					return fmt.Errorf("the time of a row: %w", err)
				}
				values[0] = time.Unix(0, ns).In(zone)
			}
		}
	}
	return nil
}
