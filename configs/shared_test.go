package configs

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestSharedPart: what all nodes share of a file, read by itself, is what the file
// declares of it.
func TestSharedPart(t *testing.T) {
	whole, err := judged("f", uncomment(Reference()))
	if err != nil {
		t.Fatal(err)
	}
	text, err := whole.Shared()
	if err != nil {
		t.Fatal(err)
	}
	part, err := ReadShared("f", text, false)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	w, p := &whole.Config.State, &part.Config.State
	if len(p.Services) == 0 || len(p.Pools) == 0 || len(p.VIPs) == 0 || !reflect.DeepEqual(p.Services, w.Services) || !reflect.DeepEqual(p.Pools, w.Pools) || !reflect.DeepEqual(p.VIPs, w.VIPs) {
		t.Errorf("shared\n%+v\nin the file\n%+v", p, w)
	}
	if len(p.SNATs) != 0 || p.HashSeed != [2]uint64{} {
		t.Errorf("what belongs to the node is shared: %+v", p)
	}
	again, err := part.Shared()
	if err != nil || string(again) != string(text) {
		t.Errorf("%v, shared again it is\n%s", err, again)
	}
}

// TestSharedPartIsCanonical: comments, order and other tables make no difference;
// what is declared does.
func TestSharedPartIsCanonical(t *testing.T) {
	read := func(toml string) string {
		t.Helper()
		d, err := Read("f", []byte(toml))
		if err != nil {
			t.Fatal(err)
		}
		text, err := d.Shared()
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	one := read("[node]\nname = \"a\"\n[[pool]]\nname = \"p\" # why\n[[pool.backend]]\naddress = \"198.18.0.1:80\"\nweight = 2\n[timeouts]\nudp = \"9s\"\n")
	two := read("timeouts.udp = \"9s\"\npool = [{ backend = [{ weight = 2, address = \"198.18.0.1:80\" }], name = \"p\" }]\n[node]\nname = \"b\"\n")
	if one != two || one == "" {
		t.Errorf("one is\n%s\nthe other\n%s", one, two)
	}
	if other := read("[[pool]]\nname = \"p\"\n[[pool.backend]]\naddress = \"198.18.0.1:80\"\nweight = 3\n[timeouts]\nudp = \"9s\"\n"); other == one {
		t.Error("another weight makes no difference")
	}
	for _, none := range []string{"", "[node]\nname = \"a\"\n[timeouts]\nudp = \"9s\"\n[[snat]]\naddress = \"198.18.0.1\"\n"} {
		if text := read(none); text != "" {
			t.Errorf("nothing is shared, as\n%s", text)
		}
	}
	const status = "[[pool]]\nname = \"p\"\n[pool.health]\ntype = \"http\"\n[pool.health.http]\nstatus = [200, \"300-399\"]\n"
	if _, err := ReadShared("f", []byte(read(status)), false); err != nil {
		t.Error(err)
	}
}

func TestUnknownKeysOfSharedDocuments(t *testing.T) {
	const text = "[[pool]]\nname = \"p\"\ncolour = \"red\"\n[[pool.backend]]\naddress = \"198.18.0.1:80\"\n[pool.backend.more]\nx = 1\n[policy]\ny = 2\n"
	d, err := ReadShared("f", []byte(text), true)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{`3:1: "colour" in [[pool]]`, `6:15: "more" in [[pool.backend]]`, `8:2: "policy" in the document`}; !slices.Equal(d.Ignored, want) {
		t.Errorf("ignored %q, want %q", d.Ignored, want)
	}
	if s := &d.Config.State; len(s.Pools) != 1 || len(s.Pools[0].Backends) != 1 {
		t.Errorf("read %+v", s)
	}
	if _, err := ReadShared("f", []byte(text), false); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %v", err)
	}
	// A value that is not known is an error all the same.
	_, err = ReadShared("f", []byte("[[pool]]\nname = \"p\"\n[pool.health]\ntype = \"quic\"\n"), true)
	if want := `f:4:8: type: "quic" is none of "tcp", "http", "https", "tls", "grpc", "udp", "icmp", "dns", "exec"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = ReadShared("f", []byte("[[snat]]\naddress = \"198.18.0.1\"\n[node]\nname = \"x\"\n"), true)
	if want := `f:1:3: "snat" belongs to the node's own file; only services, pools, VIPs and timeouts are the same on all nodes of a cluster
f:3:2: "node" belongs to the node's own file; only services, pools, VIPs and timeouts are the same on all nodes of a cluster`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
