package codec

import "slices"

// The intern table of a decoder is emptied when it holds this many strings or bytes: a fleet of
// 10,000 relays with some hundred stats stays far below, and a stream of names that never repeat
// stays bounded.
const (
	internStrings = 1 << 16 // and as many tag sets
	internBytes   = 8 << 20
	internLongest = 256     // bytes of a string
	setLongest    = 4 << 10 // bytes of a tag set
	// This many names of the last event are tried before the table.
	internLast = 4096
)

// tags reads a tag set. The same JSON gives the same slice, so that many collectors with many tags
// take no more room than the event.
func (d *Decoder) tags() []string {
	p := &d.p
	if p.null() {
		return nil
	}
	start := p.i
	end := p.endOfStrings()
	if set, ok := d.sets[string(p.data[start:end])]; ok {
		p.i = end
		return set
	}
	var set []string
	p.array(func() {
		var s string
		if !p.null() {
			s = d.lookUp(p.string())
		}
		set = append(set, s)
	})
	set = slices.Clip(set)
	if p.i-start > setLongest || p.err != nil {
		return set
	}
	if d.sets == nil || len(d.sets) >= internStrings || d.setBytes > internBytes {
		d.sets, d.setBytes = make(map[string][]string), 0
	}
	d.sets[string(p.data[start:p.i])] = set
	d.setBytes += p.i - start + 16*len(set)
	return set
}

// intern returns b as a string, the same one for the same bytes.
func (d *Decoder) intern(b []byte) string {
	nth := d.nth
	d.nth++
	if nth < len(d.last) && d.last[nth] == string(b) {
		return d.last[nth]
	}
	s := d.lookUp(b)
	switch {
	case len(s) > internLongest || nth > len(d.last) || nth == internLast:
	case nth == len(d.last):
		d.last = append(d.last, s)
	default:
		d.last[nth] = s
	}
	return s
}

func (d *Decoder) lookUp(b []byte) string {
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	if len(b) == 0 {
		return ""
	}
	s := string(b)
	if len(b) > internLongest {
		return s
	}
	if d.names == nil || len(d.names) >= internStrings || d.bytes > internBytes {
		d.names, d.bytes = make(map[string]string, 256), 0
	}
	d.names[s] = s
	d.bytes += len(s)
	return s
}
