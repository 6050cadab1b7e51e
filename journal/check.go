package journal

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// CheckReport is what [Check] found.
type CheckReport struct {
	// Blocks and Bytes are what was read.
	Blocks int
	Bytes  int64
	// Damages are the places that are not what was written, oldest first.
	Damages []BlockDamage
}

// BlockDamage is a place in a block.
type BlockDamage struct {
	// Block is the file's name.
	Block string
	// From and To are the events that are damaged; a 0 means that the block does not tell.
	From, To uint64
	// Err is why the block could not be read, nil if its content is damaged.
	Err error
}

// Check reads every block of the journal in dir and changes nothing. No server may be running on
// it. A journal that is not there is empty; the error means that its directory cannot be read.
func Check(dir string) (CheckReport, error) {
	var report CheckReport
	msgs := filepath.Join(streamDir(dir), "msgs")
	list, err := listBlocks(msgs)
	if errors.Is(err, fs.ErrNotExist) {
		return report, nil
	}
	if err != nil {
		return report, err
	}
	for _, n := range list {
		path := blockPath(msgs, n)
		s, data, err := scanFile(path, n)
		report.Blocks++
		report.Bytes += int64(len(data))
		name := filepath.Base(path)
		if err != nil {
			report.Damages = append(report.Damages, BlockDamage{Block: name, Err: err})
			continue
		}
		for _, lost := range s.lost {
			report.Damages = append(report.Damages, BlockDamage{Block: name, From: lost.First, To: lost.Last})
		}
	}
	return report, nil
}
