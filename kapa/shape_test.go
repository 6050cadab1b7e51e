package kapa_test

import (
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/projector"
)

// The evaluator has the interfaces that a runner needs, and a journal has the one that New needs.
var (
	_ projector.Projection = (*kapa.Evaluator)(nil)
	_ projector.Ticker     = (*kapa.Evaluator)(nil)
	_ kapa.Journal         = (*journal.Journal)(nil)
)
