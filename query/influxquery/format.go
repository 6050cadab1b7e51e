package influxquery

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/influxdata/influxdb1-client/models"
)

// A format writes responses in what the client accepts.
type format interface {
	kind() string // content type
	write(w io.Writer, r *response) error
}

// formatFor chooses as InfluxDB does: the first type of Accept that it knows, JSON otherwise.
func formatFor(r *http.Request) format {
	for _, header := range r.Header["Accept"] {
		for accept := range strings.SplitSeq(header, ",") {
			kind, _, _ := strings.Cut(accept, ";")
			switch kind = strings.TrimSpace(kind); kind {
			case "application/csv", "text/csv":
				return &csvFormat{content: kind, statement: -1}
			case "application/json", "application/*", "*/*":
				return jsonFormat{pretty: r.URL.Query().Get("pretty") == "true"}
			}
		}
	}
	return jsonFormat{pretty: r.URL.Query().Get("pretty") == "true"}
}

type jsonFormat struct{ pretty bool }

func (jsonFormat) kind() string { return "application/json" }

func (f jsonFormat) write(w io.Writer, r *response) error {
	text, err := f.encode(r)
	if err != nil {
		// JSON has no infinity, and no number that is none. InfluxDB says so in the answer.
		for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
			err = inner
		}
		if text, err = f.encode(&response{Err: err.Error()}); err != nil {
			return err
		}
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

func (f jsonFormat) encode(r *response) ([]byte, error) {
	if f.pretty {
		return json.MarshalIndent(r, "", "    ")
	}
	return json.Marshal(r)
}

// csvFormat writes a header whenever the columns change, and an empty line before it.
type csvFormat struct {
	content   string
	statement int // the last one written
}

func (f *csvFormat) kind() string { return f.content }

func (f *csvFormat) write(w io.Writer, r *response) error {
	out := csv.NewWriter(w)
	if r.Err != "" {
		return out.WriteAll([][]string{{"error"}, {r.Err}})
	}
	for _, result := range r.Results {
		if result.Err != "" { // InfluxDB leaves it out
			if err := out.WriteAll([][]string{{"error"}, {result.Err}}); err != nil {
				return err
			}
			continue
		}
		for i, row := range result.Series {
			if result.Statement != f.statement || i > 0 && !slices.Equal(result.Series[i-1].Columns, row.Columns) {
				if f.statement >= 0 {
					out.Flush()
					if _, err := io.WriteString(w, "\n"); err != nil {
						return err
					}
				}
				f.statement = result.Statement
				if err := out.Write(append([]string{"name", "tags"}, row.Columns...)); err != nil {
					return err
				}
			}
			if err := writeRow(out, row); err != nil {
				return err
			}
		}
	}
	out.Flush()
	return out.Error()
}

func writeRow(out *csv.Writer, row models.Row) error {
	tags := strings.TrimPrefix(string(models.NewTags(row.Tags).HashKey()), ",")
	for _, values := range row.Values {
		record := []string{row.Name, tags}
		for _, v := range values {
			record = append(record, field(v))
		}
		if err := out.Write(record); err != nil {
			return err
		}
	}
	return nil
}

// field is a value as InfluxDB writes it in CSV.
func field(v any) string {
	switch v := v.(type) {
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case json.Number:
		if f, err := v.Float64(); err == nil && strings.ContainsAny(string(v), ".eE") {
			return strconv.FormatFloat(f, 'f', -1, 64)
		}
		return v.String()
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return strconv.FormatInt(v.UnixNano(), 10)
	default:
		return ""
	}
}
