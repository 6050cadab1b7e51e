package kapa

import (
	"fmt"
	"strings"

	"github.com/nanopack/pulse/journal/codec"
)

const (
	hostTag = "host" // a relay's id
	edgeTag = "edge" // the edge of a relay, if it is one of an edge

	// edgeSeparator is between a relay's id and its edge in the key of a relay. Neither has control
	// characters.
	edgeSeparator = "\x01"
	// maxRelayKeys bounds the keys of edges' relays that are remembered.
	maxRelayKeys = 50_000
)

// relayKey is a relay in the keys of groups and collectors, and in the state file. For a relay of
// this Pulse it is the id, as in releases that knew no edges.
func relayKey(key codec.RelayKey) string {
	if key.Edge == "" {
		return key.Relay
	}
	return key.Relay + edgeSeparator + key.Edge
}

// splitRelay is the inverse of relayKey.
func splitRelay(relay string) (id, edge string) {
	id, edge, _ = strings.Cut(relay, edgeSeparator)
	return id, edge
}

// relay is relayKey, without an allocation for each event of an edge.
func (e *Evaluator) relay(key codec.RelayKey) string {
	if key.Edge == "" {
		return key.Relay
	}
	relay, known := e.relays[key]
	if !known {
		if len(e.relays) >= maxRelayKeys {
			clear(e.relays)
		}
		relay = relayKey(key)
		e.relays[key] = relay
	}
	return relay
}

// relayName is what people call a relay.
func relayName(relay string) string {
	id, edge := splitRelay(relay)
	if edge == "" {
		return id
	}
	return id + " of edge " + edge
}

func relayNames(relays []string) (names []string) {
	for _, relay := range relays {
		names = append(names, relayName(relay))
	}
	return names
}

// silence says for people which relays are silent. Relays of an edge stand together, because often
// it is the link of the edge that is down.
func silence(relays []string) string {
	var own, edges []string
	of := map[string][]string{}
	for _, relay := range relays {
		switch id, edge := splitRelay(relay); {
		case edge == "":
			own = append(own, id)
			continue
		case of[edge] == nil:
			edges = append(edges, edge)
			fallthrough
		default:
			of[edge] = append(of[edge], id)
		}
	}
	if len(edges) == 0 {
		return list(own)
	}
	var parts []string
	if len(own) > 0 {
		parts = append(parts, list(own))
	}
	for _, edge := range edges[:min(len(edges), few)] {
		parts = append(parts, list(of[edge])+" of edge "+edge)
	}
	if more := len(edges) - few; more > 0 {
		parts = append(parts, fmt.Sprintf("and those of %d more edges", more))
	}
	return strings.Join(parts, "; ") + " (GET /edges says whether the link is up)"
}
