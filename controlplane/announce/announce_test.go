package announce

import (
	"net/netip"
	"reflect"
	"testing"

	"fairlead/controlplane/model"
)

var (
	one = netip.MustParseAddr("203.0.113.1")
	two = netip.MustParseAddr("203.0.113.2")
)

// state has two services at one VIP, of the pools a and b.
func state(change ...func(*model.VIP)) *model.State {
	v := model.DefaultVIP()
	v.Address = one
	for _, f := range change {
		f(&v)
	}
	return &model.State{VIPs: []model.VIP{v}, Services: []model.Service{{Name: "web", VIP: one, Pool: "a"}, {Name: "mail", VIP: one, Pool: "b"}}}
}

func enabled(change ...func(*model.BGP)) *model.BGP {
	b := model.DefaultBGP()
	b.Enabled = true
	for _, f := range change {
		f(&b)
	}
	return &b
}

func with(a, b int) func(string) int {
	return func(pool string) int { return map[string]int{"a": a, "b": b}[pool] }
}

var well = Condition{Forwarding: true, Phase: InService}

func TestDecide(t *testing.T) {
	withdraw := func(w model.Withdraw) func(*model.VIP) { return func(v *model.VIP) { v.Announce.Withdraw = w } }
	for name, c := range map[string]struct {
		state   *model.State
		bgp     *model.BGP
		serving func(string) int
		c       Condition
		want    []VIP
	}{
		"plain":             {state(), enabled(), with(1, 1), well, []VIP{{Address: one, Owned: true}}},
		"no [bgp]":          {state(), &model.BGP{}, with(1, 1), well, []VIP{{Address: one, Owned: true, Withheld: Off}}},
		"bgp = false":       {state(func(v *model.VIP) { v.Announce.BGP = false }), enabled(), with(1, 1), well, []VIP{{Address: one, Owned: true, Withheld: Off}}},
		"arp = false":       {state(func(v *model.VIP) { v.AnswerARP = false }), enabled(), with(1, 1), well, []VIP{{Address: one}}},
		"all, one starves":  {state(), enabled(), with(1, 0), well, []VIP{{Address: one, Owned: true}}},
		"unfit":             {state(), enabled(), with(1, 1), Condition{Forwarding: true, Phase: InService, Unfit: true}, []VIP{{Address: one, Owned: true, Withheld: Unfit}}},
		"unfit, never":      {state(withdraw(model.WithdrawNever)), enabled(), with(1, 1), Condition{Forwarding: true, Phase: InService, Unfit: true}, []VIP{{Address: one, Owned: true}}},
		"all, both starve":  {state(), enabled(), with(0, 0), well, []VIP{{Address: one, Owned: true, Withheld: NoBackends, Starved: []string{"mail", "web"}}}},
		"any, one starves":  {state(withdraw(model.WithdrawAny)), enabled(), with(1, 0), well, []VIP{{Address: one, Owned: true, Withheld: NoBackends, Starved: []string{"mail"}}}},
		"any, none starves": {state(withdraw(model.WithdrawAny)), enabled(), with(1, 2), well, []VIP{{Address: one, Owned: true}}},
		"never":             {state(withdraw(model.WithdrawNever)), enabled(), with(0, 0), well, []VIP{{Address: one, Owned: true}}},
		"never, but not forwarding": {state(withdraw(model.WithdrawNever)), enabled(), with(1, 1), Condition{Phase: InService},
			[]VIP{{Address: one, Withheld: NotForwarding}}},
		"no service": {&model.State{VIPs: state().VIPs}, enabled(), with(1, 1), well, []VIP{{Address: one, Owned: true, Withheld: NoService}}},
		"not listed": {&model.State{Services: []model.Service{{Name: "b", VIP: two, Pool: "b"}, {Name: "a", VIP: one, Pool: "a"}}}, enabled(), with(1, 0), well,
			[]VIP{{Address: one, Owned: true}, {Address: two, Owned: true, Withheld: NoBackends, Starved: []string{"b"}}}},
		"attributes": {
			state(func(v *model.VIP) { v.Announce.Communities = "65000:7 no-export" }),
			enabled(func(b *model.BGP) { b.Communities, b.LocalPreference, b.MED = "65000:1 no-export", 150, 9 }), with(1, 1), well,
			[]VIP{{Address: one, Owned: true, Communities: "65000:1 65000:7 no-export", LocalPreference: 150, HasPreference: true, MED: 9}},
		},
		"local preference of its own": {
			state(func(v *model.VIP) { v.Announce.LocalPreference = 300 }), enabled(func(b *model.BGP) { b.LocalPreference = 150 }), with(1, 1), well,
			[]VIP{{Address: one, Owned: true, LocalPreference: 300, HasPreference: true}},
		},
		"leaving": {
			state(func(v *model.VIP) { v.Announce.LocalPreference = 300 }), enabled(func(b *model.BGP) { b.Communities = "65000:1" }), with(1, 1),
			Condition{Forwarding: true, Phase: Leaving},
			[]VIP{{Address: one, Owned: true, Communities: "65000:1 graceful-shutdown", HasPreference: true}},
		},
		"withdrawn": {state(), enabled(), with(1, 1), Condition{Forwarding: true, Phase: Withdrawn}, []VIP{{Address: one, Withheld: Draining}}},
		"drained":   {state(), enabled(), with(0, 0), Condition{Phase: Drained}, []VIP{{Address: one, Withheld: Draining}}},
	} {
		if got := Decide(c.state, c.bgp, c.serving, c.c); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, c.want)
		}
	}
}
