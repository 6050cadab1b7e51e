package query

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/nanopack/pulse/internal/duration"
	"github.com/nanopack/pulse/internal/strictjson"
)

// readBody reads a body as far as ServeHTTP lets it.
func readBody(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(r.Body)
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, &httpError{status: http.StatusRequestEntityTooLarge, err: err,
			text: fmt.Sprintf("the body is longer than %d bytes", tooLong.Limit)}
	case err != nil:
		return nil, badRequest("the body could not be read: %v", err)
	}
	return b, nil
}

// parseJSON reads a body that is one JSON object without fields of other names.
func parseJSON(b []byte, v any, emptyAllowed bool) error {
	if emptyAllowed && strings.TrimSpace(string(b)) == "" {
		return nil
	}
	if err := strictjson.Into(b, v); err != nil {
		return badBody(err)
	}
	return nil
}

// badBody is the answer to a body that strictjson did not take.
func badBody(err error) error {
	if given, ok := errors.AsType[*duration.GivenError](err); ok {
		return badRequest("%v", given)
	}
	if errors.Is(err, strictjson.ErrMore) {
		return badRequest("the body is more than one JSON object")
	}
	return badRequest("the body is not the JSON object expected: %v", err)
}
