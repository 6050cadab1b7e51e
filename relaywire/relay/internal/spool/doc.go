// Package spool keeps what a relay collected until the server has it: an append-only log of records
// within a bound, in the files of a directory or in memory.
//
// Promise: a record gets a number that no record of this spool had before, whatever was lost: after
// a start the numbers go on far above all that were seen, and where nothing can be read the spool
// gets a new id. A record is written, not synced, before Append returns, so that it survives the
// end of the process at any moment; what the system had not written yet is lost when the machine
// loses its power. A record that Keep has named does not come back, also not after a restart. When
// the bound is reached, the oldest records are dropped, and their readings are counted; the count
// survives a restart. A damaged record is skipped and counted. One process at a time uses a
// directory.
//
// Append never fails: while the disk takes nothing, records go to a small spool in memory, and
// every retryEvery the disk is tried again. All methods may be called from any goroutine. They
// block on the disk. Memory holds an index of the segments, never the records of a directory.
package spool
