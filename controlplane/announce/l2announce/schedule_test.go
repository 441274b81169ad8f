package l2announce

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestScheduleAgainstList compares the schedule with a plain list under random
// use: the most urgent class first, and of it what has been due longest.
func TestScheduleAgainstList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	begin := time.Unix(1000, 0)
	var s schedule
	var list []*address
	for n := range 20_000 {
		now := begin.Add(time.Duration(random.IntN(1000)) * time.Second)
		switch {
		case len(list) == 0 || random.IntN(3) == 0:
			one := &address{announced: n}
			list = append(list, one)
			s.put(one, class(random.IntN(int(classes))), begin.Add(time.Duration(n%997)*time.Second+time.Duration(n)))
		case random.IntN(4) == 0:
			i := random.IntN(len(list))
			s.remove(list[i])
			s.remove(list[i]) // again: it is in none
			list = slices.Delete(list, i, i+1)
		default:
			want := -1
			for i, one := range list {
				if one.turn.due.After(now) {
					continue
				}
				if want < 0 || one.turn.class < list[want].turn.class ||
					one.turn.class == list[want].turn.class && one.turn.due.Before(list[want].turn.due) {
					want = i
				}
			}
			got := s.take(now)
			if want < 0 {
				if got != nil {
					t.Fatalf("step %d: something that is not due is taken", n)
				}
				continue
			}
			if got != list[want] {
				t.Fatalf("step %d: %+v is taken, want %+v", n, got, list[want])
			}
			list = slices.Delete(list, want, want+1)
		}
		var next time.Time
		for _, one := range list {
			if next.IsZero() || one.turn.due.Before(next) {
				next = one.turn.due
			}
		}
		if got := s.next(); !got.Equal(next) {
			t.Fatalf("step %d: the next is due at %v, want %v", n, got, next)
		}
	}
}

// TestBudget spends as fast as it can and must not exceed the rate by more than
// a tenth of a second's worth and one address's frames.
func TestBudget(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBudget(1000, now)
	sent, end := 0, now.Add(10*time.Second)
	for now.Before(end) {
		wait, ok := b.spend(0, now)
		if ok {
			b.spend(7, now)
			sent += 7
			continue
		}
		if wait <= 0 {
			t.Fatalf("nothing may be sent, and there is nothing to wait for")
		}
		now = now.Add(wait)
	}
	if sent < 9_900 || sent > 10_000+100+7 {
		t.Errorf("%d frames in 10 s at 1000 a second", sent)
	}
}

// TestPlace asserts where an address is announced.
func TestPlace(t *testing.T) {
	ports := []port{
		{Name: "a", subnets: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/24"), netip.MustParsePrefix("2001:db8::/64")}},
		{Name: "b", subnets: []netip.Prefix{netip.MustParsePrefix("198.18.10.0/24")}},
		{Name: "c", subnets: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/25")}},
	}
	for _, c := range []struct {
		where Place
		addr  string
		want  []int
	}{
		{Auto, "198.18.0.10", []int{0, 2}}, {Auto, "198.18.0.200", []int{0}}, {Auto, "2001:db8::1", []int{0}},
		{Auto, "192.0.2.1", []int{0, 1, 2}}, {Auto, "2001:db8:1::1", []int{0, 1, 2}},
		{OnLink, "198.18.10.1", []int{1}}, {OnLink, "192.0.2.1", nil},
		{All, "198.18.10.1", []int{0, 1, 2}},
	} {
		if got := place(c.where, ports, Address{Addr: netip.MustParseAddr(c.addr)}); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %v, want %v", c.where, c.addr, got, c.want)
		}
	}
}
