package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/logqueue"
)

// droppedLines is the metric of how many lines of the log were dropped.
func droppedLines(q *logqueue.Queue) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "pulse_log_lines_dropped_total",
		Help: "Lines of the log that nobody read in time, or that could not be written.",
	}, func() float64 { return float64(q.Dropped()) })
}
