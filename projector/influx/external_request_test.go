package influx

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The store stops reading an answer without end, and the error says what to do.
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

// Every answer of a server becomes rows of the promised types, or an Error.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		`{"results":[{"statement_id":0,"series":[{"name":"cpu","tags":{"host":"a"},"columns":["time","mean","s","b","n"],"values":[[1,2.5,"x",true,null]]}]}]}`,
		`{"results":[{"statement_id":0}]}`, `{"results":[{"error":"database not found: x"}]}`, `{"error":"timeout"}`, `{}`, `[]`, `null`, ``, `{"results":`,
		`{"results":[{"series":[{"columns":["time"],"values":[[1e400]]}]}]}`, `{"results":[{"series":[{"columns":[],"values":[[1,2]]}]}]}`,
		`{"results":[{"series":[{"columns":["time","v"],"values":[[null,{"a":[1]}],[]]}]}]}`,
		`{"results":[{"series":[{"columns":["time"],"values":[[1]],"partial":true}],"partial":true}]}{"results":[{"series":[{"columns":["time"],"values":[[2]]}]}]}`,
		`{"results":[{"series":[{"partial":true}]}]}` + "\n" + `{"error":"timeout"}`, `partial write: x dropped=3`,
		`{"error":"partial write: points beyond retention policy dropped=-2"}`, `{"error":"partial write:  dropped=1"}`,
		`{"error":"partial write: points beyond retention policy dropped=2"}`, `{"error":"partial write: unable to parse 'x' dropped=0"}`,
	} {
		for _, status := range []int{200, 204, 400, 404, 413, 500} {
			f.Add(status, body)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		r := &response{status: status, version: "1.8.10", kind: "application/json", body: []byte(body)}
		rows, err := (&external{maxAnswer: 1 << 20}).rows(&http.Response{
			StatusCode: status, Header: http.Header{"Content-Type": {r.kind}, "X-Influxdb-Version": {r.version}}, Body: io.NopCloser(strings.NewReader(body))})
		if e, ok := errors.AsType[*Error](err); err != nil && (!ok || e.Op != "query" || e.Err == nil || rows != nil) {
			t.Fatalf("%v with error %#v", rows, err)
		}
		for _, row := range rows {
			if row.Partial {
				t.Fatal("a row is said to be a part")
			}
			for _, values := range row.Values {
				for i, v := range values {
					isTime := i < len(row.Columns) && row.Columns[i] == "time"
					switch v.(type) {
					case json.Number:
						t.Fatalf("column %d is still %v", i, v)
					case int64:
						if !isTime {
							t.Fatalf("column %d is an integer", i)
						}
					case float64:
						if isTime {
							t.Fatalf("the time is a float")
						}
					}
				}
			}
		}
		res, err := r.written(3)
		if err != nil && res != (WriteResult{}) {
			t.Fatalf("%+v with error %v", res, err)
		}
		if res.Dropped < 0 || res.Rejected < 0 || (res.Rejected > 0) != (res.Reason != "") {
			t.Fatalf("%+v", res)
		}
	})
}
