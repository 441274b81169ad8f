package output

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Count writes a number of things: exactly up to 99,999, then with three digits
// and k, M, G or T.
func Count(n uint64) string {
	if n < 100_000 {
		return strconv.FormatUint(n, 10)
	}
	return scaled(float64(n), 1000, []string{"", "k", "M", "G", "T", "P", "E"}, "")
}

// Bytes writes a number of bytes in powers of 1,024.
func Bytes(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	return scaled(float64(n), 1024, []string{"", " Ki", " Mi", " Gi", " Ti", " Pi", " Ei"}, "B")
}

// Rate writes how many things there are in a second.
func Rate(perSecond float64) string {
	if perSecond < 1000 {
		return trimmed(perSecond)
	}
	return scaled(perSecond, 1000, []string{"", "k", "M", "G", "T"}, "")
}

// Bits writes a rate of bytes in bits per second.
func Bits(bytesPerSecond float64) string {
	return scaled(8*bytesPerSecond, 1000, []string{" ", " k", " M", " G", " T"}, "bit/s")
}

// scaled writes n with three digits, scaled by powers of base.
func scaled(n, base float64, prefixes []string, unit string) string {
	i := 0
	for ; n >= base && i < len(prefixes)-1; i++ {
		n /= base
	}
	return trimmed(n) + prefixes[i] + unit
}

// trimmed writes a number below some thousands with three digits.
func trimmed(n float64) string {
	switch {
	case n >= 100 || n == 0:
		return strconv.FormatFloat(n, 'f', 0, 64)
	case n >= 10:
		return strings.TrimSuffix(strconv.FormatFloat(n, 'f', 1, 64), ".0")
	}
	return strings.TrimSuffix(strconv.FormatFloat(n, 'f', 2, 64), ".00")
}

// Percent writes a share from 0 to 1.
func Percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) + "%" }

// Span writes how long something takes or has lasted, with the two units that
// matter: 3d4h, 2h5m, 12m30s, 4.2s, 250us.
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Span(-d)
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d >= time.Second:
		return trimmed(d.Seconds()) + "s"
	case d >= time.Millisecond:
		return trimmed(float64(d)/1e6) + "ms"
	}
	return trimmed(float64(d)/1e3) + "us"
}

// Age is how long ago a time was; empty for the zero time.
func Age(since, now time.Time) string {
	if since.IsZero() {
		return ""
	}
	return Span(now.Sub(since))
}
