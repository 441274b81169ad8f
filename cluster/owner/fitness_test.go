package owner

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestBadFitness(t *testing.T) {
	many := strings.Repeat(`"198.18.0.0/16",`, maxNetworks) + `"198.18.0.0/16"`
	for _, c := range []struct{ text, want string }{
		{``, "fitness of a node: unexpected end of JSON input"},
		{`[]`, "fitness of a node: json: cannot unmarshal array into Go value of type owner.said"},
		{`{"networks":["198.18.0.0"]}`, `fitness of a node: netip.ParsePrefix("198.18.0.0"): no '/'`},
		{`{"networks":[""]}`, "fitness of a node: a network that is none"},
		{`{"networks":[` + many + `]}`, "fitness of a node: 17 networks and a reason of 0 bytes: at most 16 and 120 are possible"},
		{`{"impaired":"` + strings.Repeat("x", maxImpaired+1) + `"}`, "fitness of a node: 0 networks and a reason of 121 bytes: at most 16 and 120 are possible"},
	} {
		if _, err := decodeSaid([]byte(c.text)); err == nil || err.Error() != c.want {
			t.Errorf("%.60s: got %v, want %s", c.text, err, c.want)
		}
	}
	// What a newer version has added is left alone.
	s, err := decodeSaid([]byte(`{"forwards":true,"settled":true,"vips":"0","round":7,"weight":3,"more":{"x":[1]}}`))
	if want := (said{Forwards: true, Settled: true, VIPs: "0", Round: 7}); err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, %v", s, err)
	}
}

// TestFitnessFits keeps what a node says short enough to be gossiped, whatever is
// wrong with it.
func TestFitnessFits(t *testing.T) {
	f := Fitness{Forwards: true, Impaired: strings.Repeat("ä", 4*maxImpaired)}
	for i := range 200 {
		raw := netip.MustParseAddr("2001:db8:1234:5678::").As16()
		raw[7] = byte(i)
		f.Networks = append(f.Networks, netip.PrefixFrom(netip.AddrFrom16(raw), 64))
	}
	f = f.bounded()
	s := said{Forwards: true, Impaired: f.Impaired, Networks: f.Networks, Settled: true, Leaving: true, VIPs: "0123456789abcdef", Round: 1 << 60}
	b, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 700 {
		t.Errorf("an entry of %d bytes, want at most 700", len(b))
	}
	if back, err := decodeSaid(b); err != nil || !back.equal(&s) {
		t.Errorf("%+v became %+v, %v", s, back, err)
	}
}

func FuzzFitness(f *testing.F) {
	f.Add([]byte(`{"forwards":true,"impaired":"x","networks":["198.18.0.0/16","2001:db8::/64"],"settled":true,"leaving":true,"vips":"00","round":1}`))
	f.Add([]byte(`{"networks":["::ffff:1.2.3.4/96"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSaid(b)
		if err != nil {
			return
		}
		Assign([]netip.Addr{addr4(1), netip.MustParseAddr("2001:db8::1")}, []Candidate{{Name: "a", Networks: s.Networks}, {Name: "b", Settled: true}})
		again, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeSaid(again); err != nil || !back.equal(&s) {
			t.Fatalf("%+v became %+v, %v", s, back, err)
		}
	})
}
