package mist

import (
	"strconv"

	"github.com/nanopack/pulse/projector/internal/jsontext"
)

// The lines of mist's protocol, one JSON object each.
const (
	pingLine = `{"command":"ping"}` + "\n"
	pong     = `"pong"` // the data of the answer to a ping
)

// message is one reading on its way to mist.
type message struct {
	prefix string // the line up to the value, see linePrefix
	value  float64
	time   int64 // the event's, nanoseconds since 1970 UTC
}

// shortest is the number of decimals for the shortest text that reads back as the same float64.
const shortest = -1

// appendMessage appends the line of a message. The value never has an exponent.
func appendMessage(dst []byte, m *message, decimals int) []byte {
	dst = append(dst, m.prefix...)
	dst = strconv.AppendFloat(dst, m.value, 'f', decimals, 64)
	return append(dst, '"', '}', '\n')
}

// authLine is what a server with a token expects first.
func authLine(token string) []byte {
	dst := jsontext.AppendString([]byte(`{"command":"auth","tags":null,"data":`), token)
	return append(dst, '}', '\n')
}
