package influx

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// maxKey is the largest size in bytes of a series key with its field that InfluxDB takes
// (models.MaxKeyLength).
const maxKey = 65535

var (
	errUnnamed   = errors.New("a measurement needs a name")
	errNoField   = errors.New("a field needs a name")
	errTimeField = errors.New("a field cannot be named time: InfluxDB keeps the point's time there")
)

// minTime and maxTime are the first and last nanosecond InfluxDB stores.
const (
	minTime = math.MinInt64 + 2
	maxTime = math.MaxInt64 - 1
)

// AppendLine appends p to dst in line protocol, with a newline. It leaves out the fields that
// InfluxDB would not take, and writes nothing if no field is left. A point of which anything was
// left out is counted in res.
func AppendLine(dst []byte, p *Point, res *WriteResult) []byte {
	fields := CheckFields(p, res)
	if len(fields) == 0 {
		return dst
	}
	dst = p.Series.AppendKey(dst)
	sep := byte(' ')
	for i := range fields {
		dst = append(dst, sep)
		sep = ','
		dst = appendTag(dst, Clean(fields[i].Key))
		dst = append(dst, '=')
		dst = strconv.AppendFloat(dst, fields[i].Value, 'g', -1, 64)
	}
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, p.Time, 10)
	return append(dst, '\n')
}

// CheckField returns the reason why InfluxDB would not take field f of p; nil if it would. Both
// stores apply this rule before they write, so that a point means the same to both of them.
func CheckField(p *Point, f *Field) error {
	switch {
	case p.Series.measurement == "":
		return errUnnamed
	case f.Key == "":
		return errNoField
	case f.Key == timeKey:
		return errTimeField
	case math.IsNaN(f.Value) || math.IsInf(f.Value, 0):
		return fmt.Errorf("field %q is %v, which InfluxDB cannot store", f.Key, f.Value)
	case p.Time < minTime || p.Time > maxTime:
		return fmt.Errorf("time %d is out of InfluxDB's range", p.Time)
	case 2*len(p.Series.measurement)+len(p.Series.set.key)+4+2*len(f.Key) > maxKey: // perhaps too long
		if size := len(p.Series.AppendKey(nil)); size+4+2*len(f.Key) > maxKey {
			return fmt.Errorf("series key of %d bytes is too long", size)
		}
	}
	return nil
}

func appendTag(dst []byte, s string) []byte {
	return appendEscaped(dst, s, ",= ")
}

// appendEscaped appends s with a backslash before each of the special characters.
func appendEscaped(dst []byte, s, special string) []byte {
	plain := true
	for i := 0; i < len(special); i++ { // faster than strings.ContainsAny
		plain = plain && strings.IndexByte(s, special[i]) < 0
	}
	if plain {
		return append(dst, s...)
	}
	for i := 0; i < len(s); i++ {
		if strings.IndexByte(special, s[i]) >= 0 {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return dst
}

// CheckFields returns the fields of p that InfluxDB takes, p.Fields itself if it takes all of them.
// If a field is refused, or if p has no fields, CheckFields counts the point in res.
func CheckFields(p *Point, res *WriteResult) []Field {
	for i := range p.Fields {
		if err := CheckField(p, &p.Fields[i]); err != nil {
			res.Refuse(1, err.Error())
			return checkedFields(p)
		}
	}
	if len(p.Fields) == 0 {
		res.Refuse(1, errNoField.Error())
	}
	return p.Fields
}

func checkedFields(p *Point) []Field {
	var ok []Field
	for i := range p.Fields {
		if CheckField(p, &p.Fields[i]) == nil {
			ok = append(ok, p.Fields[i])
		}
	}
	return ok
}
