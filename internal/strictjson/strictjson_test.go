package strictjson

import (
	"errors"
	"io"
	"testing"
)

func TestFields(t *testing.T) {
	fields, err := Fields([]byte(` {"a": 1, "b": {"a": [2]}, "a": null} `))
	if err != nil || len(fields) != 3 {
		t.Fatalf("%v %v", fields, err)
	}
	for i, want := range []struct {
		name, value string
		again       bool
		end         int
	}{{"a", "1", false, 5}, {"b", `{"a": [2]}`, false, 13}, {"a", "null", true, 30}} {
		f := fields[i]
		if f.Name != want.name || string(f.Value) != want.value || f.Again != want.again || f.End != want.end {
			t.Errorf("field %d: %+v", i, f)
		}
	}
	for text, want := range map[string]error{"": io.EOF, " ": io.EOF, "{}{}": ErrMore, "{} x": ErrMore, "null": errNoObject, "[1]": errNoObject} {
		if _, err := Fields([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	for _, text := range []string{"{", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1]`, `{a:1}`, "x"} {
		if _, err := Fields([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestInto(t *testing.T) {
	var v struct {
		A int `json:"a"`
	}
	if err := Into([]byte(`{"a": 5}`), &v); err != nil || v.A != 5 {
		t.Errorf("%+v %v", v, err)
	}
	for text, want := range map[string]string{
		"": "EOF", `{"a":1}{}`: ErrMore.Error(), `{"b":1}`: `json: unknown field "b"`, `d`: "invalid character 'd' looking for beginning of value",
	} {
		if err := Into([]byte(text), &v); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
