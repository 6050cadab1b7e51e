package influxquery

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/influxdata/influxql"
)

// chunkRows is how many rows of a series are in one part of an answer, unless chunk_size asks for
// fewer. It is the default of InfluxDB.
const chunkRows = 10_000

// request is what a client asks for.
type request struct {
	statements       influxql.Statements
	database, policy string
	epoch            string // how times are written; empty: RFC 3339
	chunked          bool
	chunkRows        int
}

// badRequest is an error of the request itself.
type badRequest struct{ text string }

func (e *badRequest) Error() string { return e.text }

func bad(format string, args ...any) error { return &badRequest{fmt.Sprintf(format, args...)} }

// parse reads a request as InfluxDB does: parameters from the URL and from a form.
func parse(r *http.Request) (*request, error) {
	text, err := statement(r)
	if err != nil {
		return nil, err
	}
	if text == "" {
		return nil, bad(`missing required parameter "q"`)
	}
	if err := boundText(text); err != nil {
		return nil, err
	}
	p := influxql.NewParser(strings.NewReader(text))
	if params := r.FormValue("params"); params != "" {
		bound, err := parameters(params)
		if err != nil {
			return nil, err
		}
		p.SetParams(bound)
	}
	q, err := p.ParseQuery()
	if err != nil {
		return nil, bad("error parsing query: %v", err)
	}
	req := &request{
		statements: q.Statements, database: r.FormValue("db"), policy: r.FormValue("rp"),
		epoch: strings.TrimSpace(r.FormValue("epoch")), chunked: r.FormValue("chunked") == "true", chunkRows: chunkRows,
	}
	if n, err := strconv.Atoi(r.FormValue("chunk_size")); req.chunked && err == nil && n > 0 {
		req.chunkRows = min(n, chunkRows)
	}
	return req, nil
}

// statement returns the parameter q, which may be a file of a multipart form too.
func statement(r *http.Request) (string, error) {
	err := r.ParseMultipartForm(maxText)
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return "", bad("the request is over %d bytes", tooLong.Limit)
	}
	if err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return "", bad("error reading the request: %v", err)
	}
	if q := strings.TrimSpace(r.FormValue("q")); q != "" {
		return q, nil
	}
	if r.MultipartForm == nil || len(r.MultipartForm.File["q"]) == 0 {
		return "", nil
	}
	f, err := r.MultipartForm.File["q"][0].Open()
	if err != nil {
		return "", bad("error reading the request: %v", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return "", bad("error reading the request: %v", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// parameters decodes what $name stands for. Numbers with a point are floats, others integers.
func parameters(text string) (map[string]any, error) {
	var bound map[string]any
	in := json.NewDecoder(strings.NewReader(text))
	in.UseNumber()
	if err := in.Decode(&bound); err != nil {
		return nil, bad("error parsing query parameters: %v", err)
	}
	for name, v := range bound {
		n, ok := v.(json.Number)
		if !ok {
			continue
		}
		var err error
		if strings.Contains(string(n), ".") {
			bound[name], err = n.Float64()
		} else {
			bound[name], err = n.Int64()
		}
		if err != nil {
			return nil, bad("error parsing json value: %v", err)
		}
	}
	return bound, nil
}
