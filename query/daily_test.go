package query

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// /daily is exact like /hourly: the mean is that of all readings at that time of the day. Other
// verbs are averages of the days' own values.
func TestDailyIsExactOverTheReadings(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	w := startWorld(t, nil)
	db := &database{}
	w.influx.query = db.query
	all := map[string][]float64{}
	maxima := map[string][]float64{}
	for at := testNow.Add(-5 * 24 * time.Hour).Truncate(15 * time.Minute); at.Before(testNow); at = at.Add(15 * time.Minute) {
		var day []float64
		for host := range 3 {
			readings := make([]float64, 1+rnd.IntN(9))
			for i := range readings {
				readings[i] = rnd.Float64()
			}
			day = append(day, readings...)
			db.addWindow(at, map[string]string{"host": fmt.Sprint(host)}, "cpu", readings...)
		}
		slot := at.Format("15:04")
		all[slot] = append(all[slot], day...)
		maxima[slot] = append(maxima[slot], slices.Max(day))
	}
	mean := func(v []float64) float64 {
		sum := 0.0
		for _, x := range v {
			sum += x
		}
		return sum / float64(len(v))
	}
	for verb, of := range map[string]map[string][]float64{"mean": all, "max": maxima} {
		got := getJSON[map[string]float64](t, w, "/daily/cpu?verb="+verb)
		if len(got) != 96 {
			t.Fatalf("%s: %d slots", verb, len(got))
		}
		for slot, v := range got {
			if want := mean(of[slot]); !near(v, want) {
				t.Errorf("%s at %s: %v, want %v", verb, slot, v, want)
			}
		}
	}
}

// If rows of 0.2 (means without counts) are among the days, each day has the same weight.
func TestDailyWithOldRows(t *testing.T) {
	w := startWorld(t, nil)
	db := &database{}
	w.influx.query = db.query
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	host := map[string]string{"host": "a"}
	db.addOld(at.AddDate(0, 0, -2), host, "cpu", 10)
	db.addWindow(at.AddDate(0, 0, -1), host, "cpu", 1, 1, 1, 5)
	db.addWindow(at, host, "cpu", 6)
	w.get(t, "/daily/cpu").want(t, 200, `{"08:00":6}`+"\n")             // (10 + 2 + 6) / 3
	w.get(t, "/daily/cpu?start=30h").want(t, 200, `{"08:00":2.8}`+"\n") // 14 / 5
}

// Slots follow local time, also on days of 23 and 25 hours.
func TestDailyAcrossDST(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	lordHowe, err := time.LoadLocation("Australia/Lord_Howe") // changes by half an hour
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		loc      *time.Location
		day      string         // the local day of the change
		weird    map[string]int // readings of that slot on that day
		ordinary int            // and of every other slot
	}{
		{"Berlin springs forward", berlin, "2026-03-29", map[string]int{"02:00": 0, "02:15": 0, "02:30": 0, "02:45": 0}, 1},
		{"Berlin falls back", berlin, "2026-10-25", map[string]int{"02:00": 2, "02:15": 2, "02:30": 2, "02:45": 2}, 1},
		{"Lord Howe springs forward", lordHowe, "2026-10-04", map[string]int{"02:00": 0, "02:15": 0}, 1},
		{"Lord Howe falls back", lordHowe, "2026-04-05", map[string]int{"01:30": 2, "01:45": 2}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			day, err := time.ParseInLocation("2006-01-02", c.day, c.loc)
			if err != nil {
				t.Fatal(err)
			}
			end := day.AddDate(0, 0, 1)
			var slots []slot
			for at := day; at.Before(end); at = at.Add(15 * time.Minute) {
				slots = append(slots, slot{time: at.UnixNano(), value: 1, sum: 1, weight: 1})
			}
			got := dayTimes{15 * time.Minute, c.loc}.fold(slots)
			for minute := 0; minute < minutesADay; minute += 15 {
				want, ok := c.weird[clock(minute)]
				if !ok {
					want = c.ordinary
				}
				n := 0
				if got[minute] != nil {
					n = got[minute].values
				}
				if n != want {
					t.Errorf("%s: %d, want %d", clock(minute), n, want)
				}
			}
			// Over HTTP, in the week around the change, every slot has the average of its days, 1.
			w := startWorld(t, func(o *Options) {
				o.Location = c.loc
				o.Now = func() time.Time { return day.AddDate(0, 0, 3) }
			})
			db := &database{}
			w.influx.query = db.query
			for at := day.AddDate(0, 0, -3); at.Before(day.AddDate(0, 0, 3)); at = at.Add(15 * time.Minute) {
				db.addWindow(at, map[string]string{"host": "a"}, "cpu", 1)
			}
			answer := getJSON[map[string]float64](t, w, "/daily/cpu?verb=sum")
			if len(answer) != 96 {
				t.Errorf("%d slots", len(answer))
			}
			for at, v := range answer {
				if v != 1 {
					t.Errorf("%s: %v", at, v)
				}
			}
		})
	}
}

// Slots may have other widths than a quarter of an hour, even widths that do not divide a day.
func TestDailyIntervals(t *testing.T) {
	for interval, want := range map[time.Duration][]string{
		7 * time.Minute:    {"00:00", "00:07", "23:55"},
		time.Hour:          {"00:00", "01:00", "23:00"},
		24 * time.Hour:     {"00:00", "00:00", "00:00"},
		3000 * time.Minute: {"00:00", "00:00", "00:00"},
	} {
		w := startWorld(t, func(o *Options) { o.AggregateInterval = interval })
		got := slices.Sorted(maps.Keys(getJSON[map[string]float64](t, w, "/daily/cpu?backfill=3")))
		minutes := int(interval / time.Minute)
		if len(got) != (minutesADay+minutes-1)/minutes || got[0] != want[0] || got[min(1, len(got)-1)] != want[1] || got[len(got)-1] != want[2] {
			t.Errorf("%s: %v", interval, got)
		}
		for _, st := range w.influx.statements() {
			if !strings.Contains(st.text, fmt.Sprintf("GROUP BY time(%ds)", int(interval.Seconds()))) {
				t.Errorf("%s: %s", interval, st.text)
			}
		}
	}
}

// A label is the local time at which its window begins. This also holds where the zone's hours do
// not begin with those of UTC, and where windows are longer than an hour.
func TestDailyLabelsAreWhenWindowsBegin(t *testing.T) {
	for _, c := range []struct {
		zone     string
		interval time.Duration
		windows  map[string]string // when they begin, in UTC, and their labels
		all      int               // labels of a day
		start    string
	}{
		{"Asia/Kolkata", time.Hour, map[string]string{"2026-11-23T09:00:00Z": "14:30", "2026-11-22T18:00:00Z": "23:30", "2026-11-22T19:00:00Z": "00:30"}, 24, ""},
		{"Asia/Kolkata", 15 * time.Minute, map[string]string{"2026-11-23T09:00:00Z": "14:30", "2026-11-23T09:15:00Z": "14:45"}, 96, ""},
		{"Asia/Kolkata", 24 * time.Hour, map[string]string{"2026-11-23T00:00:00Z": "05:30"}, 1, ""},
		{"Asia/Kolkata", 48 * time.Hour, map[string]string{"2026-11-23T00:00:00Z": "05:30"}, 1, ""},
		{"Asia/Kathmandu", 30 * time.Minute, map[string]string{"2026-11-23T09:00:00Z": "14:45", "2026-11-23T09:30:00Z": "15:15"}, 48, ""},
		{"America/St_Johns", 2 * time.Hour, map[string]string{"2026-11-23T08:00:00Z": "04:30"}, 12, ""},
		{"Europe/Berlin", 2 * time.Hour, map[string]string{"2026-11-23T08:00:00Z": "09:00", "2026-11-22T22:00:00Z": "23:00"}, 12, ""},
		{"Pacific/Marquesas", time.Hour, map[string]string{"2026-11-23T09:00:00Z": "23:30"}, 24, ""},
		// The clocks were changed by half an hour in between, so both series of labels are there.
		{"Australia/Lord_Howe", time.Hour, map[string]string{"2026-11-23T09:00:00Z": "20:00", "2026-10-01T09:00:00Z": "19:30"}, 48, "60d"},
		// 50 minutes do not divide a day, so slots are counted from midnight.
		{"Asia/Kolkata", 50 * time.Minute, map[string]string{"2026-11-23T07:30:00Z": "12:30", "2026-11-23T08:20:00Z": "13:20"}, 29, ""},
	} {
		t.Run(c.zone+" "+c.interval.String(), func(t *testing.T) {
			loc, err := time.LoadLocation(c.zone)
			if err != nil {
				t.Fatal(err)
			}
			w := startWorld(t, func(o *Options) { o.Location, o.AggregateInterval = loc, c.interval })
			db := &database{}
			w.influx.query = db.query
			want := map[string]float64{}
			for at, label := range c.windows {
				begin, err := time.Parse(time.RFC3339, at)
				if err != nil || begin.UnixNano()%int64(c.interval) != 0 {
					t.Fatal(at, err)
				}
				want[label] = float64(begin.Unix() % 1e6)
				db.addWindow(begin, map[string]string{"host": "a"}, "cpu", want[label])
			}
			path := "/daily/cpu?start=" + cmp.Or(c.start, "20d")
			if got := getJSON[map[string]float64](t, w, path); !maps.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			filled := getJSON[map[string]float64](t, w, path+"&backfill=-1")
			for label, v := range want {
				if filled[label] != v {
					t.Errorf("filled, %s is %v, want %v", label, filled[label], v)
				}
			}
			if len(filled) != c.all {
				t.Errorf("%d labels when filled, want %d: %v", len(filled), c.all, slices.Sorted(maps.Keys(filled)))
			}
		})
	}
}
