package stream

import (
	"math"
	"strconv"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/internal/jsontext"
)

// The parts of server-sent events.
const (
	greeting  = "retry: 1000\n"
	heartbeat = ": beat\n"
)

// appendSelected appends an entry's message with those readings that match. It reports whether
// there are any.
func appendSelected(dst []byte, e *entry, m *matcher) ([]byte, bool) {
	if m.all() {
		return append(dst, e.data...), true
	}
	first, from := true, e.head
	for i := range e.refs {
		r := &e.refs[i]
		if m.takes(r.of) {
			if first {
				dst = append(dst, e.data[:e.head]...)
			} else {
				dst = append(dst, ',')
			}
			dst = append(dst, e.data[from:r.end]...)
			first = false
		}
		from = r.end + 1
	}
	if first {
		return dst, false
	}
	return append(dst, e.data[from-1:]...), true
}

// appendHead begins a message.
func appendHead(dst []byte, seq uint64, e *codec.Event) []byte {
	dst = strconv.AppendUint(append(dst, "id: "...), seq, 10)
	dst = jsontext.AppendString(append(dst, "\nevent: readings\ndata: {\"relay\":"...), e.Relay)
	dst = strconv.AppendInt(append(dst, `,"time":`...), e.Time, 10)
	if e.Edge != "" {
		dst = jsontext.AppendString(append(dst, `,"edge":`...), e.Edge)
	}
	return append(dst, `,"readings":[`...)
}

func appendReading(dst []byte, first bool, r reading) []byte {
	if !first {
		dst = append(dst, ',')
	}
	dst = append(dst, r.Series.Data.head...)
	dst = appendNumber(dst, r.Value)
	return append(dst, r.Series.Data.tail...)
}

// appendTail ends a message. left is how many readings it would have been too large for.
func appendTail(dst []byte, left int) []byte {
	dst = append(dst, ']')
	if left > 0 {
		dst = strconv.AppendInt(append(dst, `,"left_out":`...), int64(left), 10)
	}
	return append(dst, "}\n\n"...)
}

// appendNumber appends a number as encoding/json does: the shortest that reads back as the same
// float64. What JSON has no number for, and the journal does not hold, is null.
func appendNumber(dst []byte, v float64) []byte {
	abs := math.Abs(v)
	if math.IsNaN(v) || abs > math.MaxFloat64 {
		return append(dst, "null"...)
	}
	if abs == 0 || abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, v, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, v, 'e', -1, 64)
	if n := len(dst); dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' { // e-09 is e-9
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

// appendGap begins an event that says which records are missing. Its id ends it.
func appendGap(dst []byte, from, to uint64, reason string) []byte {
	dst = append(dst, "event: gap\ndata: {\"from\":"...)
	dst = strconv.AppendUint(dst, from, 10)
	dst = strconv.AppendUint(append(dst, `,"to":`...), to, 10)
	dst = strconv.AppendUint(append(dst, `,"count":`...), to-from+1, 10)
	dst = jsontext.AppendString(append(dst, `,"reason":`...), reason)
	return append(dst, "}\n"...)
}

// appendDropped begins an event that says why the subscription ends after record pos. Its id ends
// it.
func appendDropped(dst []byte, reason string, pos uint64) []byte {
	dst = jsontext.AppendString(append(dst, "event: dropped\ndata: {\"reason\":"...), reason)
	dst = strconv.AppendUint(append(dst, `,"resume":"Last-Event-ID `...), pos, 10)
	return append(dst, "\"}\n"...)
}

// appendID appends an event's id and ends the event.
func appendID(dst []byte, id uint64) []byte {
	dst = strconv.AppendUint(append(dst, "id: "...), id, 10)
	return append(dst, '\n', '\n')
}
