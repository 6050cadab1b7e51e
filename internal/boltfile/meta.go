package boltfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// CheckMeta checks the meta pages of a file of this size. It returns an error if the file has no
// good meta page, or if the high-water mark of a good meta page is beyond the end of the file. The
// layout is bbolt's: a page header of 16 bytes, then magic, version, page size, flags, root bucket
// (16 bytes), freelist, high-water mark, transaction, checksum.
func CheckMeta(f io.ReaderAt, size int64) error {
	const magic, header = 0xED0CDAED, 16
	if size == 0 {
		return errors.New("it is empty")
	}
	good := false
	for page := range int64(2) {
		for pageSize := int64(1 << 10); pageSize <= 64<<10; pageSize <<= 1 {
			var meta [64]byte
			if _, err := f.ReadAt(meta[:], page*pageSize+header); err != nil {
				continue
			}
			order := binary.NativeEndian
			if order.Uint32(meta[:]) != magic || int64(order.Uint32(meta[8:])) != pageSize {
				continue
			}
			good = true
			if pages := order.Uint64(meta[40:]); pages < 2 || pages > uint64(size/pageSize) {
				return fmt.Errorf("it is cut off: %d bytes are there, %d pages of %d were written", size, pages, pageSize)
			}
		}
	}
	if !good {
		return errors.New("it is no bbolt database")
	}
	return nil
}
