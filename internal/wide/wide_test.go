package wide_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nanopack/pulse/internal/wide"
)

// The results are compared with exact arithmetic. Sums that fit are those of plain additions, bit
// for bit. Means are right, and between the least and the greatest number.
func TestMeans(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		values := make([]float64, 1+rnd.IntN(40))
		huge := rnd.IntN(2) == 0
		same := rnd.NormFloat64()
		for i := range values {
			switch {
			case huge && rnd.IntN(3) > 0:
				values[i] = math.MaxFloat64 * (1 - rnd.Float64()*0.4) * float64(1-2*rnd.IntN(2)*rnd.IntN(2))
			case seed%5 == 0:
				values[i] = same
			default:
				values[i] = rnd.NormFloat64() * 1000
			}
		}
		total, scaled := 0.0, false
		plain := 0.0
		exact := new(big.Float).SetPrec(4000)
		for _, v := range values {
			total, scaled = wide.Add(total, scaled, v)
			plain += v
			exact.Add(exact, new(big.Float).SetFloat64(v))
		}
		// Adding in two parts gives the same sum, except for rounding.
		var parts [2]float64
		var wides [2]bool
		for i, v := range values {
			parts[i%2], wides[i%2] = wide.Add(parts[i%2], wides[i%2], v)
		}
		merged, mergedScaled := wide.Merge(parts[0], wides[0], parts[1], wides[1])

		low, high, n := slices.Min(values), slices.Max(values), float64(len(values))
		want, _ := exact.Quo(exact, big.NewFloat(n)).Float64()
		for name, mean := range map[string]float64{"one": wide.Mean(total, scaled, n, low, high), "two": wide.Mean(merged, mergedScaled, n, low, high)} {
			if !(low <= mean && mean <= high) || math.Abs(mean/max(1, high, -low)-want/max(1, high, -low)) > 1e-13 {
				t.Fatalf("seed %d, in %s: the mean of %v is %v, want %v", seed, name, values, mean, want)
			}
		}
		if !math.IsInf(plain, 0) && !math.IsNaN(plain) && (wide.Sum(total, scaled) != plain || scaled) {
			t.Fatalf("seed %d: the sum of %v is %v, want %v", seed, values, wide.Sum(total, scaled), plain)
		}
	}
}

func TestSum(t *testing.T) {
	total, scaled := wide.Add(math.MaxFloat64, false, math.MaxFloat64)
	if got := wide.Sum(total, scaled); !math.IsInf(got, 1) {
		t.Errorf("twice the greatest number is %v", got)
	}
	// The sum comes back into the range.
	total, scaled = wide.Add(total, scaled, -math.MaxFloat64)
	if got := wide.Sum(total, scaled); got != math.MaxFloat64 {
		t.Errorf("and minus it %v", got)
	}
	negative := math.Copysign(0, -1)
	if got := wide.Mean(0, false, 1, negative, negative); math.Signbit(got) {
		t.Errorf("a zero changed its sign")
	}
}
