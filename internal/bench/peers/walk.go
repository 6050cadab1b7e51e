package main

// A walk is the values of one stat: a random walk between 0 and 100 with two decimals, in steps of
// at most 2. A quarter of the readings repeat the one before, as those of real hosts do. Walks of
// the same seed, host and stat are the same.
type walk struct {
	random     uint64
	hundredths int32
}

const walkTop = 100_00

func newWalk(seed uint64, host, stat int) walk {
	w := walk{random: seed<<40 ^ uint64(host)<<16 ^ uint64(stat)}
	w.hundredths = int32(w.next64() % (walkTop + 1))
	return w
}

// next returns the next reading.
func (w *walk) next() float64 {
	r := w.next64()
	if r%4 != 0 {
		w.hundredths += int32(r>>32%401) - 200
		if w.hundredths < 0 {
			w.hundredths = -w.hundredths
		}
		if w.hundredths > walkTop {
			w.hundredths = 2*walkTop - w.hundredths
		}
	}
	return float64(w.hundredths) / 100
}

// next64 is splitmix64, a generator of 64 bits of state.
func (w *walk) next64() uint64 {
	w.random += 0x9e3779b97f4a7c15
	z := w.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// A host has a walk for each stat. Only one goroutine may read a host at a time.
type host []walk

func newHosts(seed uint64, hosts, stats int) []host {
	all := make([]host, hosts)
	for i := range all {
		all[i] = make(host, stats)
		for k := range all[i] {
			all[i][k] = newWalk(seed, i, k)
		}
	}
	return all
}
