// Package strictjson reads JSON objects that people write: requests and config files. encoding/json
// passes over a field of an unknown name, over the first of two fields of one name, and over what
// follows the object. Each of the three can be a mistake that changes what was meant, so this
// package reports them.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// ErrMore means that something follows the object.
var ErrMore = errors.New("there is more behind the object")

var errNoObject = errors.New("it is no object")

// Field is a field of an object, as it was written.
type Field struct {
	Name  string
	Value json.RawMessage
	// Again reports whether a field of the same name stands before this one.
	Again bool
	// End is the offset (bytes) in the text at which the name ends.
	End int
}

// Fields reads text as one object and returns its fields in their order. The error is ErrMore or
// says why text is no object; it is io.EOF for an empty text.
func Fields(text []byte) ([]Field, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	open, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if open != json.Delim('{') {
		return nil, errNoObject
	}
	var fields []Field
	names := make(map[string]bool)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // the decoder takes nothing else for a name
		f := Field{Name: name, Again: names[name], End: int(dec.InputOffset())}
		if err := dec.Decode(&f.Value); err != nil {
			return nil, err
		}
		names[name] = true
		fields = append(fields, f)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	return fields, atEnd(dec)
}

// Into reads text as one object into v, a pointer to a struct. A field that v does not have is an
// error. The errors are those of encoding/json, ErrMore, and io.EOF for an empty text.
func Into(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	return atEnd(dec)
}

func atEnd(dec *json.Decoder) error {
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return ErrMore
	}
	return nil
}
