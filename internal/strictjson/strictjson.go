// Package strictjson reads JSON objects that people write: requests and config files. encoding/json
// ignores a field with an unknown name, the first of two fields with the same name, and any text
// after the object. Each of these can be a mistake that changes the meaning, so this package
// reports all three.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// ErrMore means that text follows the object.
var ErrMore = errors.New("there is more behind the object")

var errNoObject = errors.New("it is no object")

// Field is one field of an object, as it was written.
type Field struct {
	Name  string
	Value json.RawMessage
	// Again reports whether an earlier field of the object has the same name.
	Again bool
	// End is the offset (bytes) in the text at which the name ends.
	End int
}

// Fields reads text as one object and returns its fields in their order. The error is ErrMore,
// io.EOF for an empty text, or says why text is not an object.
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
		name, _ := token.(string) // the decoder accepts only strings as names
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

// Into decodes text, which must be one object, into v, a pointer to a struct. A field that v does
// not have is an error. The errors are those of encoding/json, ErrMore, and io.EOF for an empty
// text.
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
