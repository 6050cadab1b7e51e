package migrations

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

// keyMeansUntil holds, in the bucket "meta", the result of MeansUntil (ns).
const keyMeansUntil = "means_until_02"

// MeansUntil returns the moment (ns) before which aggregates may be those of Pulse 0.2: one mean
// per window, of an unknown number of readings. TakeOver gives such rows a :count of 1, which
// counts means and must not be used as a weight beside the counts of rows that Pulse itself has
// counted. The result is 0 for a database without rows of 0.2. Once found, the result never
// changes.
//
// MeansUntil is called before TakeOver: at the first run of TakeOver the rows of 0.2 end with the
// window before the present one. If an earlier release has taken over the database, its windows
// since then are Pulse's own, and the bucket "windows" lists them. In either case the oldest row
// shows whether there are rows of 0.2.
func MeansUntil(ctx context.Context, o TakeOverOptions) (until int64, err error) {
	var found bool
	err = o.DB.View(func(tx *bbolt.Tx) error {
		if saved := tx.Bucket([]byte(metaBucket)).Get([]byte(keyMeansUntil)); saved != nil {
			found = true
			until, err = strconv.ParseInt(string(seal.Open(saved)), 10, 64)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("where the aggregates of Pulse 0.2 end: %w", err)
	}
	if found {
		return until, nil
	}
	rows, err := o.Influx.Query(ctx, `SELECT * FROM "statistics"."one_week"."aggregate" ORDER BY time ASC LIMIT 1`, nil)
	if err != nil {
		return 0, fmt.Errorf("find the aggregates of Pulse 0.2: %w", err)
	}
	return until, o.DB.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte(metaBucket))
		if len(rows) > 0 && len(rows[0].Values) > 0 && isOf02(rows[0].Columns, rows[0].Values[0]) {
			oldest, _ := rows[0].Values[0][0].(int64)
			if until, err = o.endOf02(oldest, string(seal.Open(meta.Get([]byte(keyTakeOver)))), tx.Bucket([]byte("windows"))); err != nil {
				return err
			}
		}
		return meta.Put([]byte(keyMeansUntil), seal.Seal([]byte(keyMeansUntil), []byte(strconv.FormatInt(until, 10))))
	})
}

// endOf02 returns the start of the first window that is not of 0.2, or 0 if the oldest row is not
// of 0.2.
func (o *TakeOverOptions) endOf02(oldest int64, takeOver string, windows *bbolt.Bucket) (end int64, err error) {
	end = o.now().UnixNano()
	switch takeOver {
	case "":
	case takenOver:
		// The keys are the windows' starts, so they are in the order of time. Windows before the
		// oldest row have expired, or their readings had a wrong clock.
		first, _ := windows.Cursor().Seek(binary.BigEndian.AppendUint64(nil, uint64(oldest)^(1<<63)))
		if len(first) == 8 {
			end = int64(binary.BigEndian.Uint64(first) ^ (1 << 63))
		}
	default:
		var from int64
		if _, err := fmt.Sscan(takeOver, &from, &end); err != nil {
			return 0, fmt.Errorf("how far the take-over of Pulse 0.2 got, %q: %w", takeOver, err)
		}
	}
	if o.Window > 0 {
		end -= end % int64(o.Window)
	}
	if end <= oldest {
		return 0, nil
	}
	return end, nil
}

// isOf02 reports whether a row is one of Pulse 0.2, unchanged or taken over: without a count, or
// with a count of 1 and the mean in all other fields.
func isOf02(columns []string, values []any) bool {
	for i, stat := range columns {
		mean, ok := values[i].(float64)
		if !ok || stat == "time" || strings.Contains(stat, ":") {
			continue
		}
		for suffix, want := range map[string]float64{":count": 1, ":sum": mean, ":min": mean, ":max": mean, ":last": mean} {
			j := slices.Index(columns, stat+suffix)
			if j >= 0 && values[j] != nil && values[j] != want {
				return false
			}
		}
	}
	return true
}
