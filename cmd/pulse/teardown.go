package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A teardown undoes, last in first out, what was opened.
type teardown struct {
	steps []teardownStep
}

type teardownStep struct {
	name string
	undo func(context.Context) error
}

func (t *teardown) push(name string, undo func(context.Context) error) {
	t.steps = append(t.steps, teardownStep{name, undo})
}

// run undoes everything, whatever fails, and forgets it.
func (t *teardown) run(ctx context.Context) error {
	var errs []error
	for i := len(t.steps) - 1; i >= 0; i-- {
		if err := t.steps[i].undo(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stopping the %s: %w", t.steps[i].name, err))
		}
	}
	t.steps = nil
	return errors.Join(errs...)
}

// oneLine is the text of an error, of several too, for the end of a program:
// whoever reads it looks at the last line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
