package influx

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// An answer without end is given up, and says what to do.
func TestAnswerTooLarge(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"results":[{"series":[{"values":[[`+strings.Repeat("1,", 2<<20))
	}))
	defer server.Close()
	s, err := OpenExternal(ExternalOptions{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.(*external).maxAnswer = 1 << 20
	_, err = s.Query(t.Context(), `SELECT "cpu" FROM "cpu"`, nil)
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Invalid || !strings.Contains(err.Error(), "shorter time") {
		t.Errorf("error %v", err)
	}
}
