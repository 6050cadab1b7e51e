// Package boltfile opens bbolt databases that may be damaged.
//
// bbolt takes an empty file for a new database, panics over pages that make no sense, and may
// follow a circle of pages for ever. [Open] reads the file as bytes first, then every key and
// value, so that damage is found at the start and is an error. The files are small: all of one is
// read.
package boltfile
