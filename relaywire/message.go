package relaywire

import (
	"bytes"
	"strings"
)

// Limits of the protocol, in bytes unless stated otherwise.
const (
	// MaxLine is the longest line, its newline included.
	MaxLine = 64 << 10
	// MaxName is the longest id, collector name or stat name.
	MaxName = 255
	// MaxTag is the longest tag.
	MaxTag = 512
	// MaxTags is how many tags a collector may have at most.
	MaxTags = 64
)

// Reserved may not be the name of a collector or a stat of a relay. Pulse 0.2 kept a stat of that
// name for each relay, with the value 1 while the relay was connected, and readers would take a
// relay's own stat of that name for the server's.
const Reserved = "_connected"

// tokenMark is the prefix that marks the last word of an id line as a token. It is not part of the
// token.
const tokenMark = "token:"

// TrimToken returns token as ParseID returns it: without tokenMark, which a configured token may
// begin with.
func TrimToken(token string) string { return strings.TrimPrefix(token, tokenMark) }

// Verb names what a message asks for or answers.
type Verb uint8

// The verbs, in the order of the grammar in the package comment.
const (
	VerbUnknown  Verb = iota // a line that is none of the others; ignored by both sides
	VerbID                   // relay: who I am
	VerbAdd                  // relay: a collector that can be polled
	VerbRemove               // relay: a collector that can no longer be polled
	VerbGot                  // relay: readings, the answer to get
	VerbPing                 // relay: still there?
	VerbPong                 // server: still here
	VerbBeat                 // server: ping this often
	VerbGet                  // server: collect these now
	VerbFlush                // server: discard the collectors' samples
	VerbOverride             // server: sample these more often for a while
	VerbOK                   // both: done
	VerbClose                // relay: going away
	VerbError                // server: why it refuses something or closes the connection
	VerbTakes                // server: what it understands beyond the first release
	VerbSpool                // relay: how full its spool is
	VerbTook                 // relay: a record of its spool as the answer to get
	VerbKept                 // server: records that are in the journal
	VerbRecall               // server: hand records of the spool over
	VerbPast                 // relay: a record that was recalled
	verbs
)

// String returns the verb as it is written on the wire; "unknown" for VerbUnknown.
func (v Verb) String() string {
	switch v {
	case VerbID:
		return "id"
	case VerbAdd:
		return "add"
	case VerbRemove:
		return "remove"
	case VerbGot:
		return "got"
	case VerbPing:
		return "ping"
	case VerbPong:
		return "pong"
	case VerbBeat:
		return "beat"
	case VerbGet:
		return "get"
	case VerbFlush:
		return "flush"
	case VerbOverride:
		return "override"
	case VerbOK:
		return "ok"
	case VerbClose:
		return "close"
	case VerbError:
		return "error"
	case VerbTakes:
		return "takes"
	case VerbSpool:
		return "spool"
	case VerbTook:
		return "took"
	case VerbKept:
		return "kept"
	case VerbRecall:
		return "recall"
	case VerbPast:
		return "past"
	}
	return "unknown"
}

// Message is one line. Args aliases the line it was parsed from; a message from a Reader is valid
// until the next Read.
type Message struct {
	// Verb is the line's first word.
	Verb Verb
	// Args is the rest of the line after the verb and one space, without the line's end. For an
	// unknown verb Args is the whole line, for the log.
	Args []byte
}

// Parse reads one line, with or without its end. It never fails: a line that it does not know is
// VerbUnknown. Parse does not check the arguments: ParseID, ParseAdd, ParseRemove, Readings, Names,
// ParseOverride, ParseBeat and those of a spool's lines do.
func Parse(line []byte) Message {
	line = trimEnd(line)
	word, rest, _ := bytes.Cut(line, space)
	if v := verbOf(word); v != VerbUnknown {
		return Message{Verb: v, Args: rest}
	}
	return Message{Args: line}
}

var space = []byte{' '}

func verbOf(word []byte) Verb {
	// The conversion does not allocate: the compiler knows that a switch does not keep the string.
	switch string(word) {
	case "got":
		return VerbGot
	case "ping":
		return VerbPing
	case "ok":
		return VerbOK
	case "get":
		return VerbGet
	case "pong":
		return VerbPong
	case "id":
		return VerbID
	case "add":
		return VerbAdd
	case "remove":
		return VerbRemove
	case "beat":
		return VerbBeat
	case "flush":
		return VerbFlush
	case "override":
		return VerbOverride
	case "close":
		return VerbClose
	case "error":
		return VerbError
	case "took":
		return VerbTook
	case "past":
		return VerbPast
	case "kept":
		return VerbKept
	case "recall":
		return VerbRecall
	case "spool":
		return VerbSpool
	case "takes":
		return VerbTakes
	}
	return VerbUnknown
}

// trimEnd cuts \n, \r\n and a lone \r off the end of line.
func trimEnd(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}
