package kapa_test

import (
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/projector"
)

// A runner takes the evaluator as it is, and New the journal.
var (
	_ projector.Projection = (*kapa.Evaluator)(nil)
	_ projector.Ticker     = (*kapa.Evaluator)(nil)
	_ kapa.Journal         = (*journal.Journal)(nil)
)
