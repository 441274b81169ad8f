package fib

import "testing"

// TestPickBase has the base of a pool followed, a member that is no more found
// to be none, and a pool that has no base say so.
func TestPickBase(t *testing.T) {
	b := small()
	b.Tables = append(b.Tables, 1, NoMember, 0)
	b.Pools[0].Base, b.Pools[0].BaseSize = 7, 3
	s, err := Open(encode(t, b))
	if err != nil {
		t.Fatal(err)
	}
	third := ^uint64(0) / 3
	for i, want := range []uint32{0, NoIndex, 2} {
		if slot, ok := s.PickBase(s.Pool(0), uint64(i)*third+third/2); !ok || slot != want {
			t.Errorf("part %d of the base leads to slot %d, %v: want %d", i, int32(slot), ok, int32(want))
		}
	}
	if slot, ok := s.PickBase(s.Pool(1), 0); ok || slot != NoIndex {
		t.Errorf("a pool without a base gave slot %d, %v", slot, ok)
	}
	if got := s.BaseTable(s.Pool(0)); len(got) != 3 || got[1] != NoMember {
		t.Errorf("the base is %v", got)
	}
	if _, ok := s.PickAlso(s.Pool(0), 0); ok {
		t.Error("a pool without another base has one")
	}
	b.Pools[0].Also, b.Pools[0].AlsoSize = 8, 2
	if _, err := b.Encode(1); err == nil {
		t.Fatal("bases that overlap are taken")
	}
	b.Pools[0].Also, b.Pools[0].AlsoSize = 7, 3
	if s, err = Open(encode(t, b)); err != nil {
		t.Fatal(err)
	}
	if slot, ok := s.PickAlso(s.Pool(0), third/2); !ok || slot != 0 || len(s.AlsoTable(s.Pool(0))) != 3 {
		t.Errorf("the other base leads to slot %d, %v", slot, ok)
	}
}
