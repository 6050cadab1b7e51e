package query

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/internal/nearest"
	"github.com/nanopack/pulse/journal/link"
)

// commands are what may be asked of the relays of this Pulse. The API and the hub ask through them,
// so both get the same answers and errors.
type commands struct {
	control Control
	relays  Relays
	compat  bool // refuse as 0.2 did
}

// What a hub may ask its edges: it looks, and polls more or less often. Anything else is done at the
// edge.
const (
	askOverride  = "override"  // an override request; the answer is the override
	askOverrides = "overrides" // the answer is the list
	askCancel    = "cancel"    // {"id"}
	askRelays    = "relays"    // the answer is the list
)

// The bodies that are no requests or values of the rooms.
type (
	overrideID struct {
		ID string `json:"id"`
	}
	relayIDs struct {
		Relays []string `json:"relays"`
	}
)

// Asked returns what answers a hub at an edge: link.UplinkOptions.Ask. Its answers are JSON, its
// errors are *link.Refused with the text that the API has for the same mistake. It may be called
// from many goroutines at once.
func Asked(control Control, relays Relays, log *slog.Logger) func(ctx context.Context, what string, body []byte) ([]byte, error) {
	c := commands{control: control, relays: relays}
	return func(ctx context.Context, what string, body []byte) (answer []byte, err error) {
		defer func() {
			if p := recover(); p != nil {
				log.Error("what the hub asked made its handler panic", "what", what, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				answer, err = nil, &link.Refused{Text: internalError}
			}
		}()
		value, err := c.run(ctx, what, body)
		if err == nil {
			answer, err = json.Marshal(value)
		}
		if err == nil && len(answer) > maxPassedOn {
			return nil, &link.Refused{Text: fmt.Sprintf("the answer is longer than the %d bytes that the link takes: ask the Pulse at the edge itself", maxPassedOn)}
		}
		if err == nil {
			log.Debug("the hub asked", "what", what)
			return answer, nil
		}
		he := answerTo(err)
		if he.status >= http.StatusInternalServerError {
			log.Warn("what the hub asked failed", "what", what, "error", err)
		}
		return nil, &link.Refused{Kind: kindOf[he.status], Text: he.text}
	}
}

// kindOf is what a status is called on the link; statusOf is the way back.
var (
	kindOf   = map[int]string{http.StatusBadRequest: link.KindInvalid, http.StatusNotFound: link.KindNotFound}
	statusOf = map[string]int{link.KindInvalid: http.StatusBadRequest, link.KindNotFound: http.StatusNotFound}
)

// run does what a hub asks. The error is for answerTo.
func (c commands) run(ctx context.Context, what string, body []byte) (any, error) {
	switch what {
	case askOverride:
		return c.override(ctx, body)
	case askOverrides:
		return c.overrides(), nil
	case askCancel:
		var of overrideID
		if err := parseJSON(body, &of, false); err != nil {
			return nil, err
		}
		return struct{}{}, c.cancel(of.ID)
	case askRelays:
		return c.relays.Relays(), nil
	}
	return nil, badRequest("an edge of this release does not answer %q to its hub", shorten(what, 40))
}

func (c commands) override(ctx context.Context, body []byte) (ingest.Override, error) {
	var req ingest.OverrideRequest
	if err := parseJSON(body, &req, false); err != nil {
		return ingest.Override{}, err
	}
	if err := checkRelays(req.Relays); err != nil {
		return ingest.Override{}, err
	}
	o, err := c.control.Override(ctx, req)
	if errors.Is(err, ingest.ErrInvalid) && !c.compat {
		err = badRequest("%s%s", plainText(err), c.overrideHint(req))
	}
	return o, err
}

// overrides lists the overrides in force, the oldest first.
func (c commands) overrides() []ingest.Override {
	list := c.control.Overrides()
	slices.SortFunc(list, func(a, b ingest.Override) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func (c commands) cancel(id string) error {
	if err := checkName("the override", id); err != nil {
		return err
	}
	return c.control.CancelOverride(id)
}

// flush takes {"relays": [...]}. No body, or no relays in it, means all.
func (c commands) flush(body []byte) (relays int, err error) {
	var of relayIDs
	if err := parseJSON(body, &of, true); err != nil {
		return 0, err
	}
	if err := checkRelays(of.Relays); err != nil {
		return 0, err
	}
	if err := c.unknownRelay(of.Relays); err != nil && !c.compat {
		return 0, err
	}
	return c.control.Flush(of.Relays), nil
}

func checkRelays(ids []string) error {
	for _, id := range ids {
		if err := checkName("a relay", id); err != nil {
			return err
		}
	}
	return nil
}

// unknownRelay is the error for the first id that no relay has, connected or not. It is nil if
// there is none.
func (c commands) unknownRelay(ids []string) error {
	var known []string
	for _, r := range c.relays.Relays() {
		known = append(known, r.ID)
	}
	for _, id := range ids {
		if slices.Contains(known, id) {
			continue
		}
		if like := nearest.Name(id, known); like != "" {
			return fmt.Errorf("%w: no relay has the id %q; did you mean %q?", ingest.ErrNotFound, id, like)
		}
		return fmt.Errorf("%w: no relay has the id %q; GET /relays lists those that there are", ingest.ErrNotFound, id)
	}
	return nil
}

// overrideHint is for an override that was refused: a collector or a relay that nobody has.
func (c commands) overrideHint(req ingest.OverrideRequest) string {
	var ids, collectors []string
	for _, relay := range c.relays.Relays() {
		ids = append(ids, relay.ID)
		for _, c := range relay.Collectors {
			collectors = append(collectors, c.Name)
		}
	}
	for _, id := range req.Relays {
		if slices.Contains(ids, id) {
			continue
		}
		if like := didYouMean(id, ids); like != "" {
			return "; there is no relay " + id + like
		}
	}
	for _, name := range slices.Sorted(maps.Keys(req.Collectors)) {
		if slices.Contains(collectors, name) {
			continue
		}
		if like := didYouMean(name, collectors); like != "" {
			return "; there is no collector " + name + like
		}
	}
	return ""
}
