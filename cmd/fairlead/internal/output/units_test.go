package output

import (
	"testing"
	"time"
)

// TestUnits asserts how numbers are written for people.
func TestUnits(t *testing.T) {
	for got, want := range map[string]string{
		Count(0): "0", Count(99_999): "99999", Count(100_000): "100k", Count(1_234_567): "1.23M", Count(98_765_432_100): "98.8G", Count(1<<64 - 1): "18.4E",
		Bytes(0): "0 B", Bytes(1023): "1023 B", Bytes(1024): "1 KiB", Bytes(1536): "1.50 KiB", Bytes(5 << 30): "5 GiB",
		Rate(0): "0", Rate(0.5): "0.50", Rate(12.34): "12.3", Rate(999): "999", Rate(1_740_000): "1.74M",
		Bits(0): "0 bit/s", Bits(125_000_000): "1 Gbit/s", Bits(1.5): "12 bit/s",
		Percent(0.333): "33.3%", Percent(1): "100.0%",
		Span(0): "0us", Span(250 * time.Microsecond): "250us", Span(1500 * time.Microsecond): "1.50ms", Span(4200 * time.Millisecond): "4.20s",
		Span(750 * time.Second): "12m30s", Span(125 * time.Minute): "2h5m", Span(76 * time.Hour): "3d4h", Span(-time.Second): "-1s",
		Age(time.Time{}, time.Now()): "", Age(time.Unix(10, 0), time.Unix(70, 0)): "1m0s",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
