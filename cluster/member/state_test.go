package member_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/member"
)

// TestKeysOnDisk rotates the key, restarts the node, and damages the file.
func TestKeysOnDisk(t *testing.T) {
	w := newWorld(t)
	seed := w.add(1)
	cfg, host := w.config(2, "n2")
	cfg.Dir = t.TempDir()
	n, err := w.start("n2", cfg, host)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "both are there", func() bool { return seed.count(cluster.Alive) == 2 })
	done, err := seed.RotateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(cfg.Dir, "gossip-keys.json")
	for _, name := range []string{"gossip-keys.json", "members.json"} {
		info, err := os.Stat(filepath.Join(cfg.Dir, name))
		if err != nil || info.Mode() != 0o600 {
			t.Fatalf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	restart := func() *node {
		t.Helper()
		w.kill(n)
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		again, host := w.config(2, "n2")
		again.Dir, again.Identity = cfg.Dir, cfg.Identity
		if n, err = w.start("n2", again, host); err != nil {
			t.Fatal(err)
		}
		eventually(t, "both are there again", func() bool { return n.count(cluster.Alive) == 2 && seed.state("n2") == cluster.Alive })
		return n
	}
	if got := restart().Keys(); got.Keys[0] != done.After || got.Version != 3 {
		t.Errorf("after a restart it has %+v", got)
	}
	for _, text := range []string{"{", "\x00\x00", strings.Repeat("x", 5<<20)} {
		write(t, file, text)
		os.Remove(file + ".damaged")
		if got := restart().Keys(); got.Keys[0] != done.After {
			t.Errorf("with a damaged file it has %+v", got)
		}
		if !n.log.has(`msg="a damaged file of the cluster is put aside; what it had comes from the other nodes" file=` + file) {
			t.Error("it does not say that the file was damaged")
		}
		if _, err := os.Stat(file + ".damaged"); err != nil {
			t.Error(err)
		}
	}
	// What can be read and makes no sense was written by somebody.
	for _, text := range []string{`{"phase":"settled","keys":[]}`, `{"phase":"added","keys":["AAAA","AAAA"]}`, `{"phase":"x","keys":["AAAA"]}`} {
		write(t, file, text)
		bad, _ := w.config(9, "n9")
		bad.Dir, bad.Transport = cfg.Dir, nil
		if _, err := member.New(bad); err == nil || !strings.HasPrefix(err.Error(), file+": ") || !strings.HasSuffix(err.Error(), ": remove it, and the node gets them from the others") {
			t.Errorf("with %s: %v", text, err)
		}
	}
}

// TestMembersOnDisk keeps the epoch from going back, and the others from being
// forgotten while they are not met.
func TestMembersOnDisk(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "members.json")
	read := func() (s struct {
		Epoch uint64
		Nodes []struct{ Name, Stream string }
	}) {
		t.Helper()
		data, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(data, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	cfg, host := w.config(1, "n1")
	cfg.Dir, cfg.Now = dir, func() time.Time { return time.UnixMilli(5000) }
	epoch := func() uint64 {
		t.Helper()
		n, err := w.start("n1", cfg, host)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		again, h := w.config(1, "n1")
		host, cfg.Transport = h, again.Transport
		return read().Epoch
	}
	for i, c := range []struct {
		now  time.Time
		want uint64
	}{{time.UnixMilli(5000), 5000}, {time.UnixMilli(5000), 5001}, {time.UnixMilli(9000), 9000}, {time.UnixMilli(10), 9001}, {time.UnixMilli(-10), 9002}} {
		cfg.Now = func() time.Time { return c.now }
		if got := epoch(); got != c.want {
			t.Errorf("start %d at %v is epoch %d, want %d", i, c.now, got, c.want)
		}
	}
	write(t, file, `{"format":1,"epoch":9002,"nodes":[{"name":"gone","stream":"198.18.0.44:7947"}],"later":true}`)
	epoch()
	if s := read(); len(s.Nodes) != 1 || s.Nodes[0].Name != "gone" {
		t.Errorf("a node that was not met is forgotten: %+v", s)
	}
}

// TestDirectoryThatCannotBeWritten keeps a node from starting, not from going on.
func TestDirectoryThatCannotBeWritten(t *testing.T) {
	w := newWorld(t)
	cfg, _ := w.config(1, "n1")
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	cfg.Dir = filepath.Join(file, "cluster")
	if _, err := member.New(cfg); err == nil || err.Error() != "directory of the cluster: mkdir "+file+": not a directory" {
		t.Error(err)
	}

	seed := w.add(1)
	cfg, host := w.config(2, "n2")
	cfg.Dir = filepath.Join(t.TempDir(), "state")
	n, err := w.start("n2", cfg, host)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "both are there", func() bool { return seed.count(cluster.Alive) == 2 })
	if err := os.RemoveAll(cfg.Dir); err != nil { // as full as it gets for root
		t.Fatal(err)
	}
	_, err = n.RotateKey(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "keep the gossip keys: open "+cfg.Dir) {
		t.Errorf("keys that cannot be kept: %v", err)
	}
	if k := n.Keys(); k.Phase != "settled" || k.Version != 0 {
		t.Errorf("it has %+v", k)
	}
	w.add(3)
	eventually(t, "a third one is there", func() bool { return n.count(cluster.Alive) == 3 })
	eventually(t, "it says so", func() bool {
		return n.log.has("the members of the cluster are not remembered; after a restart, the seeds alone lead to them")
	})
}

func TestAddress(t *testing.T) {
	a := netip.MustParseAddr
	for _, c := range []struct {
		advertise, bind netip.Addr
		seeds           []member.Seed
		want            string
	}{
		{advertise: a("192.0.2.7"), bind: a("192.0.2.8"), want: "192.0.2.7"},
		{bind: a("2001:db8::8"), want: "2001:db8::8"},
		{bind: a("0.0.0.0"), seeds: []member.Seed{{Host: "127.0.0.1", Port: 7947}}, want: "127.0.0.1"},
		{bind: a("::"), seeds: []member.Seed{{Host: "::1", Port: 7947}}, want: "::1"},
	} {
		got, err := member.Address(t.Context(), c.advertise, c.bind, c.seeds)
		if err != nil || got.String() != c.want {
			t.Errorf("advertise %v, bind %v, seeds %v: %v, %v", c.advertise, c.bind, c.seeds, got, err)
		}
	}
}

// TestPortTaken has a second process want the same port.
func TestPortTaken(t *testing.T) {
	w := newWorld(t)
	cfg, _ := w.config(1, "n1")
	cfg.Transport = nil
	cfg.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Gossip = netip.MustParseAddrPort("127.0.0.1:0")
	one, err := member.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	if err := one.Join(t.Context()); err == nil || err.Error() != "members join by the streams of peers, and have none" {
		t.Error(err)
	}
	cfg.Listen = one.Self().Gossip
	if _, err := member.New(cfg); err == nil || !strings.HasPrefix(err.Error(), "gossip port: ") || !strings.Contains(err.Error(), "address already in use") {
		t.Error(err)
	}
	cfg.Listen, cfg.Gossip = netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("0.0.0.0:0")
	if _, err := member.New(cfg); err == nil || !strings.HasPrefix(err.Error(), "nobody reaches this node at 0.0.0.0:") {
		t.Error(err)
	}
}

// TestUnknownFields has a node say more of itself than this version knows.
func TestUnknownFields(t *testing.T) {
	w := newWorld(t)
	one, two := w.add(1), w.add(2)
	good := two.Meta()
	body := good[:len(good)-66]
	more := append(append([]byte{}, body...), 99, 3, 'n', 'e', 'w')
	more = append(append(more, 255, 64), two.id.Sign("member meta", more)...)
	at := two.Self().Gossip
	if err := one.NotifyAlive(nodeOf("n2", at, more)); err != nil {
		t.Errorf("a field that is not known: %v", err)
	}
	for name, meta := range map[string][]byte{
		"another format":    append([]byte{2}, good[1:]...),
		"twice the same":    resign(two, append(append([]byte{}, body...), body[1:5]...)),
		"a field cut short": resign(two, append(append([]byte{}, body...), 99, 200)),
		"nothing":           resign(two, []byte{1}),
		"no signature":      body,
		"another's":         resign(one, body),
	} {
		if err := one.NotifyAlive(nodeOf("n2", at, meta)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := one.NotifyAlive(nodeOf("n3", at, good)); err == nil {
		t.Error("another name is taken")
	}
	if err := one.NotifyAlive(nodeOf("n2", gossipAt(3), good)); err == nil || err.Error() != "it is said to be elsewhere than it says itself" {
		t.Errorf("another address: %v", err)
	}
}
