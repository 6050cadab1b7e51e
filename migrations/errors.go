package migrations

import "errors"

// The kinds of an Error, for errors.Is.
var (
	// ErrInUse means that another process has the state file open.
	ErrInUse = errors.New("another pulse uses this directory; stop it, or give this one its own")
	// ErrDamaged means that the state file is incomplete or differs from what was written.
	ErrDamaged = errors.New("the state file is damaged; restore it from a backup, or move it away to begin with an empty registry (the journal beside it is kept and replayed)")
	// ErrForeign means that the state file belongs to another program.
	ErrForeign = errors.New("the state file is a database, but not pulse's; name another directory")
	// ErrNewer means that a newer release wrote the state file.
	ErrNewer = errors.New("the state file was written by a newer pulse; run that one, or restore the backup made before the upgrade")
)

// Error names the file that could not be opened and the reason.
type Error struct {
	Path string
	Kind error // one of the sentinels, or nil
	Err  error // the cause, or nil
}

func (e *Error) Error() string {
	text := e.Path
	if e.Kind != nil {
		text += ": " + e.Kind.Error()
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the kind and the cause, without those that are nil.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.Kind, e.Err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
