package health

import (
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// TestJudge writes results as + and -, and states as u, U (up) and D (down).
func TestJudge(t *testing.T) {
	check := &model.Check{Rise: 2, Fall: 3}
	for _, c := range []struct {
		begin         State
		results, want string
	}{
		{Unknown, "+", "U"},
		{Unknown, "--+", "uuU"},
		{Unknown, "---", "uuD"},
		{Up, "--+--+", "UUUUUU"},
		{Up, "---+", "UUDD"},
		{Up, "---++", "UUDDU"},
		{Up, "----+-++", "UUDDDDDU"},
		{Down, "++", "DU"},
		{Down, "-+", "DD"},
	} {
		j := judge{state: c.begin}
		var got strings.Builder
		for i, r := range c.results {
			before, now := j, time.Unix(int64(i+1), 0)
			changed := j.judge(check, r == '+', now)
			got.WriteByte("uUD"[j.state])
			if changed != (before.state != j.state) || changed && !j.since.Equal(now) || !changed && !j.since.Equal(before.since) {
				t.Errorf("%s %s: at %d it was %+v, is %+v, changed %t", c.begin, c.results, i, before, j, changed)
			}
		}
		if got.String() != c.want {
			t.Errorf("%s %s: got %s, want %s", c.begin, c.results, &got, c.want)
		}
	}
}
