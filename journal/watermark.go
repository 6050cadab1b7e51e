package journal

import "sync"

// watermark is how far the journal is durable. Readers wait at it, so that nobody ever sees an
// event that a power loss could take back and whose number another event would get. The tail ends
// there.
type watermark struct {
	mu   sync.Mutex
	seq  uint64
	time int64 // of the event, 0 if not known
	next chan struct{}
	tail tail
}

func newWatermark(o Options) *watermark {
	return &watermark{next: make(chan struct{}),
		tail: tail{maxEvents: tailEvents, maxBytes: tailBytes, maxAge: min(tailAge, o.Retention)}}
}

// advance moves the mark and wakes whoever waits. The tail is emptied: what lies before the mark is
// what a start found, and the mark may be lower than before.
func (w *watermark) advance(seq uint64, time int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail.clear()
	w.move(seq, time)
}

// commit moves the mark to the end of a batch that is durable, and adds the batch to the tail.
// rewinds is how often the journal was set back before it.
func (w *watermark) commit(b *tailBatch, time int64, rewinds int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail.add(b, rewinds)
	w.move(b.last(), time)
}

func (w *watermark) move(seq uint64, time int64) {
	w.seq, w.time = seq, time
	close(w.next)
	w.next = make(chan struct{})
}

// get returns the mark, and a channel that is closed when it moves.
func (w *watermark) get() (seq uint64, time int64, moved <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seq, w.time, w.next
}

// forget empties the tail.
func (w *watermark) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail.clear()
}

// A tailPlace is where in the tail a reader is.
type tailPlace struct {
	batch *tailBatch      // has the reader's next event; nil if it is not in the tail
	head  bool            // the reader has everything that is durable
	moved <-chan struct{} // closed when the mark moves
}

// place returns the place of a reader whose next event is seq and that knows of the first rewinds
// of the journal. For a reader that has a consumer only the newer half of what the tail may hold
// counts: one that is about to fall out of the tail keeps its consumer.
func (w *watermark) place(seq uint64, rewinds int, consumer bool) tailPlace {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := tailPlace{moved: w.next}
	switch {
	case seq == 0 || rewinds < w.tail.rewinds: // the number may be another event's meanwhile
	case seq == w.seq+1:
		p.head = true
	case consumer && seq <= w.seq && w.seq-seq >= uint64(w.tail.maxEvents/2):
	case consumer:
		p.batch = w.tail.find(seq, w.tail.maxAge/2)
	default:
		p.batch = w.tail.find(seq, w.tail.maxAge)
	}
	return p
}
