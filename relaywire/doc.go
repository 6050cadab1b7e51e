// Package relaywire speaks the protocol between relays and Pulse, both ways: it reads messages from
// a connection without allocating and appends messages to a buffer that the caller owns.
//
// Promise: a [Reader] never holds more than [MaxLine] bytes, holds half a kilobyte while its
// connection is idle, and allocates neither per line nor per reading. What it hands out aliases its
// buffer and is valid until its next Read. The Append functions never emit anything but whole,
// well-formed lines of at most MaxLine bytes, whatever they are given: a byte that a name may not
// hold is replaced by '_', a value that is not finite is left out, and a list that is too long for
// one line becomes several lines. Callers that want to refuse instead ask [ValidID], [ValidName],
// [ValidTag] and [ValidToken] first. Nothing here blocks except the source under a Reader, starts a
// goroutine or keeps state between calls; one Reader belongs to one goroutine.
//
// # Grammar
//
// Text, one message a line, for people with netcat. A line ends in \n (\r\n is accepted) and is at
// most 64 KiB long with its end. The verb is lower case, one space separates it from its arguments.
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
//
//	server to relay                         answer
//	  get {name},{name}                     got {item},{item}
//	  flush                                 ok
//	  override {seconds} {name}:{interval},{name}:{interval}
//	                                        ok
//	  beat {seconds}                        none; the relay pings this often from now on
//	  pong                                  none
//	  ok                                    none
//	  error {reason}                        none; what the server refused, or why it closes the connection next
//
//	item  = {collector}-{stat}:{value}      a stat of a collector
//	      | {name}:{value}                  short for {name}-{name}:{value}
//	tag   = {key}:{value} | {word}
//	value = decimal number: 12, -0.5, .5, 1e-3
//
// A value with a decimal comma, as in 0,25, is no number, and no half of it is taken: what follows
// the comma belongs to the value unless it has a colon or begins like a name.
//
// # Who may speak when
//
// The relay speaks first and its first line is id; until the ok comes it says nothing else. A relay
// that has a token does not give it yet: a server that wants none answers ok, and one that wants a
// token answers an id line without it with the reason of [ErrMissingToken] and waits for a second
// id line, with the token, on the same connection. Older servers answer with [ErrWrongToken] and
// hang up; they take id {id} {token} on the next connection. So no secret gets to a server that did
// not ask for it. A server that wants no token throws token:{token} away; of id {id} {token} it
// cannot know that the last word is no part of the id, as Pulse 0.2 has it. Afterwards both sides
// speak whenever they like. Answers come in the order of what they answer, but nothing says which
// ok belongs to what, so that nobody waits for one (Pulse 0.2 answers add and remove with nothing
// at all). A got may be split over several lines. Either side ignores lines whose verb it does not
// know.
//
// # Limits
//
// An id, a collector's name and a stat's name have at most [MaxName] bytes, a tag [MaxTag], a
// collector [MaxTags] tags. All are UTF-8 without control characters and neither begin nor end in a
// space. Names may not hold '-', ':' or ','; tags may not hold ','; a token may not hold a space.
// An id may hold all of them. No collector and no stat is called [Reserved].
package relaywire
