package migrations

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/bbolt"
)

// What bbolt writes: a page has a header (its number, what it is, how many elements and further pages it has), the
// elements (each says where its key and value are), and the keys and values, one behind the other.
const (
	pageHeader, pageElement   = 16, 16
	branchPage, leafPage      = 1, 2
	bucketHeader, bucketEntry = 16, 1
)

var errPage = errors.New("a page is not as it was written")

// checkPages looks at the pages as bytes. bbolt takes their numbers for true: of a page that says that it has one element
// less, the last one is gone.
func checkPages(tx *bbolt.Tx, file io.ReaderAt, pageSize int) error {
	for id := 2; ; {
		info, err := tx.Page(id)
		if err != nil || info == nil {
			return err
		}
		if info.Type == "leaf" || info.Type == "branch" {
			page := make([]byte, (info.OverflowCount+1)*pageSize)
			if _, err := file.ReadAt(page, int64(id)*int64(pageSize)); err != nil {
				return fmt.Errorf("page %d: %w", id, err)
			}
			if binary.NativeEndian.Uint64(page) != uint64(id) || !wholePage(page) {
				return fmt.Errorf("page %d: %w", id, errPage)
			}
		}
		id += 1 + info.OverflowCount
	}
}

// wholePage says whether the elements of a page lie as bbolt lays them.
func wholePage(page []byte) bool {
	order := binary.NativeEndian
	if len(page) < pageHeader {
		return false
	}
	kind, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	body := page[pageHeader:]
	if kind != branchPage && kind != leafPage || count*pageElement > len(body) {
		return false
	}
	next := uint64(count * pageElement)
	for i := range count {
		element := body[i*pageElement:]
		var flags, at, key, value uint32
		if kind == leafPage {
			flags, at, key, value = order.Uint32(element), order.Uint32(element[4:]), order.Uint32(element[8:]), order.Uint32(element[12:])
		} else {
			at, key = order.Uint32(element), order.Uint32(element[4:])
		}
		end := next + uint64(key) + uint64(value)
		if uint64(i*pageElement)+uint64(at) != next || end > uint64(len(body)) || flags > bucketEntry {
			return false
		}
		if flags == bucketEntry && !wholeBucket(body[next+uint64(key):end]) {
			return false
		}
		next = end
	}
	return true
}

// wholeBucket is wholePage for a bucket that is small enough to lie within its parent's page.
func wholeBucket(value []byte) bool {
	if len(value) < bucketHeader {
		return false
	}
	if binary.NativeEndian.Uint64(value) != 0 { // it has pages of its own
		return len(value) == bucketHeader
	}
	return wholePage(value[bucketHeader:])
}
