package reason

import (
	"regexp"
	"testing"
)

// TestNames asserts that every reason has a stable name of its own, and that
// the name leads back to it.
func TestNames(t *testing.T) {
	snake := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	seen := map[string]Reason{}
	for _, r := range All() {
		name := r.String()
		if !snake.MatchString(name) {
			t.Errorf("reason %d is called %q", r, name)
		}
		if other, taken := seen[name]; taken {
			t.Errorf("reasons %d and %d are both called %q", other, r, name)
		}
		seen[name] = r
		if back, ok := Parse(name); !ok || back != r {
			t.Errorf("%q leads to %d, %v", name, back, ok)
		}
	}
	if len(seen) != Count-1 {
		t.Errorf("%d reasons have names, there are %d", len(seen), Count-1)
	}
}

// TestActions asserts where each kind of reason begins and ends.
func TestActions(t *testing.T) {
	for r, want := range map[Reason]Action{
		ForwardNew: Transmit, ResetReply: Transmit,
		PassNotOurs: Pass, PassFailAction: Pass,
		FrameTooShort: Drop, end - 1: Drop,
	} {
		if got := r.Action(); got != want {
			t.Errorf("%v ends in %v, not %v", r, got, want)
		}
	}
}

// TestWhatIsNoReason asserts that neither None nor what lies beyond counts.
func TestWhatIsNoReason(t *testing.T) {
	if None.Valid() || end.Valid() {
		t.Error("what is no reason is valid")
	}
	if _, ok := Parse("none"); ok {
		t.Error("none is a reason")
	}
	if got := end.String(); got != "unknown" {
		t.Errorf("what is no reason is called %q", got)
	}
}
