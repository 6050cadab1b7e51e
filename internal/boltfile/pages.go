package boltfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/bbolt"
)

// bbolt writes a page as a header, the elements, and the keys and values one after the other. The
// header holds the page's number, its kind, and the numbers of its elements and further pages. Each
// element says where its key and value are, or which page is below.
const (
	pageHeader, pageElement   = 16, 16
	branchPage, leafPage      = 1, 2
	bucketHeader, bucketEntry = 16, 1
)

var errPage = errors.New("a page is not as it was written")

// checkPages reads the pages as bytes, before bbolt follows them. bbolt believes the numbers in a
// page: it follows a circle of pages for ever, allocates memory for four billion further pages, and
// loses the last element of a page whose number of elements is one too low.
func checkPages(tx *bbolt.Tx, file io.ReaderAt, pageSize int) error {
	t := pageTree{file: file, size: int64(pageSize), end: uint64(tx.Size() / int64(pageSize)), seen: make(map[uint64]bool)}
	if err := t.visit(uint64(tx.Cursor().Bucket().Root())); err != nil {
		return err
	}
	for id := 2; uint64(id) < t.end; id++ {
		info, err := tx.Page(id)
		if err != nil {
			return err
		}
		if info.Type != "freelist" || t.seen[uint64(id)] {
			continue
		}
		if uint64(id+info.OverflowCount) >= t.end {
			return fmt.Errorf("page %d: %w", id, errPage)
		}
		id += info.OverflowCount // the further pages have no header
	}
	return nil
}

// pageTree visits the pages that can be reached from the root.
type pageTree struct {
	file io.ReaderAt
	size int64           // of a page
	end  uint64          // the number after the last page
	seen map[uint64]bool // the pages visited so far; a page is reached only once
}

// visit checks a page and all pages below it.
func (t *pageTree) visit(id uint64) error {
	header := make([]byte, pageHeader)
	if id < 2 || id >= t.end {
		return fmt.Errorf("page %d: it is not there", id)
	}
	if _, err := t.file.ReadAt(header, int64(id)*t.size); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	order := binary.NativeEndian
	further := uint64(order.Uint32(header[12:]))
	if order.Uint64(header) != id || id+further >= t.end {
		return fmt.Errorf("page %d: %w", id, errPage)
	}
	for i := id; i <= id+further; i++ {
		if t.seen[i] {
			return fmt.Errorf("page %d: two others lead to it", i)
		}
		t.seen[i] = true
	}
	page := make([]byte, int64(further+1)*t.size)
	if _, err := t.file.ReadAt(page, int64(id)*t.size); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	below, whole := pagesBelow(page)
	if !whole {
		return fmt.Errorf("page %d: %w", id, errPage)
	}
	for _, id := range below {
		if err := t.visit(id); err != nil {
			return err
		}
	}
	return nil
}

// pagesBelow returns the pages that a page refers to: its branches, and the roots of the buckets in
// the page. whole is false if the page's elements do not lie where bbolt puts them.
func pagesBelow(page []byte) (below []uint64, whole bool) {
	order := binary.NativeEndian
	if len(page) < pageHeader {
		return nil, false
	}
	kind, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	body := page[pageHeader:]
	if kind != branchPage && kind != leafPage || count*pageElement > len(body) {
		return nil, false
	}
	next := uint64(count * pageElement)
	for i := range count {
		element := body[i*pageElement:]
		var flags, at, key, value uint32
		if kind == leafPage {
			flags, at, key, value = order.Uint32(element), order.Uint32(element[4:]), order.Uint32(element[8:]), order.Uint32(element[12:])
		} else {
			at, key = order.Uint32(element), order.Uint32(element[4:])
			below = append(below, order.Uint64(element[8:]))
		}
		end := next + uint64(key) + uint64(value)
		if uint64(i*pageElement)+uint64(at) != next || end > uint64(len(body)) || flags > bucketEntry {
			return nil, false
		}
		if flags == bucketEntry {
			of, whole := pagesOfBucket(body[next+uint64(key) : end])
			if !whole {
				return nil, false
			}
			below = append(below, of...)
		}
		next = end
	}
	return below, true
}

// pagesOfBucket is pagesBelow for a bucket. It returns the bucket's root, or the pages below the
// bucket if the bucket is small enough to lie within its parent's page.
func pagesOfBucket(value []byte) (below []uint64, whole bool) {
	if len(value) < bucketHeader {
		return nil, false
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return []uint64{root}, len(value) == bucketHeader
	}
	return pagesBelow(value[bucketHeader:])
}
