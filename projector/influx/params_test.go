package influx

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/influxdata/influxql"
)

// Whatever a bound string holds, it becomes a string literal with exactly that value in exactly
// that statement.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"web1", "", `x' OR '1'='1`, `'; DROP DATABASE "statistics"; --`, "$v", `\'`, `\`, "/.*/", "\n", "\x00", "\xff", "é", "now()", "1h", "true", `"`,
	} {
		f.Add(s, 1.5, int64(-3))
	}
	f.Fuzz(func(t *testing.T, text string, number float64, integer int64) {
		q, bound, err := Parse(`SELECT "cpu" FROM "one_day"."cpu" WHERE "host" = $text AND "cpu" > $number AND time >= $integer AND "x" = $again`,
			map[string]any{"text": text, "number": number, "integer": integer, "again": text, "unused": text})
		if math.IsNaN(number) || math.IsInf(number, 0) {
			if KindOf(err) != Invalid {
				t.Fatalf("%v was bound: %v", number, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var strings []string
		literals := 0
		influxql.WalkFunc(q.Statements[0].(*influxql.SelectStatement).Condition, func(n influxql.Node) {
			switch n := n.(type) {
			case *influxql.StringLiteral:
				strings = append(strings, n.Val)
			case *influxql.NumberLiteral, *influxql.IntegerLiteral:
				literals++
			case *influxql.BinaryExpr, *influxql.VarRef, *influxql.ParenExpr:
			default:
				t.Fatalf("a value became a %T", n)
			}
		})
		if len(strings) != 2 || strings[0] != text || strings[1] != text || literals != 2 {
			t.Fatalf("strings %q and %d numbers, bound %q", strings, literals, text)
		}

		// The parameters sent to a server read back as the values that were bound.
		wire, err := encodeParams(bound)
		if err != nil {
			t.Fatal(err)
		}
		var back struct {
			Number  json.Number
			Integer int64
		}
		if err := json.Unmarshal([]byte(wire), &back); err != nil {
			t.Fatalf("%s: %v", wire, err)
		}
		if n, err := back.Number.Float64(); err != nil || n != number || back.Integer != integer {
			t.Fatalf("%s, bound %v and %v", wire, number, integer)
		}
	})
}

func TestEncodeParams(t *testing.T) {
	_, bound, err := Parse(`SHOW DATABASES`, map[string]any{
		"b": true, "f": 5.0, "g": 1e21, "h": 0.1, "i": 7, "j": int32(8), "s": `"'`, "t": time.Unix(1, 2),
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"b":true,"f":5.0,"g":1000000000000000000000.0,"h":0.1,"i":7,"j":8,"s":"\"'","t":1000000002}`
	if got, err := encodeParams(bound); err != nil || got != want {
		t.Errorf("got %s (%v), expected %s", got, err, want)
	}
}
