package outside

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/journal"
)

// plain asks for what has no limits to look at.
func (f *filter) plain(m *nats.Msg) { f.ask(f.r.ctx, m, m.Data) }

// info asks for the stream's state; the server takes an empty request too.
func (f *filter) info(m *nats.Msg) {
	var req server.JSApiStreamInfoRequest
	if len(m.Data) > 0 && !f.decode(m, &req) {
		return
	}
	req.DeletedDetails = false
	if data, ok := f.encode(m, &req); ok {
		f.ask(f.r.ctx, m, data)
	}
}

// get is the answer of one stored message as JSON.
func (f *filter) get(m *nats.Msg) {
	var req server.JSApiMsgGetRequest
	if !f.decode(m, &req) {
		return
	}
	req = server.JSApiMsgGetRequest{Seq: req.Seq, LastFor: req.LastFor, NextFor: req.NextFor, StartTime: req.StartTime}
	if data, ok := f.encode(m, &req); ok {
		f.ask(f.r.ctx, m, data)
	}
}

// direct is the answer of stored messages as they are. The server reads them between two writes, so
// they come in portions.
func (f *filter) direct(m *nats.Msg) {
	var req server.JSApiMsgGetRequest
	if err := json.Unmarshal(m.Data, &req); err != nil {
		f.refusePull(m, "408", "Malformed Request")
		return
	}
	if len(req.MultiLastFor) > directSubjects {
		f.refusePull(m, "413", fmt.Sprintf("Too Many Subjects: at most %d here", directSubjects))
		return
	}
	if req.Batch < 0 || req.MaxBytes < 0 {
		f.refusePull(m, "408", "Bad Request")
		return
	}
	req.Batch = min(req.Batch, directEvents)
	if req.MaxBytes == 0 || req.MaxBytes > directBytes {
		req.MaxBytes = directBytes
	}
	cost := max(1, req.Batch)
	if len(req.MultiLastFor) > 0 && req.Batch == 0 {
		req.Batch, cost = directEvents, directEvents
	}
	if data, ok := f.encode(m, &req); ok {
		f.wait(f.paces.get, asker(m), cost, func() { f.send(m, data) })
	}
}

// last is the answer of the last message of a subject.
func (f *filter) last(m *nats.Msg) { f.send(m, nil) }

// decode decodes a request; false means that it was refused.
func (f *filter) decode(m *nats.Msg, req any) bool {
	err := json.Unmarshal(m.Data, req)
	if err != nil {
		f.refuse(m, 400, "the request is no JSON")
	}
	return err == nil
}

func (f *filter) encode(m *nats.Msg, req any) ([]byte, bool) {
	data, err := json.Marshal(req)
	if err != nil {
		f.refuse(m, 400, "the request cannot be repeated: "+err.Error())
	}
	return data, err == nil
}

// consumer asks for the state of a consumer.
func (f *filter) consumer(m *nats.Msg) {
	if own(lastToken(m.Subject)) {
		f.refuse(m, 404, "consumer not found")
		return
	}
	f.ask(f.r.ctx, m, nil)
}

// next asks a consumer for messages.
func (f *filter) next(m *nats.Msg) {
	switch name := lastToken(m.Subject); {
	case own(name) || m.Reply == "":
		f.refusePull(m, "400", "Bad Request")
	default:
		f.pull(m, name, m.Data)
	}
}

// ack acknowledges a message: $JS.ACK.PULSE.<consumer>.<numbers>. It may ask for the next ones at
// the same time.
func (f *filter) ack(m *nats.Msg) {
	name, _, _ := strings.Cut(m.Subject[len(acks+journal.StreamName+"."):], ".")
	if own(name) || !f.journal.SubscriptionInterest(m.Subject) {
		f.r.c.m.refused.WithLabelValues("request").Inc()
		return
	}
	if req, ok := strings.CutPrefix(string(m.Data), "+NXT"); ok {
		f.pull(m, name, []byte(strings.TrimSpace(req)))
		return
	}
	cost := 1
	if strings.HasPrefix(string(m.Data), "-NAK") {
		cost = nakCost // the server sends the message again at once, in the lock that appending waits for
	}
	f.wait(f.paces.ack, name, cost, func() { f.send(m, m.Data) })
}

// pull passes a request for messages of a consumer on, req being its body, when it is its turn.
func (f *filter) pull(m *nats.Msg, consumer string, req []byte) {
	batch, ok := asked(req)
	switch {
	case !ok:
		f.refusePull(m, "400", "Bad Request")
	case batch > maxPull:
		f.refusePull(m, "409", fmt.Sprintf("Exceeded MaxRequestBatch of %d", maxPull))
	default:
		f.wait(f.paces.pull, consumer, max(batch, minPull), func() {
			if m.Reply == "" || f.there(m.Reply) {
				f.send(m, m.Data)
			}
		})
	}
}

// there reports whether anybody waits at an inbox.
func (f *filter) there(inbox string) bool { return f.r.account.SubscriptionInterest(inbox) }

// asked is how many messages a pull asks for, false if its body may not pass: the server would beat
// as fast as it is told to.
func asked(data []byte) (batch int, ok bool) {
	if len(data) == 0 {
		return 1, true
	}
	if data[0] != '{' { // a number, for older clients
		batch, err := strconv.Atoi(string(data))
		return batch, err == nil && batch >= 0
	}
	var req server.JSApiConsumerGetNextRequest
	if err := json.Unmarshal(data, &req); err != nil {
		return 0, false
	}
	return req.Batch, req.Heartbeat == 0 || req.Heartbeat >= minHeartbeat
}

// remove deletes an ephemeral consumer, as clients do when they make another. A durable one stays:
// whoever has the password could take away anybody's place.
func (f *filter) remove(m *nats.Msg) {
	name := lastToken(m.Subject)
	if own(name) {
		f.refuse(m, 404, "consumer not found")
		return
	}
	ctx, cancel := context.WithTimeout(f.r.ctx, filterTimeout)
	defer cancel()
	c, err := f.r.JetStream.Consumer(ctx, journal.StreamName, name)
	if err != nil {
		f.refuse(m, 404, "consumer not found")
		return
	}
	if durable(c.CachedInfo()) {
		f.refuse(m, 403, fmt.Sprintf("a client cannot delete a durable consumer: it ends by itself when nobody has used it for %v, "+
			"and pulse consumers delete %s ends it now", c.CachedInfo().Config.InactiveThreshold, name))
		return
	}
	f.ask(ctx, m, nil)
}

func lastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }
