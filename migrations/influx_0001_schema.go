package migrations

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// influx0001Schema makes and repairs the database and its two policies.
func influx0001Schema(ctx context.Context, db Influx, schema Schema) (done []string, err error) {
	missing := func() error {
		if schema.Missing == nil {
			return nil
		}
		return schema.Missing()
	}
	do := func(what, statement string) error {
		if _, err := db.Query(ctx, statement, nil); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		done = append(done, what)
		return nil
	}
	rows, err := db.Query(ctx, "SHOW DATABASES", nil)
	if err != nil {
		return done, fmt.Errorf("list the databases: %w", err)
	}
	if !slices.Contains(column(rows, "name"), database) {
		if err := missing(); err != nil {
			return done, err
		}
		// The statement includes the default policy, because otherwise the server may make one of
		// its own, which keeps readings for ever.
		if err := do(fmt.Sprintf("database %s created, policy %s keeps %s", database, rawPolicy, schema.Raw), fmt.Sprintf("CREATE DATABASE %q WITH DURATION %s REPLICATION 1 NAME %q",
			database, influxDuration(schema.Raw), rawPolicy)); err != nil {
			return done, err
		}
	}
	rows, err = db.Query(ctx, fmt.Sprintf("SHOW RETENTION POLICIES ON %q", database), nil)
	if err != nil {
		return done, fmt.Errorf("list the retention policies: %w", err)
	}
	names, durations, defaults := column(rows, "name"), column(rows, "duration"), column(rows, "default")
	if len(done) == 0 && !(slices.Contains(names, rawPolicy) && slices.Contains(names, aggregatePolicy)) {
		if err := missing(); err != nil {
			return done, err
		}
	}
	for _, policy := range []struct {
		name      string
		keep      time.Duration
		isDefault bool
	}{
		{rawPolicy, schema.Raw, true},
		{aggregatePolicy, schema.Aggregates, false},
	} {
		// The shard's duration is set too: a policy is never shorter than its shards, and an older
		// policy may have longer shards.
		terms := fmt.Sprintf("%q ON %q DURATION %s REPLICATION 1 SHARD DURATION %s", policy.name, database,
			influxDuration(policy.keep), influxDuration(shardDuration(policy.keep)))
		if policy.isDefault {
			terms += " DEFAULT"
		}
		i := slices.Index(names, policy.name)
		switch {
		case i < 0:
			err = do(fmt.Sprintf("policy %s created, keeps %s", policy.name, policy.keep), "CREATE RETENTION POLICY "+terms)
		case !sameDuration(durations[i], policy.keep):
			err = do(fmt.Sprintf("policy %s altered, keeps %s instead of %s", policy.name, policy.keep, durations[i]),
				"ALTER RETENTION POLICY "+terms)
		case policy.isDefault && defaults[i] != "true":
			err = do(fmt.Sprintf("policy %s made the default", policy.name), "ALTER RETENTION POLICY "+terms)
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// shardDuration returns InfluxDB's own choice for data that is kept that long. Data expires by
// whole shards.
func shardDuration(keep time.Duration) time.Duration {
	switch {
	case keep < 2*24*time.Hour:
		return time.Hour
	case keep <= 180*24*time.Hour:
		return 24 * time.Hour
	default:
		return week
	}
}
