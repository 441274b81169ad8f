package owner

import (
	"testing"
	"time"
)

func TestSettling(t *testing.T) {
	begin := time.Unix(1_700_000_000, 0)
	s := settling{hold: 5 * time.Second}
	for _, step := range []struct {
		at           time.Duration
		well, others bool
		away         bool
		want         bool
		what         string
	}{
		{0, false, true, false, false, "not well"},
		{1, true, true, false, false, "well now"},
		{5, true, true, false, false, "not for long enough"},
		{6, true, true, false, true, "for long enough"},
		{7, false, true, false, false, "not well any more"},
		{8, true, true, false, false, "well again"},
		{12, true, true, false, false, "4 s"},
		{13, true, true, false, true, "5 s"},
		{14, true, true, true, false, "away"},
		{18, true, true, false, false, "back for 4 s"},
		{19, true, true, false, true, "back for 5 s"},
		{20, false, false, false, false, "not well, and alone"},
		{21, true, false, false, true, "well, and nobody to take VIPs from"},
		{22, true, true, false, true, "stays settled when others come"},
	} {
		now := begin.Add(step.at * time.Second)
		if step.away {
			s.away(now)
		}
		s.look(step.well, step.others, now)
		if s.settled != step.want {
			t.Fatalf("after %d s, %s: settled is %v", step.at, step.what, s.settled)
		}
		if due := s.due(); due.IsZero() == (step.well && !s.settled) {
			t.Fatalf("after %d s, %s: due at %v", step.at, step.what, due)
		}
	}
}

// TestMinority wants one of two parts to yield, never both, and the smaller one.
func TestMinority(t *testing.T) {
	for _, c := range []struct {
		stayed, returned []string
		yields           bool
	}{
		{[]string{"a"}, []string{"b", "c"}, true},
		{[]string{"b", "c"}, []string{"a"}, false},
		{[]string{"b"}, []string{"a"}, true},
		{[]string{"a"}, []string{"b"}, false},
		{[]string{"d", "a"}, []string{"b", "c"}, false},
		{[]string{"c", "b"}, []string{"d", "a"}, true},
	} {
		if got := minority(c.stayed, c.returned); got != c.yields {
			t.Errorf("%v sees %v come back: yields is %v", c.stayed, c.returned, got)
		}
		if minority(c.stayed, c.returned) == minority(c.returned, c.stayed) {
			t.Errorf("%v and %v: both yield, or neither", c.stayed, c.returned)
		}
	}
}
