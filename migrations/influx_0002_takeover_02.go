package migrations

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/influxdata/influxdb1-client/models"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

// influx0002ContinuousQuery drops the query in the server that filled the aggregates in Pulse 0.2.
// That query writes a mean of its own over every window.
func influx0002ContinuousQuery(ctx context.Context, db Influx, _ Schema) (done []string, err error) {
	rows, err := db.Query(ctx, "SHOW CONTINUOUS QUERIES", nil)
	if err != nil {
		return nil, fmt.Errorf("list the continuous queries: %w", err)
	}
	for _, row := range rows {
		if row.Name != database || !slices.Contains(column([]models.Row{row}, "name"), aggregate) {
			continue
		}
		if _, err := db.Query(ctx, fmt.Sprintf("DROP CONTINUOUS QUERY %q ON %q", aggregate, database), nil); err != nil {
			return nil, fmt.Errorf("drop the continuous query of Pulse 0.2: %w", err)
		}
		done = append(done, "the continuous query of Pulse 0.2 dropped")
	}
	return done, nil
}

// keyTakeOver holds, in the bucket "meta", the progress of TakeOver: the end (ns) of the newest
// rows that are done and the moment (ns) of its first run, or "done".
const (
	keyTakeOver = "takeover_02"
	takenOver   = "done"
)

// takeOverSlice is how much history is read at once, takeOverBatch how many rows are written at
// once. Both bound the memory.
const (
	takeOverSlice = time.Hour
	takeOverBatch = 5_000
)

// AggregateRow is one row of statistics.one_week.aggregate to be written.
type AggregateRow struct {
	Tags   map[string]string
	Fields map[string]float64
	Time   int64 // ns
}

// ErrNotSettled is wrapped by TakeOver when the remaining windows are too young.
var ErrNotSettled = errors.New("the newest windows are still being written")

// TakeOverOptions configures TakeOver; DB, Influx and Write are required.
type TakeOverOptions struct {
	DB     *bbolt.DB // the state file, which keeps the progress
	Influx Influx
	// Write adds fields to rows. It returns when they are durable, and it does not keep its
	// arguments.
	Write func(ctx context.Context, rows []AggregateRow) error
	// Settled is the age of a window after which nobody else writes its rows: the length of a
	// window and a little more.
	Settled time.Duration
	// Window is the length of a window; MeansUntil returns the start of a window.
	Window time.Duration
	Now    func() time.Time
	Logger *slog.Logger
}

// TakeOver completes the aggregates of Pulse 0.2, which are one mean per window, with the fields
// that Pulse works with: :count = 1 and :sum, :min, :max and :last = the mean. It only adds fields,
// and only where :count is missing, so that it may be stopped, killed and repeated at any time.
// Once it is done, later calls return 0 at once. It reads an hour of history at a time, oldest
// first, up to the moment of its first run, and may run beside everything else. It leaves rows that
// are younger than Settled for a later call (ErrNotSettled). It returns how many rows it completed
// in this run.
func TakeOver(ctx context.Context, o TakeOverOptions) (rows int, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	from, end, done, err := o.progress(ctx)
	if done || err != nil {
		return 0, err
	}
	for from < end {
		to := min(from+int64(takeOverSlice), end)
		n, err := 0, ErrNotSettled
		if to <= o.Now().Add(-o.Settled).UnixNano() {
			n, err = o.slice(ctx, from, to)
		}
		rows += n
		if err != nil {
			return rows, fmt.Errorf("take over the aggregates of Pulse 0.2 at %s: %w", time.Unix(0, from).UTC().Format(time.RFC3339), err)
		}
		from = to
		if n > 0 {
			if err := o.save(fmt.Sprint(from, " ", end)); err != nil {
				return rows, err
			}
		}
	}
	if err := o.save(takenOver); err != nil {
		return rows, err
	}
	if rows > 0 {
		o.Logger.Info("the aggregates of Pulse 0.2 were taken over", "rows", rows)
	}
	return rows, nil
}

// progress returns where to begin and where to end. It begins where the last run ended, or else at
// the hour of the oldest row. Without any row there is nothing to do, now or later.
func (o *TakeOverOptions) progress(ctx context.Context) (from, end int64, done bool, err error) {
	var saved string
	err = o.DB.View(func(tx *bbolt.Tx) error {
		saved = string(seal.Open(tx.Bucket([]byte(metaBucket)).Get([]byte(keyTakeOver))))
		return nil
	})
	if err != nil || saved == takenOver {
		return 0, 0, true, err
	}
	if saved != "" {
		if _, err := fmt.Sscan(saved, &from, &end); err != nil {
			return 0, 0, false, fmt.Errorf("how far the take-over of Pulse 0.2 got, %q: %w", saved, err)
		}
		return from, end, false, nil
	}
	rows, err := o.Influx.Query(ctx, `SELECT * FROM "statistics"."one_week"."aggregate" ORDER BY time ASC LIMIT 1`, nil)
	if err != nil {
		return 0, 0, false, fmt.Errorf("find the aggregates of Pulse 0.2: %w", err)
	}
	if len(rows) == 0 || len(rows[0].Values) == 0 {
		return 0, 0, true, o.save(takenOver)
	}
	oldest, ok := rows[0].Values[0][0].(int64)
	if !ok {
		return 0, 0, false, errors.New("find the aggregates of Pulse 0.2: a row without a time")
	}
	from, end = oldest-oldest%int64(takeOverSlice), o.Now().UnixNano()
	return from, end, false, o.save(fmt.Sprint(from, " ", end))
}

// now returns the present moment: Now's if it is set.
func (o *TakeOverOptions) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

func (o *TakeOverOptions) save(progress string) error {
	return o.DB.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(metaBucket)).Put([]byte(keyTakeOver), seal.Seal([]byte(keyTakeOver), []byte(progress)))
	})
}

// slice completes the rows of [from, to).
func (o *TakeOverOptions) slice(ctx context.Context, from, to int64) (n int, err error) {
	rows, err := o.Influx.Query(ctx, `SELECT * FROM "statistics"."one_week"."aggregate" WHERE time >= $from AND time < $to GROUP BY *`,
		map[string]any{"from": from, "to": to})
	if err != nil {
		return 0, err
	}
	var batch []AggregateRow
	write := func() error {
		if len(batch) == 0 {
			return nil
		}
		if err := o.Write(ctx, batch); err != nil {
			return err
		}
		n += len(batch)
		batch = nil
		return nil
	}
	for _, row := range rows {
		tags := maps.Clone(row.Tags)
		maps.DeleteFunc(tags, func(_, v string) bool { return v == "" }) // tags of other series
		for _, values := range row.Values {
			at, ok := values[slices.Index(row.Columns, "time")].(int64)
			fields := missing(row.Columns, values)
			if !ok || len(fields) == 0 {
				continue
			}
			if batch = append(batch, AggregateRow{Tags: tags, Fields: fields, Time: at}); len(batch) == takeOverBatch {
				if err := write(); err != nil {
					return n, err
				}
			}
		}
	}
	return n, write()
}

// missing returns the fields that a row of 0.2 lacks: five for each stat that has a mean and no
// count. Names with a colon are Pulse's own fields, because a stat of 0.2 could not contain a
// colon.
func missing(columns []string, values []any) map[string]float64 {
	fields := map[string]float64{}
	for i, stat := range columns {
		mean, ok := values[i].(float64)
		if !ok || stat == "time" || strings.Contains(stat, ":") {
			continue
		}
		if j := slices.Index(columns, stat+":count"); j >= 0 && values[j] != nil {
			continue
		}
		fields[stat+":count"] = 1
		for _, suffix := range []string{":sum", ":min", ":max", ":last"} {
			fields[stat+suffix] = mean
		}
	}
	return fields
}
