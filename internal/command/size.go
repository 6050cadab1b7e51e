package command

import (
	"fmt"
	"strconv"
	"strings"
)

// Size reads 500MB, 10GB, 4GiB or a plain number of bytes, not less than least. leastText is least
// as people write it.
func Size(v string, least float64, leastText string) (int64, error) {
	number, factor := strings.TrimSpace(strings.ToUpper(v)), int64(1)
	for _, unit := range []struct {
		name   string
		factor int64
	}{{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"TIB", 1 << 40}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(number, unit.name); ok {
			number, factor = strings.TrimSpace(rest), unit.factor
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	size := n * float64(factor)
	if err != nil || !(size >= least && size <= 1<<60) {
		return 0, fmt.Errorf("must be a size of %s or more, such as 500MB, 10GB or 4GiB, not %q", leastText, v)
	}
	return int64(size), nil
}
