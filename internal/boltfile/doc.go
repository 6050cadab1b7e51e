// Package boltfile opens bbolt databases that may be damaged.
//
// bbolt treats an empty file as a new database, panics on damaged pages, and may follow a circle of
// pages for ever. [Open] therefore reads the file as bytes first, and then every key and value, so
// that damage is found at the start and returned as an error. Open reads the whole file, because
// these files are small.
package boltfile
