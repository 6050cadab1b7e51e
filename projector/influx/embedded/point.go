package embedded

import (
	"time"
	"unsafe"

	"github.com/influxdata/influxdb/models"

	"github.com/nanopack/pulse/projector/influx"
)

// point presents an influx.Point to the engine as a models.Point, so that nothing is formatted and
// parsed again. Like the engine's own points it iterates over its own fields. One goroutine at a
// time uses a point, and the engine keeps nothing of it after the write has returned.
//
// The methods that change or print a point come from the nil embedded interface: a write never
// calls them, and a call would panic.
type point struct {
	models.Point
	name   string
	key    []byte
	tags   models.Tags
	fields []influx.Field
	time   int64
	next   int
}

var _ interface {
	models.Point
	models.FieldIterator
} = (*point)(nil)

func (p *point) Name() []byte      { return bytesOf(p.name) }
func (p *point) Key() []byte       { return p.key }
func (p *point) Tags() models.Tags { return p.tags }
func (p *point) Time() time.Time   { return time.Unix(0, p.time) }
func (p *point) UnixNano() int64   { return p.time }
func (p *point) String() string    { return string(p.key) }

func (p *point) HasTag(tag []byte) bool { return len(p.tags.Get(tag)) != 0 }

func (p *point) ForEachTag(fn func(k, v []byte) bool) {
	for _, t := range p.tags {
		if !fn(t.Key, t.Value) {
			return
		}
	}
}

// HashID chooses among the shards of a shard group; on a single node a group has one shard.
func (p *point) HashID() uint64 {
	h := models.NewInlineFNV64a()
	h.Write(p.Key())
	return h.Sum64()
}

func (p *point) Fields() (models.Fields, error) {
	fields := make(models.Fields, len(p.fields))
	for _, f := range p.fields {
		fields[influx.Clean(f.Key)] = f.Value
	}
	return fields, nil
}

func (p *point) FieldIterator() models.FieldIterator { p.next = 0; return p }
func (p *point) Reset()                              { p.next = 0 }

func (p *point) Next() bool {
	if p.next == len(p.fields) {
		return false
	}
	p.next++
	return true
}

func (p *point) FieldKey() []byte             { return bytesOf(influx.Clean(p.fields[p.next-1].Key)) }
func (p *point) FloatValue() (float64, error) { return p.fields[p.next-1].Value, nil }
func (p *point) Type() models.FieldType       { return models.Float }

func (p *point) StringValue() string            { panic("embedded: every field is a float") }
func (p *point) IntegerValue() (int64, error)   { panic("embedded: every field is a float") }
func (p *point) UnsignedValue() (uint64, error) { panic("embedded: every field is a float") }
func (p *point) BooleanValue() (bool, error)    { panic("embedded: every field is a float") }

// tagsOf returns the tags of a series in the engine's form, which is made once per set of tags.
func tagsOf(s influx.Series) models.Tags {
	return s.TagSet().Native(func(set []influx.Tag) any {
		tags := make(models.Tags, len(set))
		for i, t := range set {
			tags[i] = models.NewTag(bytesOf(t.Key), bytesOf(t.Value))
		}
		return tags
	}).(models.Tags)
}

// bytesOf returns the bytes of a string without a copy. The engine reads names, keys and tags, and
// clones what it keeps; it never writes to them.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
