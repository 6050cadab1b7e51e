package outside

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/journal"
)

// filter stands between the requests of clients and the journal's account. It takes a request in
// the clients' account, checks it, and repeats it in the journal's account, where the answer goes
// to a subject that only the clients' account imports. So no subject that a client names, be it for
// a reply or a delivery, ever becomes one in the journal's account. A request that is not in the
// table of routes reaches nobody, and clients may not even publish it.
//
// It has two connections. Each route has a goroutine of its own, which ends with them.
type filter struct {
	r       *run
	outside *nats.Conn      // in the clients' account
	inside  *nats.Conn      // in the journal's account
	journal *server.Account // the journal's
	taken   []string        // the subjects of all routes but the last
	paces   paces

	creating sync.Mutex // one consumer is made at a time, so that they can be counted
}

// routes are all requests that outside clients may make.
var routes = []struct {
	subject string
	take    func(*filter, *nats.Msg)
	turns   func(*filter) *turns // nil: take waits for its turn itself
	reads   bool                 // it changes nothing: clients that only read may make it too
}{
	{requests + "INFO", (*filter).plain, asking, true},
	{requests + "STREAM.NAMES", (*filter).plain, asking, true},
	{requests + "STREAM.LIST", (*filter).plain, asking, true},
	{requests + "STREAM.INFO." + journal.StreamName, (*filter).info, asking, true},
	{requests + "STREAM.MSG.GET." + journal.StreamName, (*filter).get, getting, true},
	{requests + "DIRECT.GET." + journal.StreamName, (*filter).direct, nil, true},
	{requests + "DIRECT.GET." + journal.StreamName + ".>", (*filter).last, getting, true},
	{requests + "CONSUMER.CREATE." + journal.StreamName, (*filter).create, asking, false},
	{requests + "CONSUMER.CREATE." + journal.StreamName + ".>", (*filter).create, asking, false},
	{requests + "CONSUMER.DURABLE.CREATE." + journal.StreamName + ".*", (*filter).create, asking, false},
	{requests + "CONSUMER.NAMES." + journal.StreamName, (*filter).names, asking, true},
	{requests + "CONSUMER.LIST." + journal.StreamName, (*filter).list, asking, true},
	{requests + "CONSUMER.INFO." + journal.StreamName + ".*", (*filter).consumer, asking, true},
	{requests + "CONSUMER.DELETE." + journal.StreamName + ".*", (*filter).remove, asking, false},
	{requests + "CONSUMER.MSG.NEXT." + journal.StreamName + ".*", (*filter).next, nil, false},
	{acks + journal.StreamName + ".>", (*filter).ack, nil, false},
	{everything, (*filter).unknown, asking, false},
}

// everything is what no other route takes: the rest of the server's API. It is answered, because a
// client that hears nothing waits for seconds and cannot say why.
const everything = requests + ">"

func asking(f *filter) *turns  { return f.paces.ask }
func getting(f *filter) *turns { return f.paces.get }

const (
	// filterQueue is how many requests of a route may wait until they are looked at; further ones
	// are dropped.
	filterQueue = 4096
	// A direct get of many events is answered in portions of this size.
	directEvents   = 1000
	directBytes    = 4 << 20
	directSubjects = 64
	// minHeartbeat is half of the shortest time that the clients' libraries let a pull wait.
	minHeartbeat  = 500 * time.Millisecond
	filterTimeout = 10 * time.Second
)

// newFilter connects a filter to the run.
func newFilter(r *run) (*filter, error) {
	f := &filter{r: r, paces: newPaces()}
	var err error
	if f.journal, err = r.Server.LookupAccount(journal.Account); err != nil {
		return nil, err
	}
	if f.inside, err = r.dial(journal.User, "gate", f.busy); err != nil {
		return nil, err
	}
	if f.outside, err = r.dial(userFilter, "gate", f.busy); err != nil {
		f.inside.Close()
		return nil, err
	}
	for _, route := range routes {
		if route.subject != everything {
			f.taken = append(f.taken, route.subject)
		}
		sub, err := f.outside.Subscribe(route.subject, func(m *nats.Msg) {
			if route.turns == nil {
				route.take(f, m)
				return
			}
			f.wait(route.turns(f), asker(m), 1, func() { route.take(f, m) })
		})
		if err == nil {
			err = sub.SetPendingLimits(filterQueue, filterQueue*1024)
		}
		if err != nil {
			f.close()
			return nil, fmt.Errorf("subscribing for outside clients: %w", err)
		}
	}
	if err := f.outside.FlushTimeout(filterTimeout); err != nil {
		f.close()
		return nil, fmt.Errorf("subscribing for outside clients: %w", err)
	}
	f.paces.serve(r)
	return f, nil
}

// wait has take called when it is the owner's turn.
func (f *filter) wait(t *turns, owner string, cost int, take func()) {
	if !t.wait(owner, cost, take) {
		f.busy()
	}
}

// asker is in whose name a request is made: the libraries give each connection an inbox of its own.
func asker(m *nats.Msg) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(m.Reply, inboxes), ".")
	return name
}

func (f *filter) close() {
	f.outside.Close()
	f.inside.Close()
}

// repeat is a request as it goes into the journal's account, waiting for its answer at reply. Its
// headers are left out: one of them would have the server write where they say.
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

// send repeats what the stream and its consumers answer by themselves, with any number of messages:
// these go to the client directly.
func (f *filter) send(m *nats.Msg, data []byte) {
	reply := ""
	if m.Reply != "" {
		var ok bool
		if reply, ok = f.waiting(m); !ok {
			return
		}
	}
	f.sent(f.inside.PublishMsg(repeat(m, reply, data)))
}

// ask repeats what the server's API answers, once, and passes the answer on. One request of a route
// waits at a time.
func (f *filter) ask(ctx context.Context, m *nats.Msg, data []byte) (answer []byte) {
	if _, ok := f.waiting(m); !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, filterTimeout)
	defer cancel()
	got, err := f.inside.RequestMsgWithContext(ctx, repeat(m, "", data))
	if err != nil {
		f.refuse(m, 503, "the journal is being restarted; ask again")
		return nil
	}
	f.answer(m, &nats.Msg{Data: got.Data})
	return got.Data
}

// waiting is where the journal's account answers the client that sent m, false if it waits for an
// answer nowhere, or where no answer may go.
func (f *filter) waiting(m *nats.Msg) (reply string, ok bool) {
	if reply, ok = answerTo(m.Reply); !ok {
		f.r.c.m.refused.WithLabelValues("reply").Inc()
	}
	return reply, ok
}

// sent counts what could not be passed on because the run is ending; clients ask again.
func (f *filter) sent(err error) {
	if err != nil {
		f.busy()
	}
}

// busy counts a request that was dropped because too many waited, or the run is ending.
func (f *filter) busy() { f.r.c.m.refused.WithLabelValues("busy").Inc() }

// answerTo is where the journal's account answers a client that waits at reply. Only inboxes are
// answered to.
func answerTo(reply string) (string, bool) {
	rest, ok := strings.CutPrefix(reply, inboxes)
	if !ok || rest == "" || strings.ContainsAny(rest, "*> \t\r\n") {
		return "", false
	}
	return answers + rest, true
}

// refuse answers a request with an error of the server's API.
func (f *filter) refuse(m *nats.Msg, code int, why string) {
	f.r.c.m.refused.WithLabelValues("request").Inc()
	f.fail(m, &server.ApiError{Code: code, Description: why})
}

// fail answers a request with an error, without counting it.
func (f *filter) fail(m *nats.Msg, e *server.ApiError) {
	f.reply(m, server.ApiResponse{Type: "io.nats.jetstream.api.v1.error", Error: e})
}

// reply answers a request with JSON.
func (f *filter) reply(m *nats.Msg, answer any) {
	data, err := json.Marshal(answer)
	if err != nil {
		f.r.c.log.Error("an answer to an outside client cannot be encoded", "subject", m.Subject, "err", err)
		return
	}
	f.answer(m, &nats.Msg{Data: data})
}

// refusePull answers where messages are expected: with the headers of a status.
func (f *filter) refusePull(m *nats.Msg, code, why string) {
	f.r.c.m.refused.WithLabelValues("request").Inc()
	f.answer(m, &nats.Msg{Header: nats.Header{"Status": {code}, "Description": {why}}})
}

func (f *filter) answer(m, answer *nats.Msg) {
	if _, ok := answerTo(m.Reply); !ok {
		return
	}
	answer.Subject = m.Reply
	f.sent(f.outside.PublishMsg(answer))
}
