package steer

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"sort"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

func TestSetLocalsErrors(t *testing.T) {
	s := open(t, "")
	setLocals(t, s, ours()...)
	before := s.Locals()
	many := make([]Local, MaxLocals+1)
	for i := range many {
		many[i] = Local{Addr: netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)}), Kind: VIP}
	}
	for _, c := range []struct {
		locals []Local
		want   string
	}{
		{[]Local{{Kind: VIP}}, "set locals: vip: address is missing"},
		{[]Local{{Addr: netip.MustParseAddr("fe80::1%eth0"), Kind: SNAT}}, "set locals: snat: address fe80::1%eth0 has a zone"},
		{[]Local{{Addr: netip.MustParseAddr("0.0.0.0"), Kind: VIP}}, "set locals: vip: address 0.0.0.0 is the unspecified address"},
		{[]Local{{Addr: netip.MustParseAddr("::"), Kind: VIP}}, "set locals: vip: address :: is the unspecified address"},
		{[]Local{{Addr: netip.MustParseAddr("224.0.0.5"), Kind: Tunnel}}, "set locals: tunnel: address 224.0.0.5 is a multicast address"},
		{[]Local{{Addr: vip4}}, "set locals: address 203.0.113.10: unknown kind(0)"},
		{[]Local{{Addr: vip4, Kind: 4}}, "set locals: address 203.0.113.10: unknown kind(4)"},
		{
			[]Local{{Addr: vip4, Kind: VIP}, {Addr: netip.AddrFrom16(vip4.As16()), Kind: SNAT}},
			"set locals: address ::ffff:203.0.113.10 is given twice and differently: as vip and as snat",
		},
		{many, "set locals: 65537 addresses are too many: the steering program holds 65536"},
	} {
		added, removed, err := s.SetLocals(c.locals)
		if err == nil || err.Error() != c.want || added != 0 || removed != 0 {
			t.Errorf("added %d, removed %d, %v, want %q", added, removed, err, c.want)
		}
	}
	if got := s.Locals(); !reflect.DeepEqual(got, before) {
		t.Errorf("failed calls changed the set: %v", got)
	}
}

// TestSetLocalsRandom makes the set a random one again and again and compares
// the counts with those of a plain comparison, and the kernel's map with the
// set asked for.
func TestSetLocalsRandom(t *testing.T) {
	s := open(t, "")
	random := rand.New(rand.NewPCG(1, 2))
	was := make(map[netip.Addr]Local)
	for range 200 {
		want := make(map[netip.Addr]Local)
		var list []Local
		for range random.IntN(40) {
			addr := netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + random.IntN(50))})
			if random.IntN(2) == 0 {
				addr = netip.MustParseAddr("2001:db8::100").Next()
			}
			if _, ok := want[addr]; ok {
				continue
			}
			l := Local{Addr: addr, Kind: Kind(1 + random.IntN(3)), AnswerARP: random.IntN(2) == 0, FailPass: random.IntN(2) == 0}
			want[addr] = l
			list = append(list, l, l) // twice the same is no error
		}
		wantAdded, wantRemoved := 0, 0
		for a, l := range want {
			if was[a] != l {
				wantAdded++
			}
		}
		for a := range was {
			if _, ok := want[a]; !ok {
				wantRemoved++
			}
		}
		added, removed, err := s.SetLocals(list)
		if err != nil || added != wantAdded || removed != wantRemoved {
			t.Fatalf("added %d, removed %d, %v, want %d and %d", added, removed, err, wantAdded, wantRemoved)
		}
		sorted := make([]Local, 0, len(want))
		for _, l := range want {
			sorted = append(sorted, l)
		}
		sort.Slice(sorted, func(a, b int) bool { return sorted[a].Addr.Less(sorted[b].Addr) })
		if got := s.Locals(); !reflect.DeepEqual(got, sorted) {
			t.Fatalf("locals %v, want %v", got, sorted)
		}
		inKernel, err := readLocals(s.shared.locals)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(inKernel, s.locals) {
			t.Fatalf("the kernel has %v, want %v", inKernel, s.locals)
		}
		was = want
	}
}

// TestSetLocalsReplacesAFullSet needs additions before removals to fit.
func TestSetLocalsReplacesAFullSet(t *testing.T) {
	s := open(t, "")
	full := func(net byte) []Local {
		l := make([]Local, MaxLocals)
		for i := range l {
			l[i] = Local{Addr: netip.AddrFrom4([4]byte{198, net, byte(i >> 8), byte(i)}), Kind: VIP}
		}
		return l
	}
	if added, removed, err := s.SetLocals(full(18)); added != MaxLocals || removed != 0 || err != nil {
		t.Fatalf("added %d, removed %d, %v", added, removed, err)
	}
	if added, removed, err := s.SetLocals(full(19)); added != MaxLocals || removed != MaxLocals || err != nil {
		t.Fatalf("added %d, removed %d, %v", added, removed, err)
	}
}

// TestSetLocalsKernelFull makes the kernel refuse in the middle of a call.
func TestSetLocalsKernelFull(t *testing.T) {
	s := open(t, "")
	setLocals(t, s, ours()...)
	spec, err := loadObject()
	if err != nil {
		t.Fatal(err)
	}
	small := spec.Maps[objectMapLocals].Copy()
	small.MaxEntries = uint32(len(ours())) + 1
	m, err := ebpf.NewMap(small)
	if err != nil {
		t.Fatal(err)
	}
	for k, e := range s.locals {
		if err := m.Put(k, e); err != nil {
			t.Fatal(err)
		}
	}
	s.shared.locals.Close()
	s.shared.locals = m

	before := s.Locals()
	changed := ours()
	changed[0].FailPass = true
	for i := range 3 {
		changed = append(changed, Local{Addr: netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}), Kind: VIP})
	}
	added, removed, err := s.SetLocals(changed)
	if err == nil || !strings.HasPrefix(err.Error(), "set locals: add 198.18.0.") || !strings.HasSuffix(err.Error(), ": the kernel's table is full") || added != 0 || removed != 0 {
		t.Errorf("added %d, removed %d, %v", added, removed, err)
	}
	inKernel, err := readLocals(m)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(inKernel, s.locals) || !reflect.DeepEqual(s.Locals(), before) {
		t.Errorf("after a failed call the kernel has %v, the mirror %v, before %v", inKernel, s.Locals(), before)
	}
}
