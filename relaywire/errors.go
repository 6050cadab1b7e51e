package relaywire

import "errors"

// The errors of a line. All are sentinels, returned unwrapped, so that a line full of mistakes
// allocates nothing. Their texts can be sent to the relay with AppendError.
var (
	// ErrLineTooLong ends a Reader: a line did not end within MaxLine bytes. The rest of that line
	// is still unread, so the connection can only be closed.
	ErrLineTooLong = errors.New("line longer than 64 KiB: split the list over several lines")
	// ErrMissingID is an id line without an id.
	ErrMissingID = errors.New("missing id: send id {id} first")
	// ErrMissingToken is an id line without a token where the server wants one. The server waits
	// for another id line.
	ErrMissingToken = errors.New("missing token: send id {id} token:{token}")
	// ErrWrongToken is an id line with a token that is not the server's. Releases without
	// ErrMissingToken also answer an id line without a token with ErrWrongToken; they know a token
	// only as the last word, without token: before it.
	ErrWrongToken = errors.New("wrong token: send id {id} {token}")
	// ErrBadID is an id that ValidID refuses.
	ErrBadID = errors.New("bad id: use 1 to 255 bytes of UTF-8 without control characters")
	// ErrBadName is a collector's or a stat's name that ValidName refuses, or an item with more
	// than one dash.
	ErrBadName = errors.New("bad name: use 1 to 255 bytes of UTF-8 without '-', ':', ',' and control characters")
	// ErrReserved is a collector or a stat that is called Reserved.
	ErrReserved = errors.New(Reserved + " is reserved: the server knows itself who is connected")
	// ErrBadTag is a tag that ValidTag refuses.
	ErrBadTag = errors.New("bad tag: use at most 512 bytes of UTF-8 without ',' and control characters")
	// ErrTooManyTags is an add line with more than MaxTags tags.
	ErrTooManyTags = errors.New("too many tags: a collector may have 64")
	// ErrNoValue is a reading without a colon or with nothing after it.
	ErrNoValue = errors.New("reading without a value: send {collector}-{stat}:{value}")
	// ErrNotNumber is a value that is not a decimal number.
	ErrNotNumber = errors.New("value is not a decimal number: send digits, as in -12.5 or 1e-3")
	// ErrNotFinite is NaN, an infinity, or a number that float64 cannot hold.
	ErrNotFinite = errors.New("value is not finite: leave such readings out")
	// ErrBadDuration is a beat, duration or interval that is not a positive number of seconds of at
	// most MaxDuration.
	ErrBadDuration = errors.New("bad duration: send a positive number of seconds")
	// ErrBadOverride is an override line without a {name}:{interval} list.
	ErrBadOverride = errors.New("bad override: send override {seconds} {name}:{interval},{name}:{interval}")
	// ErrBadSpool is a line about a spool without the numbers that belong to it.
	ErrBadSpool = errors.New("bad line about a spool: send spool {id} {waiting} {dropped} {now}, took {first} {seq} {items}, past {first} {seq} {ms} {items}")
)
