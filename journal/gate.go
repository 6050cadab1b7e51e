package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// gate is what stands between the requests of outside clients and the journal's account. It takes a request in their
// account, looks at it, and repeats it in the journal's, where the answer goes to a subject that only they import: so
// no subject that they name, be it for a reply or a delivery, ever becomes one in the journal's account. What is not
// in the table of routes reaches nobody, and they may not even publish it.
//
// It has two connections; each route has a goroutine of its own, which ends with them.
type gate struct {
	j       *Journal
	run     *embedded
	outside *nats.Conn // in their account
	inside  *nats.Conn // in the journal's
	limit   int        // of their consumers
	taken   []string   // the subjects of all routes but the last
	paces   paces
	pulse   *server.Account // the journal's
	strange *server.Account // theirs

	creating sync.Mutex // one consumer is made at a time, so that they can be counted
}

// routes are all requests that outside clients may make.
var routes = []struct {
	subject string
	take    func(*gate, *nats.Msg)
	turns   func(*gate) *turns // nil: take waits for its turn itself
}{
	{requests + "INFO", (*gate).plain, asking},
	{requests + "STREAM.NAMES", (*gate).plain, asking},
	{requests + "STREAM.LIST", (*gate).plain, asking},
	{requests + "STREAM.INFO." + streamName, (*gate).info, asking},
	{requests + "STREAM.MSG.GET." + streamName, (*gate).get, getting},
	{requests + "DIRECT.GET." + streamName, (*gate).direct, nil},
	{requests + "DIRECT.GET." + streamName + ".>", (*gate).last, getting},
	{requests + "CONSUMER.CREATE." + streamName, (*gate).create, asking},
	{requests + "CONSUMER.CREATE." + streamName + ".>", (*gate).create, asking},
	{requests + "CONSUMER.DURABLE.CREATE." + streamName + ".*", (*gate).create, asking},
	{requests + "CONSUMER.NAMES." + streamName, (*gate).names, asking},
	{requests + "CONSUMER.LIST." + streamName, (*gate).list, asking},
	{requests + "CONSUMER.INFO." + streamName + ".*", (*gate).consumer, asking},
	{requests + "CONSUMER.DELETE." + streamName + ".*", (*gate).remove, asking},
	{requests + "CONSUMER.MSG.NEXT." + streamName + ".*", (*gate).next, nil},
	{acks + streamName + ".>", (*gate).ack, nil},
	{everything, (*gate).unknown, asking},
}

// everything is what no other route takes: the rest of the server's API. It is answered, because a client that hears
// nothing waits for seconds and cannot say why.
const everything = requests + ">"

func asking(g *gate) *turns  { return g.paces.ask }
func getting(g *gate) *turns { return g.paces.get }

const (
	// gateQueue is how many requests of a route may wait until they are looked at; further ones are dropped.
	gateQueue = 4096
	// A direct get of many events is answered in portions of this size.
	directEvents   = 1000
	directBytes    = 4 << 20
	directSubjects = 64
	// minHeartbeat is half of the shortest time that the clients' libraries let a pull wait.
	minHeartbeat = 500 * time.Millisecond
	gateTimeout  = 10 * time.Second
)

// newGate connects a gate to the run.
func newGate(j *Journal, run *embedded) (*gate, error) {
	g := &gate{j: j, run: run, limit: j.o.Outside.MaxConsumers, paces: newPaces()}
	var err error
	if g.pulse, err = run.srv.LookupAccount(accountPulse); err != nil {
		return nil, err
	}
	if g.strange, err = run.srv.LookupAccount(accountOutside); err != nil {
		return nil, err
	}
	if g.inside, err = run.keep(userPulse, "gate", g.busy); err != nil {
		return nil, err
	}
	if g.outside, err = run.keep(userGate, "gate", g.busy); err != nil {
		g.inside.Close()
		return nil, err
	}
	for _, r := range routes {
		if r.subject != everything {
			g.taken = append(g.taken, r.subject)
		}
		sub, err := g.outside.Subscribe(r.subject, func(m *nats.Msg) {
			if r.turns == nil {
				r.take(g, m)
				return
			}
			g.wait(r.turns(g), asker(m), 1, func() { r.take(g, m) })
		})
		if err == nil {
			err = sub.SetPendingLimits(gateQueue, gateQueue*1024)
		}
		if err != nil {
			g.close()
			return nil, fmt.Errorf("subscribing for outside clients: %w", err)
		}
	}
	if err := g.outside.FlushTimeout(gateTimeout); err != nil {
		g.close()
		return nil, fmt.Errorf("subscribing for outside clients: %w", err)
	}
	g.paces.serve(j, run.gone)
	return g, nil
}

// wait has take called when it is the owner's turn.
func (g *gate) wait(t *turns, owner string, cost int, take func()) {
	if !t.wait(owner, cost, take) {
		g.busy()
	}
}

// asker is in whose name a request is made: the libraries give each connection an inbox of its own.
func asker(m *nats.Msg) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(m.Reply, inboxes), ".")
	return name
}

func (g *gate) close() {
	g.outside.Close()
	g.inside.Close()
}

// repeat is a request as it goes into the journal's account, waiting for its answer at reply. Its headers stay behind:
// one of them would have the server write where they say.
func repeat(m *nats.Msg, reply string, data []byte) *nats.Msg {
	out := &nats.Msg{Subject: m.Subject, Reply: reply, Data: data}
	if rest, ok := strings.CutPrefix(m.Subject, requests); ok {
		out.Subject = api + rest
	}
	if level := m.Header.Get(server.JSRequiredApiLevel); level != "" {
		out.Header = nats.Header{server.JSRequiredApiLevel: {level}}
	}
	return out
}

// send repeats what the stream and its consumers answer by themselves, with any number of messages: these go to the
// client directly.
func (g *gate) send(m *nats.Msg, data []byte) {
	reply := ""
	if m.Reply != "" {
		var ok bool
		if reply, ok = g.waiting(m); !ok {
			return
		}
	}
	g.sent(g.inside.PublishMsg(repeat(m, reply, data)))
}

// ask repeats what the server's API answers, once, and passes the answer on. One request of a route waits at a time.
func (g *gate) ask(ctx context.Context, m *nats.Msg, data []byte) (answer []byte) {
	if _, ok := g.waiting(m); !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	got, err := g.inside.RequestMsgWithContext(ctx, repeat(m, "", data))
	if err != nil {
		g.refuse(m, 503, "the journal is being restarted; ask again")
		return nil
	}
	g.answer(m, &nats.Msg{Data: got.Data})
	return got.Data
}

// waiting is where the journal's account answers the client that sent m, false if it waits for an answer nowhere, or
// where no answer may go.
func (g *gate) waiting(m *nats.Msg) (reply string, ok bool) {
	if reply, ok = answerTo(m.Reply); !ok {
		g.j.m.outsideRefused.WithLabelValues("reply").Inc()
	}
	return reply, ok
}

// sent counts what could not be passed on because the run is ending; clients ask again.
func (g *gate) sent(err error) {
	if err != nil {
		g.busy()
	}
}

// busy counts a request that was dropped because too many waited, or the run is ending.
func (g *gate) busy() { g.j.m.outsideRefused.WithLabelValues("busy").Inc() }

// answerTo is where the journal's account answers a client that waits at reply. Only inboxes are answered to.
func answerTo(reply string) (string, bool) {
	rest, ok := strings.CutPrefix(reply, inboxes)
	if !ok || rest == "" || strings.ContainsAny(rest, "*> \t\r\n") {
		return "", false
	}
	return answers + rest, true
}

// refuse answers a request with an error of the server's API.
func (g *gate) refuse(m *nats.Msg, code int, why string) {
	g.j.m.outsideRefused.WithLabelValues("request").Inc()
	g.fail(m, &server.ApiError{Code: code, Description: why})
}

// fail answers a request with an error, without counting it.
func (g *gate) fail(m *nats.Msg, e *server.ApiError) {
	g.reply(m, server.ApiResponse{Type: "io.nats.jetstream.api.v1.error", Error: e})
}

// reply answers a request with JSON.
func (g *gate) reply(m *nats.Msg, answer any) {
	data, err := json.Marshal(answer)
	if err != nil {
		g.j.log.Error("an answer to an outside client cannot be encoded", "subject", m.Subject, "err", err)
		return
	}
	g.answer(m, &nats.Msg{Data: data})
}

// refusePull answers where messages are expected: with the headers of a status.
func (g *gate) refusePull(m *nats.Msg, code, why string) {
	g.j.m.outsideRefused.WithLabelValues("request").Inc()
	g.answer(m, &nats.Msg{Header: nats.Header{"Status": {code}, "Description": {why}}})
}

func (g *gate) answer(m, answer *nats.Msg) {
	if _, ok := answerTo(m.Reply); !ok {
		return
	}
	answer.Subject = m.Reply
	g.sent(g.outside.PublishMsg(answer))
}

// plain asks for what has no limits to look at.
func (g *gate) plain(m *nats.Msg) { g.ask(g.j.ctx, m, m.Data) }

// info asks for the stream's state; the server takes an empty request too.
func (g *gate) info(m *nats.Msg) {
	var req server.JSApiStreamInfoRequest
	if len(m.Data) > 0 {
		if err := json.Unmarshal(m.Data, &req); err != nil {
			g.refuse(m, 400, "the request is no JSON")
			return
		}
	}
	req.DeletedDetails = false
	if data, ok := g.encode(m, &req); ok {
		g.ask(g.j.ctx, m, data)
	}
}

// get is the answer of one stored message as JSON.
func (g *gate) get(m *nats.Msg) {
	var req server.JSApiMsgGetRequest
	if err := json.Unmarshal(m.Data, &req); err != nil {
		g.refuse(m, 400, "the request is no JSON")
		return
	}
	req = server.JSApiMsgGetRequest{Seq: req.Seq, LastFor: req.LastFor, NextFor: req.NextFor, StartTime: req.StartTime}
	if data, ok := g.encode(m, &req); ok {
		g.ask(g.j.ctx, m, data)
	}
}

// direct is the answer of stored messages as they are. The server reads them between two writes, so they come in portions.
func (g *gate) direct(m *nats.Msg) {
	var req server.JSApiMsgGetRequest
	if err := json.Unmarshal(m.Data, &req); err != nil {
		g.refusePull(m, "408", "Malformed Request")
		return
	}
	if len(req.MultiLastFor) > directSubjects {
		g.refusePull(m, "413", fmt.Sprintf("Too Many Subjects: at most %d here", directSubjects))
		return
	}
	if req.Batch < 0 || req.MaxBytes < 0 {
		g.refusePull(m, "408", "Bad Request")
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
	if data, ok := g.encode(m, &req); ok {
		g.wait(g.paces.get, asker(m), cost, func() { g.send(m, data) })
	}
}

// last is the answer of the last message of a subject.
func (g *gate) last(m *nats.Msg) { g.send(m, nil) }

func (g *gate) encode(m *nats.Msg, req any) ([]byte, bool) {
	data, err := json.Marshal(req)
	if err != nil {
		g.refuse(m, 400, "the request cannot be repeated: "+err.Error())
	}
	return data, err == nil
}

// consumer asks for the state of a consumer.
func (g *gate) consumer(m *nats.Msg) {
	if own(lastToken(m.Subject)) {
		g.refuse(m, 404, "consumer not found")
		return
	}
	g.ask(g.j.ctx, m, nil)
}

// next asks a consumer for messages.
func (g *gate) next(m *nats.Msg) {
	switch name := lastToken(m.Subject); {
	case own(name) || m.Reply == "":
		g.refusePull(m, "400", "Bad Request")
	default:
		g.pull(m, name, m.Data)
	}
}

// ack acknowledges a message: $JS.ACK.PULSE.<consumer>.<numbers>. It may ask for the next ones at the same time.
func (g *gate) ack(m *nats.Msg) {
	name, _, _ := strings.Cut(m.Subject[len(acks+streamName+"."):], ".")
	if own(name) || !g.pulse.SubscriptionInterest(m.Subject) {
		g.j.m.outsideRefused.WithLabelValues("request").Inc()
		return
	}
	if req, ok := strings.CutPrefix(string(m.Data), "+NXT"); ok {
		g.pull(m, name, []byte(strings.TrimSpace(req)))
		return
	}
	cost := 1
	if strings.HasPrefix(string(m.Data), "-NAK") {
		cost = nakCost // the server sends the message again at once, in the lock that appending waits for
	}
	g.wait(g.paces.ack, name, cost, func() { g.send(m, m.Data) })
}

// pull passes a request for messages of a consumer on, req being its body, when it is its turn.
func (g *gate) pull(m *nats.Msg, consumer string, req []byte) {
	batch, ok := asked(req)
	switch {
	case !ok:
		g.refusePull(m, "400", "Bad Request")
	case batch > maxPull:
		g.refusePull(m, "409", fmt.Sprintf("Exceeded MaxRequestBatch of %d", maxPull))
	default:
		g.wait(g.paces.pull, consumer, max(batch, minPull), func() {
			if m.Reply == "" || g.there(m.Reply) {
				g.send(m, m.Data)
			}
		})
	}
}

// there reports whether anybody waits at an inbox.
func (g *gate) there(inbox string) bool { return g.strange.SubscriptionInterest(inbox) }

// asked is how many messages a pull asks for, false if its body may not pass: the server would beat as fast as it is
// told to.
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

// remove deletes an ephemeral consumer, as clients do when they make another. A durable one stays: whoever has
// the password could take away anybody's place.
func (g *gate) remove(m *nats.Msg) {
	name := lastToken(m.Subject)
	if own(name) {
		g.refuse(m, 404, "consumer not found")
		return
	}
	ctx, cancel := context.WithTimeout(g.j.ctx, gateTimeout)
	defer cancel()
	c, err := g.run.js.Consumer(ctx, streamName, name)
	if err != nil {
		g.refuse(m, 404, "consumer not found")
		return
	}
	if durable(c.CachedInfo()) {
		g.refuse(m, 403, fmt.Sprintf("a client cannot delete a durable consumer: it ends by itself when nobody has used it for %v, "+
			"and pulse consumers delete %s ends it now", c.CachedInfo().Config.InactiveThreshold, name))
		return
	}
	g.ask(ctx, m, nil)
}

// own tells the consumers of Pulse from those of outside clients.
func own(consumer string) bool { return strings.HasPrefix(consumer, ownConsumers) }

func lastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }
