package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A figure is a row of the table for each size.
type figure struct {
	what  string
	of    func(result) float64
	print func(result) string
	// held means that Pulse must be at least as good as the best peer. The other figures have no
	// verdict, because the peers do less for them: only Pulse and InfluxDB sync what they write, and
	// only Pulse has aggregates.
	held bool
}

const mib = 1 << 20

func (s *sitting) figures() []figure {
	all := []figure{
		{"CPU of a reading, µs", func(r result) float64 { return r.cpu }, nil, true},
		{"RSS, MiB (peak)", func(r result) float64 { return float64(r.rss) / mib },
			func(r result) string { return fmt.Sprintf("%d (%d)", r.rss/mib, r.peak/mib) }, true},
		{"written for a reading, bytes", func(r result) float64 { return r.written }, nil, false},
		{"disk of a reading, bytes", func(r result) float64 { return r.grown }, nil, false},
	}
	if s.long {
		all = append(all, figure{"disk after ten minutes, MiB", func(r result) float64 { return float64(r.disk) / mib }, nil, false})
	}
	for i := range all {
		if all[i].print == nil {
			all[i].print = func(r result) string { return number(all[i].of(r)) }
		}
	}
	return all
}

// number keeps about three digits.
func number(v float64) string {
	if v >= 99.95 || v <= -99.95 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// A table has a column for each server. Its limits are the best peers' figures.
type table struct {
	rows   [][]string // the first is the header
	missed bool
}

func newTable(s *sitting, results map[cell]result) *table {
	header := []string{"what"}
	for _, c := range s.servers {
		header = append(header, c.title)
	}
	t := &table{rows: [][]string{append(header, "limit", "ratio", "")}}
	for _, z := range s.sizes {
		for _, f := range s.figures() {
			t.add(s, results, z, f)
		}
	}
	return t
}

func (t *table) add(s *sitting, results map[cell]result, z size, f figure) {
	row := []string{z.String() + ": " + f.what}
	var limit float64
	var best string
	var ours []float64
	for _, c := range s.servers {
		r, ok := results[cell{z, c.name}]
		if !ok {
			row = append(row, "failed")
			continue
		}
		row = append(row, f.print(r))
		if v := f.of(r); c.ours {
			ours = append(ours, v)
		} else if best == "" || v < limit {
			limit, best = v, c.title
		}
	}
	if best == "" {
		t.rows = append(t.rows, append(row, "-", "", ""))
		return
	}
	verdict := "ok"
	var ratios []string
	for _, v := range ours {
		ratios = append(ratios, fmt.Sprintf("%.2f", limit/v))
		if v > limit {
			verdict = "MISSED"
		}
	}
	ratio := strings.Join(ratios, ", ")
	switch {
	case len(ours) == 0 || !f.held:
		verdict = ""
	case verdict == "MISSED":
		t.missed = true
		fallthrough
	default:
		ratio += ", at least 1"
	}
	t.rows = append(t.rows, append(row, number(limit)+" "+best, ratio, verdict))
}

// print writes the table for a terminal or as Markdown.
func (t *table) print(w io.Writer, markdown bool) {
	if !markdown {
		aligned := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, row := range t.rows {
			fmt.Fprintln(aligned, strings.Join(row, "\t"))
		}
		aligned.Flush()
		return
	}
	for i, row := range t.rows {
		line := "| " + strings.Join(row, " | ") + " |"
		fmt.Fprintln(w, strings.Replace(line, "MISSED", "**missed**", 1))
		if i == 0 {
			fmt.Fprintln(w, strings.Repeat("|---", len(row))+"|")
		}
	}
}
