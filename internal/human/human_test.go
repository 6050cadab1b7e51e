package human

import "testing"

func TestNumbers(t *testing.T) {
	for want, got := range map[string]string{
		"0s": Seconds(0), "4s": Seconds(3.7), "1m30s": Seconds(90), "1m": Seconds(59.9), "6m": Seconds(360.2), "9h54m": Seconds(35640), "6d3h": Seconds(6*86400 + 3*3600 + 59),
		"7d": Seconds(7 * 86400), "years": Seconds(1e300),
		"1 block": Several(1, "block"), "1,234 blocks": Several(1234, "block"),
		"0": Thousands(0), "999": Thousands(999), "1,000": Thousands(1000), "123,456": Thousands(123456), "18,446,744,073,709,551,615": Thousands(1<<64 - 1),
		"0 B": Bytes(0), "999 B": Bytes(999), "1 kB": Bytes(1000), "1.23 MB": Bytes(1_234_567), "1 GB": Bytes(999_999_999), "9.22e+03 PB": Bytes(1<<63 - 1),
		"0B": SizeFlag(0), "1B": SizeFlag(1), "99B": SizeFlag(99), "110B": SizeFlag(101), "1kB": SizeFlag(1000), "1.3kB": SizeFlag(1201), "10kB": SizeFlag(9901),
		"1000kB": SizeFlag(999_001), "1MB": SizeFlag(1_000_000), "70GB": SizeFlag(69_500_000_000), "490GB": SizeFlag(480_000_000_001), "9300PB": SizeFlag(1<<63 - 1),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
