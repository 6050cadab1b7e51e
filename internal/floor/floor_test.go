package floor

import "testing"

func TestFloor(t *testing.T) {
	for _, c := range [][3]int64{{0, 10, 0}, {9, 10, 0}, {10, 10, 1}, {-1, 10, -1}, {-10, 10, -1}, {-11, 10, -2}} {
		if q, to := Div(c[0], c[1]), To(c[0], c[1]); q != c[2] || to != c[2]*c[1] {
			t.Errorf("%v: %d and %d", c, q, to)
		}
	}
}
