package steer

import (
	"testing"
)

func TestAttachCounts(t *testing.T) {
	for _, mode := range []Mode{ModeAuto, ModeNative, ModeGeneric} {
		t.Run(string(mode), func(t *testing.T) {
			newNamespace(t)
			p := newPair(t, "lb", 1500, 1)
			s := open(t, "")
			setLocals(t, s, ours()...)
			a := attach(t, s, p, mode)
			want := Attached{IfIndex: p.ifindex(), Name: "lb", Mode: mode}
			if mode == ModeAuto {
				want.Mode = ModeNative
			}
			if a != want {
				t.Errorf("attached %+v, want %+v", a, want)
			}
			tx := newSender(t, p.far)
			tx.send(t, udp(t, client4, vip4, 10))
			tx.send(t, udp(t, client4, silent4, 10))
			tx.send(t, udp(t, client4, host4, 10))
			eventually(t, "three frames counted", func() bool {
				return counters(t, s, p.ifindex()) == Counters{Passed: 1, FailDropped: 1, FailPassed: 1}
			})
		})
	}
}
