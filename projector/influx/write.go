package influx

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
)

// writeChunk is how many points go into one request at most.
const writeChunk = 10_000

// encoder is the memory that one request needs; pooled.
type encoder struct {
	lines  []byte
	packed bytes.Buffer
	gz     *gzip.Writer
}

var errTooLarge = errors.New("the server refuses the size of the request")

// bodyLimit is how many bytes of lines go into a request. When a server (or a proxy before it)
// answers 413, the limit becomes half the size of that request. It is never raised again, because
// the limit of the server is a setting.
type bodyLimit struct{ bytes atomic.Int64 }

func (l *bodyLimit) shrink(tooLarge int) {
	for {
		now := l.bytes.Load()
		next := int64(tooLarge / 2)
		if next >= now || l.bytes.CompareAndSwap(now, next) {
			return
		}
	}
}

// Write implements Store. It sends the points in order, in as many requests as the size limit
// needs.
func (e *external) Write(ctx context.Context, policy Policy, points []Point) (WriteResult, error) {
	var total WriteResult
	for len(points) > 0 {
		n, res, err := e.writeSome(ctx, policy, points)
		if err != nil {
			return WriteResult{}, err
		}
		total.add(res)
		points = points[n:]
	}
	return total, nil
}

func (r *WriteResult) add(other WriteResult) {
	r.Dropped += other.Dropped
	r.Rejected += other.Rejected
	r.Limit = r.Limit || other.Limit
	if r.Reason == "" {
		r.Reason = other.Reason
	}
}

// writeSome sends the first n points, as many as fit into a request. n is 0 if it must be called
// again with the same points.
func (e *external) writeSome(ctx context.Context, policy Policy, points []Point) (n int, res WriteResult, err error) {
	enc := e.encoders.Get().(*encoder)
	enc.lines = enc.lines[:0]
	limit, lines := int(e.limit.bytes.Load()), 0
	for n < len(points) && n < writeChunk {
		before := len(enc.lines)
		refused := res
		enc.lines = AppendLine(enc.lines, &points[n], &res)
		if len(enc.lines) > limit && before > 0 {
			enc.lines, res = enc.lines[:before], refused
			break
		}
		if len(enc.lines) > before {
			lines++
		}
		n++
	}
	if lines == 0 {
		e.encoders.Put(enc)
		return n, res, nil
	}
	size := len(enc.lines)
	answer, err := e.send(ctx, policy, enc)
	if err != nil {
		return 0, res, err
	}
	outcome, err := answer.written(lines)
	switch {
	case errors.Is(err, errTooLarge) && lines == 1:
		res.Refuse(1, "the point alone is larger than the server accepts")
		return n, res, nil
	case errors.Is(err, errTooLarge):
		e.limit.shrink(size)
		return 0, WriteResult{}, nil // try again with a smaller request
	case err != nil:
		return 0, res, err
	case outcome.Rejected > 0 && !sameHour(points[:n]):
		// The server reports only the first shard that refused points, and nothing about the
		// others. So send the points again shard by shard.
		res, err = e.writeByHour(ctx, policy, points[:n])
		return n, res, err
	}
	res.add(outcome)
	return n, res, nil
}

// send posts the encoder's lines and returns the encoder to the pool.
func (e *external) send(ctx context.Context, policy Policy, enc *encoder) (*response, error) {
	body := enc.lines
	if e.gzip {
		enc.packed.Reset()
		if enc.gz == nil {
			enc.gz, _ = gzip.NewWriterLevel(&enc.packed, gzip.BestSpeed) // the level is valid
		}
		enc.gz.Reset(&enc.packed)
		// Writing to memory does not fail.
		_, _ = enc.gz.Write(enc.lines)
		_ = enc.gz.Close()
		body = enc.packed.Bytes()
	}
	r := &request{
		op: "write", method: http.MethodPost, path: "/write", gzip: e.gzip, body: body,
		params: url.Values{"db": {Database}, "rp": {string(policy)}, "precision": {"ns"}},
	}
	answer, err := e.do(ctx, r)
	if r.reusable() {
		e.encoders.Put(enc)
	}
	return answer, err
}

// writeByHour sends points hour by hour. A shard holds whole hours (the shortest shard group), so
// that each request meets one shard and its answer is complete.
func (e *external) writeByHour(ctx context.Context, policy Policy, points []Point) (WriteResult, error) {
	sorted := slices.Clone(points)
	slices.SortStableFunc(sorted, func(a, b Point) int {
		return int(max(-1, min(1, hour(a.Time)-hour(b.Time))))
	})
	var total WriteResult
	for len(sorted) > 0 {
		n := 1
		for n < len(sorted) && hour(sorted[n].Time) == hour(sorted[0].Time) {
			n++
		}
		part := sorted[:n]
		sorted = sorted[n:]
		for len(part) > 0 {
			done, res, err := e.writeSome(ctx, policy, part)
			if err != nil {
				return WriteResult{}, err
			}
			total.add(res)
			part = part[done:]
		}
	}
	return total, nil
}

func hour(ns int64) int64 {
	h := ns / int64(time.Hour)
	if ns < 0 && ns%int64(time.Hour) != 0 {
		h--
	}
	return h
}

func sameHour(points []Point) bool {
	for i := range points {
		if hour(points[i].Time) != hour(points[0].Time) {
			return false
		}
	}
	return true
}

// written reads the answer to a write of so many lines. An answer with refusals is a success,
// because the other lines are stored. docs/failures/influx.md lists the cases.
func (r *response) written(lines int) (WriteResult, error) {
	var res WriteResult
	switch r.status {
	case http.StatusNoContent:
		return res, nil
	case http.StatusRequestEntityTooLarge:
		return res, errTooLarge
	case http.StatusBadRequest:
		if r.version == "" {
			break // a proxy's answer says nothing about the points
		}
		text := r.text()
		if reason, ok := strings.CutPrefix(text, "partial write: "); ok {
			reason, dropped := cutDropped(reason)
			if strings.HasPrefix(reason, "points beyond retention policy") {
				res.Dropped = dropped
			} else {
				// The server lists unparsable lines and does not count them.
				res.Refuse(max(dropped, strings.Count(reason, "unable to parse "), 1), reason)
			}
			return res, nil
		}
		if strings.HasPrefix(text, "unable to parse ") { // no line was parsed
			res.Refuse(lines, text)
			return res, nil
		}
	}
	return res, r.failure("write")
}

// cutDropped splits "reason dropped=N".
func cutDropped(s string) (reason string, n int) {
	i := strings.LastIndex(s, " dropped=")
	if i < 0 {
		return s, 0
	}
	n, err := strconv.Atoi(s[i+len(" dropped="):])
	if err != nil || n < 0 {
		return s, 0
	}
	return s[:i], n
}
