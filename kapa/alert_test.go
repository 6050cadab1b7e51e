package kapa

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func decode(text string) (Alert, error) { return Decode([]byte(text)) }

const minimal = `{"metric":"cpu_used","threshold":80,"post":"http://127.0.0.1/alert"}`

// with returns the minimal alert with one more field, or with another value for one of its fields.
func with(field, value string) string {
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(minimal), &all); err != nil {
		panic(err)
	}
	all[field] = json.RawMessage(value)
	data, err := json.Marshal(all)
	if err != nil {
		panic(field + ": " + value)
	}
	return string(data)
}

func TestDecodeDefaults(t *testing.T) {
	a, err := decode(minimal)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(a)
	const want = `{"id":"","tags":{},"metric":"cpu_used","level":"crit","operator":"gt","threshold":80,"duration":"5m","post":"http://127.0.0.1/alert","every":"30s"}`
	if err != nil || string(data) != want {
		t.Errorf("%s, %v", data, err)
	}
}

// The example of the documentation can be decoded.
func TestDecodeExample(t *testing.T) {
	a, err := decode(`{"tags": {"host":"abc"}, "metric": "cpu_used", "level": "crit", "threshold": 80, "duration": "30s", "post": "http://127.0.0.1/alert"}`)
	want := Alert{Tags: map[string]string{"host": "abc"}, Metric: "cpu_used", Level: Crit, Operator: Greater, Threshold: 80, Duration: 30 * second,
		Post: "http://127.0.0.1/alert", Every: 30 * second}
	if err != nil || !reflect.DeepEqual(a, want) {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestDecodeTakes(t *testing.T) {
	for _, tt := range []struct{ field, value string }{
		{"threshold", `"0.1"`}, {"threshold", `-1e3`}, {"threshold", `".5"`}, {"threshold", `0`}, {"tags", `null`}, {"tags", `{}`}, {"tags", `{"host":"a,b-c:d","zone":"a:b"}`}, {"level", `"info"`},
		{"level", `""`}, {"operator", `""`}, {"operator", `"ne"`}, {"duration", `"1h30m"`}, {"duration", `"480m"`}, {"every", `"1s"`}, {"recover", `70`}, {"recover", `"70"`}, {"recover", `null`},
		{"deadman", `"30s"`}, {"deadman", `"1d"`}, {"status", `{"state":"pending"}`}, {"post", `"https://user:pass@[::1]:8443/a?b=c"`}, {"id", `"abc"`},
	} {
		a, err := decode(with(tt.field, tt.value))
		if err != nil {
			t.Errorf("%s: %s: %v", tt.field, tt.value, err)
			continue
		}
		data, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decode(string(data)); err != nil || !reflect.DeepEqual(a, again) {
			t.Errorf("%s: %+v came back as %+v, %v", data, a, again, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct{ field, value string }{
		{"metric", `""`}, {"metric", `5`}, {"metric", `"a\nb"`}, {"metric", `"` + strings.Repeat("x", 257) + `"`}, {"metric", `null`}, {"metric", `"cpu-used"`}, {"metric", `"a:b"`}, {"metric", `"a,b"`}, {"metric", `" a"`},
		{"tags", `[]`}, {"tags", `{"host":5}`}, {"tags", `{"":"x"}`}, {"tags", `{"x":""}`}, {"tags", `{"time":"x"}`}, {"tags", `{"x":"a,b"}`}, {"tags", `{"x ":"a"}`}, {"tags", `{"a\u0000":"x"}`},
		{"level", `"fatal"`}, {"level", `"CRIT"`}, {"level", `1`}, {"operator", `">"`},
		{"threshold", `"abc"`}, {"threshold", `"NaN"`}, {"threshold", `"inf"`}, {"threshold", `"0x10"`}, {"threshold", `"1_0"`}, {"threshold", `1e999`}, {"threshold", `null`},
		{"threshold", `true`}, {"threshold", `""`}, {"threshold", `" 5"`}, {"threshold", `{}`},
		{"duration", `"0s"`}, {"duration", `"9h"`}, {"duration", `"1500ms"`}, {"duration", `30`}, {"duration", `"-5m"`}, {"duration", `"5"`}, {"duration", `"99999999999999w"`},
		{"every", `"2h"`}, {"every", `"500ms"`}, {"every", `"x"`},
		{"recover", `81`}, {"recover", `"x"`}, {"deadman", `"10s"`}, {"deadman", `"2d"`}, {"deadman", `5`},
		{"post", `""`}, {"post", `"ftp://x/"`}, {"post", `"javascript:alert(1)"`}, {"post", `"//host/x"`}, {"post", `"http://"`}, {"post", `"http:host"`}, {"post", `"http://h/ x"`}, {"post", `"http://h/\r\nX: y"`},
		{"post", `"file:///etc/passwd"`}, {"post", `"http://[::1"`}, {"post", `"http://h/%zz"`}, {"post", `"/relative"`}, {"post", `7`},
		{"id", `5`},
	} {
		_, err := decode(with(tt.field, tt.value))
		var field *FieldError
		if !errors.As(err, &field) || field.Field != tt.field || !strings.HasPrefix(err.Error(), tt.field+" must ") {
			t.Errorf("%s: %s: %v", tt.field, tt.value, err)
		}
	}
	for _, text := range []string{``, `5`, `[]`, `null`, `{`, minimal + `{}`, minimal[:len(minimal)-1], `{"a":1,}`, `{"metric"}`} {
		var field *FieldError
		if _, err := decode(text); !errors.As(err, &field) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := decode(with("Metric", `"x"`)); err == nil || !strings.Contains(err.Error(), `"Metric" must be left out`) {
		t.Errorf("an unknown field: %v", err)
	}
	if _, err := decode(`{"metric":"a","metric":"b","threshold":1,"post":"http://x"}`); err == nil || err.Error() != "metric must be given once" {
		t.Errorf("a field twice: %v", err)
	}
	// The errors are readable for people.
	for text, want := range map[string]string{
		`{"threshold":1,"post":"http://x"}`:          "metric must be given: the name of one stat: what stands behind the dash in `got cpu-used:1`",
		`{"metric":"a","post":"http://x"}`:           "threshold must be given: a finite number, or a string that holds one",
		`{"metric":"a","threshold":1}`:               "post must be given: an http:// or https:// URL with a host",
		with("metric", `"cpu-used"`):                 "metric must be the name of one stat: what stands behind the dash in `got cpu-used:1` (it has '-' in it, which no relay sends)",
		with("tags", `"host:web1"`):                  `tags must be an object of at most 32 texts, as {"host":"web1"} (it is of type string)`,
		with("tags", `{"host":1}`):                   `tags must be an object of at most 32 texts, as {"host":"web1"} (a value is of type number)`,
		with("tags", `{"host":""}`):                  `tags must be an object of at most 32 texts, as {"host":"web1"} (the value of "host" is empty)`,
		with("tags", `{"a:b":"c"}`):                  `tags must be an object of at most 32 texts, as {"host":"web1"} (the key "a:b" has ':' in it, which no relay sends)`,
		with("threshold", `"80%"`):                   `threshold must be a finite number, or a string that holds one ("80%" is not a number)`,
		with("level", `5`):                           "level must be one of info, warn, crit (it is of type number)",
		with("duration", `30`):                       `duration must be a text as "30s" or "5m" (30 is not a text)`,
		with("post", `"127.0.0.1/alert"`):            "post must be an http:// or https:// URL with a host (it is another kind of address)",
		with("post", `"http://127.0.0.1/an alert"`):  "post must be an http:// or https:// URL with a host (it has blanks or control characters)",
		with("post", `"http://user:pass word@h/%%"`): "post must be an http:// or https:// URL with a host (it has blanks or control characters)",
	} {
		if _, err := decode(text); err == nil || err.Error() != want {
			t.Errorf("%s:\n%v, want\n%s", text, err, want)
		}
	}
	low := with("operator", `"lt"`)
	if _, err := decode(strings.Replace(low, "{", `{"recover":70,`, 1)); err == nil || !strings.HasPrefix(err.Error(), "recover must be at least") {
		t.Error(err)
	}
	if _, err := decode(strings.Replace(with("operator", `"eq"`), "{", `{"recover":70,`, 1)); err == nil || !strings.HasPrefix(err.Error(), "recover must be left out") {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(minimal)
	f.Add(with("tags", `{"host":"it's"}`))
	f.Add(with("duration", `"1h30m"`))
	f.Add(with("recover", `"70.5"`))
	f.Add(with("deadman", `"10m"`))
	f.Add(`{"status":{}}`)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := decode(text)
		if err != nil {
			var field *FieldError
			if !errors.As(err, &field) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		// An accepted alert can be stored, shown and sent back unchanged.
		data, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decode(string(data)); err != nil || !reflect.DeepEqual(a, again) {
			t.Fatalf("%s: %+v came back as %+v, %v", data, a, again, err)
		}
		// Kapacitor can also query for it.
		if q := query(&a, asItIs); checkQuery(q, &a) != nil {
			t.Fatalf("%s: %v", q, checkQuery(q, &a))
		}
	})
}

func TestStore(t *testing.T) {
	db := newDB(t)
	s, err := New(Options{DB: db, Instance: "A", Journal: emptyJournal{}})
	if err != nil {
		t.Fatal(err)
	}
	defer stopAlerts(t, s)
	if all, err := s.List(); err != nil || all == nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	v, err := s.Create(sampleAlert())
	a := v.Alert
	if err != nil || a.ID == "" || a.Level != Crit {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := s.Create(a); err == nil || !strings.HasPrefix(err.Error(), "id must be left out") {
		t.Errorf("an id was given: %v", err)
	}
	a.Threshold = 5
	if got, err := s.Update(a); err != nil || got.ID != a.ID {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.Get(a.ID); err != nil || !reflect.DeepEqual(got.Alert, a) {
		t.Errorf("%+v, %v", got, err)
	}
	unknown := a
	for _, id := range []string{"nope", strings.Repeat("x", 40_000), "a\x00b"} {
		unknown.ID = id
		if _, err := s.Update(unknown); !errors.Is(err, ErrNotFound) {
			t.Errorf("update of %.10q: %v", id, err)
		}
		if _, err := s.Get(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("get of %.10q: %v", id, err)
		}
		if err := s.Delete(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("delete of %.10q: %v", id, err)
		}
	}
	unknown.ID = ""
	var field *FieldError
	if _, err := s.Update(unknown); !errors.As(err, &field) || field.Field != "id" {
		t.Errorf("update without an id: %v", err)
	}
	if err := s.Delete(""); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := s.Delete(a.ID); err != nil {
		t.Error(err)
	}
	if err := s.Delete(a.ID); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	db.NoSync = true
	for range maxAlerts {
		if _, err := s.Create(sampleAlert()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Create(sampleAlert()); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	db := newDB(t)
	for _, o := range []Options{
		{}, {DB: db, Instance: "A"}, {DB: db, Instance: "a*b", Kapacitor: "http://x"}, {DB: db, Kapacitor: "http://x"},
		{DB: db, Instance: "A", Kapacitor: "ftp://x"}, {DB: db, Instance: "A", Kapacitor: "http://"}, {DB: db, Instance: "A", Kapacitor: "http://%zz"},
	} {
		if a, err := New(o); err == nil {
			t.Errorf("%+v was taken: %v", o, a)
		}
	}
}
