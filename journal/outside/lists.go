package outside

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/journal"
)

// listPage is how many consumers an answer holds, as the server has it.
const listPage = 256

// names lists the names of the consumers of outside clients.
func (f *filter) names(m *nats.Msg) {
	page, paged, ok := f.page(m)
	if !ok {
		return
	}
	names := make([]string, len(page))
	for i, c := range page {
		names[i] = c.Name
	}
	f.reply(m, server.JSApiConsumerNamesResponse{
		ApiResponse: server.ApiResponse{Type: server.JSApiConsumerNamesResponseType}, ApiPaged: paged, Consumers: names,
	})
}

// list lists the consumers of outside clients with their states.
func (f *filter) list(m *nats.Msg) {
	page, paged, ok := f.page(m)
	if !ok {
		return
	}
	f.reply(m, struct {
		server.ApiResponse
		server.ApiPaged
		Consumers []*jetstream.ConsumerInfo `json:"consumers"`
	}{server.ApiResponse{Type: server.JSApiConsumerListResponseType}, paged, page})
}

// page is the part of the consumers that a request asks for; false means that it was answered.
func (f *filter) page(m *nats.Msg) (page []*jetstream.ConsumerInfo, paged server.ApiPaged, ok bool) {
	var req server.ApiPagedRequest
	if len(m.Data) > 0 && !f.decode(m, &req) {
		return nil, paged, false
	}
	ctx, cancel := context.WithTimeout(f.r.ctx, filterTimeout)
	defer cancel()
	list, err := listConsumers(ctx, f.r.JetStream)
	if err != nil {
		f.refuse(m, 503, "the journal is being restarted; ask again")
		return nil, paged, false
	}
	slices.SortFunc(list, func(a, b *jetstream.ConsumerInfo) int { return strings.Compare(a.Name, b.Name) })
	from := min(max(req.Offset, 0), len(list))
	page = list[from:min(from+listPage, len(list))]
	if page == nil {
		page = []*jetstream.ConsumerInfo{}
	}
	return page, server.ApiPaged{Total: len(list), Offset: from, Limit: listPage}, true
}

// unknown refuses what no other route takes.
func (f *filter) unknown(m *nats.Msg) {
	if slices.ContainsFunc(f.taken, func(taken string) bool { return server.SubjectMatchesFilter(m.Subject, taken) }) {
		return // by another route
	}
	call := strings.TrimPrefix(m.Subject, requests)
	f.r.c.m.refused.WithLabelValues("request").Inc()
	stream, asks := streamOf(call)
	other := asks && stream != journal.StreamName
	switch {
	case other && (strings.HasPrefix(call, "DIRECT.GET.") || strings.HasPrefix(call, "CONSUMER.MSG.NEXT.")):
		f.answer(m, &nats.Msg{Header: nats.Header{"Status": {"404"}, "Description": {"there is no stream but " + journal.StreamName}}})
	case other:
		f.fail(m, &server.ApiError{Code: 404, ErrCode: uint16(server.JSStreamNotFoundErr),
			Description: "stream not found: there is only " + journal.StreamName})
	default:
		f.fail(m, &server.ApiError{Code: 403,
			Description: fmt.Sprintf("not offered: clients read Pulse's journal and change nothing (%s)", clip(call))})
	}
}

// streamOf is the stream that an API call reads from, false if it reads from none.
func streamOf(call string) (stream string, ok bool) {
	for _, prefix := range [...]string{"STREAM.INFO.", "STREAM.MSG.GET.", "DIRECT.GET.", "CONSUMER.CREATE.", "CONSUMER.DURABLE.CREATE.",
		"CONSUMER.NAMES.", "CONSUMER.LIST.", "CONSUMER.INFO.", "CONSUMER.DELETE.", "CONSUMER.MSG.NEXT."} {
		if rest, is := strings.CutPrefix(call, prefix); is {
			stream, _, _ = strings.Cut(rest, ".")
			return stream, true
		}
	}
	return "", false
}
