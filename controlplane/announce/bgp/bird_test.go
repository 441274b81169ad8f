package bgp

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/announce"
	"fairlead/controlplane/model"
)

// TestAnnounce says VIPs of both families to BIRD, changes what is said of them,
// and takes them back.
func TestAnnounce(t *testing.T) {
	w := newWorld(t)
	b := w.bird(`
protocol bgp four from fairlead { neighbor 198.18.0.1 as 65010; }
protocol bgp six { local as 65000; neighbor 2001:db8::1 as 65010; passive on; ipv6 { import all; export none; }; }
`)
	s := w.speak(config(func(b *model.BGP) { b.Peers = append(b.Peers, peer6()) }), Options{})
	w.must(s.Set(told(vip4, vip6)))
	w.hops(vip4, own4)
	w.hops(vip6, own6)

	p := w.established(s, router4.String())
	if p.ASN != routerASN || p.RouterID != router4 || p.Advertised[model.IPv4Unicast] != 1 || !p.GracefulRestart || p.HoldTime != 9*time.Second {
		t.Errorf("the session is %+v", p)
	}

	w.must(s.Set([]announce.VIP{{Address: vip4, MED: 77, Communities: "65000:100 no-export 4200000000:1:2"}, {Address: vip6}}))
	w.until("the router has the attributes", func() bool {
		out, err := b.Ask(w.ctx, "show route all for "+vip4.String())
		w.must(err)
		return strings.Contains(out, "(65000,100)") && strings.Contains(out, "(65535,65281)") &&
			strings.Contains(out, "(4200000000, 1, 2)") && strings.Contains(out, "BGP.med: 77") && strings.Contains(out, "BGP.as_path: 65010")
	})

	begin := time.Now()
	w.must(s.Set([]announce.VIP{{Address: vip4, Withheld: announce.NoBackends}, {Address: vip6}}))
	w.hops(vip4)
	w.hops(vip6, own6)
	t.Logf("withdrawn from the router's kernel %v after the decision", time.Since(begin))
	w.must(s.Set(nil))
	w.hops(vip6)
	w.must(s.Set(told(vip4)))
	w.hops(vip4, own4)
	w.must(s.Close())
	w.hops(vip4)
}

// TestInternal is a session within one AS, where the local preference counts.
func TestInternal(t *testing.T) {
	w := newWorld(t)
	b := w.bird(`protocol bgp four from fairlead { local as 65010; neighbor 198.18.0.1 as 65010; }`)
	s := w.speak(config(func(b *model.BGP) { b.Peers[0].ASN, b.Peers[0].External = 0, false }), Options{})
	for _, c := range []struct {
		vip  announce.VIP
		want string
	}{
		{announce.VIP{Address: vip4}, "BGP.local_pref: 100"},
		{announce.VIP{Address: vip4, LocalPreference: 250, HasPreference: true}, "BGP.local_pref: 250"},
		{announce.VIP{Address: vip4, HasPreference: true, Communities: "graceful-shutdown"}, "BGP.local_pref: 0\n\tBGP.community: (65535,0)"},
	} {
		w.must(s.Set([]announce.VIP{c.vip}))
		w.until("the router has "+c.want, func() bool {
			out, err := b.Ask(w.ctx, "show route all for "+vip4.String())
			return err == nil && strings.Contains(out, c.want) // an error: there is none yet
		})
	}
	w.hops(vip4, own4)
}

// TestTwoNodes has two speakers announce one VIP: the router spreads over both,
// until one is closed.
func TestTwoNodes(t *testing.T) {
	w := newWorld(t)
	w.bird(`
protocol bgp one from fairlead { neighbor 198.18.0.1 as 65010; }
protocol bgp two from fairlead { neighbor 198.18.0.2 as 65010; }
`)
	one := w.speak(config(func(b *model.BGP) { b.Peers[0].Source = own4 }), Options{})
	two := w.speak(config(func(b *model.BGP) { b.Peers[0].Source, b.RouterID = other4, other4 }), Options{})
	w.must(one.Set(told(vip4)))
	w.must(two.Set(told(vip4)))
	w.hops(vip4, own4, other4)
	w.must(two.Close())
	w.hops(vip4, own4)
}

// TestPassword is a session with TCP MD5 signatures, which is not had with a
// wrong one.
func TestPassword(t *testing.T) {
	w := newWorld(t)
	w.bird(`protocol bgp four from fairlead { neighbor 198.18.0.1 as 65010; password "correct horse"; }`)
	file := filepath.Join(w.dir, "password")
	cfg := config(func(b *model.BGP) { b.Peers[0].PasswordFile = file })

	w.must(os.WriteFile(file, []byte("wrong\n"), 0o600))
	s := w.speak(cfg, Options{})
	w.must(s.Set(told(vip4)))
	w.until("the attempt is seen to have failed", func() bool { return strings.Contains(s.Peers()[0].LastError, "timeout") })

	w.must(os.WriteFile(file, []byte("correct horse\n"), 0o600))
	if ok, err := s.Configure(cfg); !ok || err != nil {
		t.Fatalf("reading the password again: %v, %v", ok, err)
	}
	w.hops(vip4, own4)
}

// TestPassive listens, and takes packets only from beside us.
func TestPassive(t *testing.T) {
	w := newWorld(t)
	w.bird(`protocol bgp four from fairlead { neighbor 198.18.0.1 as 65010; passive off; ttl security on; connect delay time 1; password "x"; }`)
	file := filepath.Join(w.dir, "password")
	w.must(os.WriteFile(file, []byte("x"), 0o600))
	s := w.speak(config(func(b *model.BGP) {
		b.Peers[0].Passive, b.Peers[0].TTLSecurity, b.Peers[0].PasswordFile, b.Listen = true, 1, file, []netip.Addr{own4}
	}), Options{})
	w.must(s.Set(told(vip4)))
	w.hops(vip4, own4)
}

// TestRestart leaves and comes back: the router's kernel has the route all the
// time. A speaker that closes takes its routes with it.
func TestRestart(t *testing.T) {
	t.Run("plain", func(t *testing.T) { restart(t, "", config()) })
	t.Run("BFD", func(t *testing.T) {
		restart(t, "bfd on;", config(func(b *model.BGP) { b.Peers[0].BFD.Enabled = true }))
	})
}

func restart(t *testing.T, options string, cfg model.BGP) {
	w := newWorld(t)
	b := w.bird(`
protocol bfd { interface "*" { min rx interval 300 ms; min tx interval 300 ms; multiplier 3; }; }
protocol bgp four from fairlead { neighbor 198.18.0.1 as 65010; graceful restart on; ` + options + ` }
`)
	first := w.speak(cfg, Options{})
	w.must(first.Set(told(vip4)))
	w.hops(vip4, own4)
	w.until("BFD is up, where there is any", func() bool { return first.Peers()[0].BFD.State != "down" && first.Peers()[0].BFD.State != "init" })
	changes := w.watchRoute(vip4)

	w.must(first.Leave())
	w.until("the router waits for the restart", func() bool {
		out, err := b.Ask(w.ctx, "show protocols all four")
		w.must(err)
		return strings.Contains(out, "Neighbor graceful restart active") || strings.Contains(out, "stale")
	})
	w.hops(vip4, own4)
	second := w.speak(cfg, Options{Restarted: true})
	other := netip.MustParseAddr("203.0.113.2")
	w.must(second.Set(told(vip4, other)))
	w.hops(other, own4)
	w.until("the restart is over", func() bool {
		out, err := b.Ask(w.ctx, "show protocols all four")
		w.must(err)
		return strings.Contains(out, "Established") && !strings.Contains(out, "graceful restart active")
	})
	w.hops(vip4, own4)
	if n := changes(); n != 0 {
		t.Errorf("the route was removed %d times", n)
	}
	w.must(second.Close())
	w.hops(vip4)
}

// TestConfigure changes one peer and leaves the other's session alone.
func TestConfigure(t *testing.T) {
	w := newWorld(t)
	w.bird(`
protocol bgp four from fairlead { neighbor 198.18.0.1 as 65010; }
protocol bgp six { local as 65000; neighbor 2001:db8::1 as 65010; passive on; ipv6 { import all; export none; }; }
`)
	s := w.speak(config(), Options{})
	w.must(s.Set(told(vip4, vip6)))
	w.hops(vip4, own4)
	before := w.established(s, router4.String())

	both := config(func(b *model.BGP) { b.Peers = append(b.Peers, peer6()) })
	if ok, err := s.Configure(both); !ok || err != nil {
		t.Fatalf("adding a peer: %v, %v", ok, err)
	}
	w.hops(vip6, own6)
	if ok, err := s.Configure(config()); !ok || err != nil {
		t.Fatalf("removing a peer: %v, %v", ok, err)
	}
	w.hops(vip6)
	w.hops(vip4, own4)
	after := s.Peers()
	if len(after) != 1 || after[0].Since != before.Since || after[0].Ups != 1 {
		t.Errorf("the first session was %+v and is %+v", before, after)
	}
	missing := config(func(b *model.BGP) { b.Peers[0].PasswordFile = "/nonexistent/password" })
	want := "BGP peer 198.18.0.254: password file /nonexistent/password: no such file or directory"
	if ok, err := s.Configure(missing); !ok || err == nil || err.Error() != want {
		t.Errorf("a password file that is not there: %v, %v", ok, err)
	}
	if ok, err := s.Configure(config(func(b *model.BGP) { b.ASN = 65011 })); ok || err != nil {
		t.Errorf("another AS number: %v, %v; want a new speaker to be needed", ok, err)
	}
	if p := s.Peers(); len(p) != 1 || p[0].Ups != 1 || p[0].State != Established {
		t.Errorf("refused configurations have changed the session: %+v", p)
	}
}
