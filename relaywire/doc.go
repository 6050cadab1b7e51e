// Package relaywire implements the protocol between relays and Pulse for both sides: it reads
// messages from a connection without allocating and appends messages to a buffer that the caller
// owns.
//
// Promise: a [Reader] never holds more than [MaxLine] bytes, holds half a kilobyte while its
// connection is idle, and allocates neither per line nor per reading. A message aliases the
// Reader's buffer and is valid until the next Read. Whatever the Append functions are given, they
// emit only whole, well-formed lines of at most MaxLine bytes: they replace a byte that a name may
// not hold by '_', leave out a value that is not finite, and split a list that is too long for one
// line over several lines. Callers that want to refuse such input call [ValidID], [ValidName],
// [ValidTag] and [ValidToken] first. Nothing in this package starts a goroutine, keeps state
// between calls or blocks, except the source of a Reader. One Reader belongs to one goroutine.
//
// # Grammar
//
// The protocol is text, one message a line, so that people can use netcat. A line ends in \n (\r\n
// is accepted) and is at most 64 KiB long with its end. The verb is lower case, one space separates
// it from its arguments.
//
//	relay to server                         answer
//	  id {id}            first line         ok, then beat {seconds}
//	  id {id} token:{token}                 ok, then beat {seconds}; only for a server that wants a token
//	  id {id} {token}                       the same, as older releases have it
//	  add {name}                            ok
//	  add {name}:{tag},{tag}                ok   (nothing after the colon: no tags)
//	  remove {name}                         ok
//	  got {item},{item}                     none; it is itself the answer to get (without items: nothing to report)
//	  ping                                  pong
//	  ok                                    none; it is itself the answer to flush and override
//	  close                                 the server closes the connection
//	  spool {id} {waiting} {dropped} {now}  kept, then recall; only for a server that takes past
//	  took {first} {seq} {item},{item}      kept, some time later; it is itself the answer to get
//	  past {first} {seq} {ms} {item},{item} kept, some time later; it is itself the answer to recall
//
//	server to relay                         answer
//	  get {name},{name}                     got {item},{item}
//	  flush                                 ok
//	  override {seconds} {name}:{interval},{name}:{interval}
//	                                        ok
//	  beat {seconds}                        none; the relay pings this often from now on
//	  pong                                  none
//	  ok                                    none
//	  takes {word},{word}                   none, or spool; what the server understands beyond the first release
//	  kept {id} {first}-{last}              none; these records are in the journal
//	  recall {n}                            past lines, then spool; nothing if n is 0
//	  error {reason}                        none; what the server refused, or why it closes the connection next
//
//	item  = {collector}-{stat}:{value}      a stat of a collector
//	      | {name}:{value}                  short for {name}-{name}:{value}
//	tag   = {key}:{value} | {word}
//	value = decimal number: 12, -0.5, .5, 1e-3
//
// A value with a decimal comma, as in 0,25, is not a number, and its whole part is not stored
// either: the text after the comma belongs to the value unless it has a colon or begins like a
// name.
//
// # Who may speak when
//
// The relay speaks first, and it sends only id lines until the ok comes. Even a relay that has a
// token leaves it out of the first id line, so that no server gets a secret that it did not ask
// for. A server that wants no token answers ok. A server that wants a token answers with the reason
// of [ErrMissingToken] and waits for a second id line, with the token, on the same connection.
// Older servers answer with [ErrWrongToken] and close the connection; they take id {id} {token} on
// the next connection. A server that wants no token discards token:{token}, but it cannot know that
// the last word of id {id} {token} is not part of the id, as in Pulse 0.2. After the ok both sides
// speak whenever they like. Answers come in the order of the requests, but an ok does not name its
// request, so neither side waits for one (Pulse 0.2 does not answer add and remove at all). A got
// may be split over several lines. Both sides ignore lines with an unknown verb.
//
// # A relay with a spool
//
// A relay may keep what it measures in a spool until the journal has it: also while nobody polls it.
// What one answer would hold is a record: items that were taken together. The records of a spool are
// numbered from 1 and no number is used again; the spool has an id, 8 hex digits. A server that
// understands this says takes past after the beat. Then the relay says spool: how many records wait,
// how many readings were ever dropped because the spool was full, and its clock in ms since 1970.
//
// The server answers the first spool line of a connection with at most two kept lines, of the last
// run and the last batch that the journal has, and with recall. Before that the relay hands nothing
// over. Then it answers get with took instead of got: the record just taken. First is the first
// record of an unbroken run of records that were sent with took, one after the other, on this
// connection. To recall {n} the relay answers with its newest n records that wait, in past lines:
// one batch, first to last without a gap, in ascending order, with the time of each in ms; and then
// with spool. A batch may be smaller than was asked for. There is one batch under way at a time:
// recall comes after the kept of the last one. recall 0 means that nothing is wanted now. The relay
// says spool again when records wait and it has not said so since the last recall.
//
// The relay forgets a record when a kept line names it. A kept line that begins after records of its
// run or batch means that the journal did not take those: they wait again. So do, when the
// connection has ended, all records that no kept line has named. The relay begins a new run only
// when each record of the run before is kept or waits; a record that is taken earlier waits too, and
// the get is answered by an empty got. With these rules each record is in the journal once, whoever
// is killed: an event carries its first and seq, so that the newest event of a relay says which
// range of records is there. A record of more items than a line holds is several records of one time.
//
// # Limits
//
// An id, a collector's name and a stat's name have at most [MaxName] bytes, a tag [MaxTag], a
// collector [MaxTags] tags. All are UTF-8 without control characters and neither begin nor end in a
// space. Names may not hold '-', ':' or ','; tags may not hold ','; a token may not hold a space.
// An id may hold all of them. No collector and no stat is called [Reserved].
package relaywire
