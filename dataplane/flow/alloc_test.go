package flow

import (
	"os/exec"
	"testing"
)

// compilerNotes is what the compiler says about inlining in this package.
func compilerNotes(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return string(out)
}

func TestNothingAllocates(t *testing.T) {
	tab := newTable(t, 256, 1)
	w := tab.Worker(0)
	ports := []PortRange{{Local: 5, First: 1024, Last: 1151}, {Local: 6, First: 1024, Last: 1151}}
	now, n := Time(0), 0
	var f Flow
	for name, fn := range map[string]func(){
		"dsr": func() {
			f = dsrFlow(n, StateHalfOpen)
			if _, ok := w.Insert(&f, now, 1000); !ok {
				t.Fatal("no room")
			}
			k := f.ForwardKey()
			h := tab.Hash(&k)
			tab.Touch(h)
			tab.TouchRecord(h)
			ref, _, ok := tab.Lookup(&k, h, now, &f)
			if !ok {
				t.Fatal("not found")
			}
			tab.Advance(ref, &f, Forward, tcpACK, now, &testTimeouts)
			tab.Move(ref, &f, 5)
			tab.SetVia(ref, &f, tab.PeerOf(1, [6]byte{2, 0, 0, 0, byte(n >> 8), byte(n)}))
			tab.Refresh(ref, &f, now, 500)
			if n%2 == 0 {
				w.Forget(ref, &f)
			}
		},
		"nat": func() {
			f = natFlow(n%200, StateHalfOpen)
			f.Backend = addr4(10, 0, 0, 1)
			ref, res := w.Bind(&f, ports, now, 1000)
			if res == Bound {
				tab.Advance(ref, &f, Reply, tcpSYN|tcpACK, now, &testTimeouts)
			}
		},
		"flood": func() {
			f = dsrFlow(n, StateHalfOpen)
			w.Insert(&f, now, 1<<30)
		},
		"sweep": func() { w.Sweep(now, 16) },
		"stats": func() { tab.Stats() },
	} {
		if got := testing.AllocsPerRun(1000, func() { n++; now += 7; fn() }); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}
