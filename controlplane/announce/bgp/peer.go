package bgp

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/osrg/gobgp/v4/api"

	"fairlead/controlplane/announce/bfd"
	"fairlead/controlplane/model"
)

// longestPassword is what the kernel takes for TCP MD5 signatures.
const longestPassword = 80

// deferral is how long a restarted node would wait for the routes of its peers
// before it decides on its own: it needs none, and GoBGP's least is a second.
const deferral = 1

// retryAfterLimit is how long a peer that sent too many prefixes is left alone.
const retryAfterLimit = 5 * time.Minute

// peer is one router. Its speaker's lock guards it.
type peer struct {
	speaker  *Speaker
	cfg      model.BGPPeer
	password string

	address netip.Addr   // where the session is; the zero Addr while an unnumbered peer is not found
	search  *search      // of an unnumbered peer; nil otherwise
	retry   *time.Timer  // of a peer that has sent too many prefixes
	bfd     *bfd.Session // nil without
	history history
}

func newPeer(s *Speaker, cfg model.BGPPeer, password string) *peer {
	return &peer{speaker: s, cfg: cfg, password: password, history: history{since: time.Now(), state: Idle}}
}

// readPasswords reads the password files of peers, in their order.
func readPasswords(peers []model.BGPPeer) ([]string, error) {
	passwords := make([]string, len(peers))
	for i := range peers {
		file := peers[i].PasswordFile
		if file == "" {
			continue
		}
		password, err := readPassword(file)
		if err != nil {
			return nil, fmt.Errorf("BGP peer %s: password file %s: %w", peers[i].Name(), file, err)
		}
		passwords[i] = password
	}
	return passwords, nil
}

// CheckPassword says what is wrong with a password file.
func CheckPassword(file string) error {
	_, err := readPassword(file)
	return err
}

// readPassword reads a file with one line.
func readPassword(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", unwrapPath(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return "", unwrapPath(err)
	}
	text = bytes.TrimRight(text, "\r\n")
	switch {
	case len(text) == 0:
		return "", fmt.Errorf("it is empty")
	case bytes.ContainsAny(text, "\r\n\x00"):
		return "", fmt.Errorf("it has more than one line")
	case len(text) > longestPassword:
		return "", fmt.Errorf("the password has %d bytes, and the kernel takes %d", len(text), longestPassword)
	}
	return string(text), nil
}

// unwrapPath is an error without the path that the caller names anyway.
func unwrapPath(err error) error {
	if e, ok := err.(*os.PathError); ok {
		return e.Err
	}
	return err
}

// start begins the session, or the search for an unnumbered peer.
func (p *peer) start() {
	if p.cfg.Unnumbered() {
		p.search = startSearch(p.cfg.Interface, p.speaker.log, &p.speaker.searches, p.found)
		return
	}
	p.add(p.cfg.Address)
}

// found is told where an unnumbered peer is. It is called on the search's
// goroutine.
func (p *peer) found(address netip.Addr) {
	s := p.speaker
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.peers[p.cfg.Name()] != p || p.address == address {
		return
	}
	if p.address.IsValid() {
		s.log.Info("unnumbered BGP peer has another address", "peer", p.cfg.Name(), "address", address, "before", p.address)
		p.remove()
	} else {
		s.log.Info("unnumbered BGP peer found", "peer", p.cfg.Name(), "address", address)
	}
	p.add(address)
}

func (p *peer) add(address netip.Addr) {
	p.address = address
	if err := p.speaker.server.AddPeer(context.Background(), &api.AddPeerRequest{Peer: p.request()}); err != nil {
		p.speaker.log.Error("BGP peer cannot be added", "peer", p.cfg.Name(), "address", address, "error", err)
		p.history.fail(err.Error())
		p.address = netip.Addr{}
		return
	}
	if p.speaker.restarted {
		p.watch(true)
	}
}

// watch begins a BFD session with the peer, when its BGP session stands: routers
// begin theirs then, or begin it anew. After a restart, the one that there was is
// resumed before that. That it goes down is logged and shown, and
// no more: the router hears of it in the session itself and decides, and BGP
// notices by itself when the router is gone.
func (p *peer) watch(resume bool) {
	if !p.cfg.BFD.Enabled || p.bfd != nil {
		return
	}
	log, name := p.speaker.log, p.cfg.Name()
	var err error
	p.bfd, err = p.speaker.bfd.Add(bfd.Config{
		Peer: p.address, Local: p.cfg.Source, Interval: p.cfg.BFD.Interval, Multiplier: p.cfg.BFD.Multiplier,
		Number: p.number(), Resume: resume,
		Changed: func(up bool, why string) {
			if up {
				log.Info("BFD session up", "peer", name)
			} else {
				log.Warn("BFD session down", "peer", name, "reason", why)
			}
		},
	})
	if err != nil {
		log.Error("no BFD with the peer", "peer", name, "error", err)
	}
}

// number is the discriminator of the BFD session: the same after a restart.
func (p *peer) number() uint32 {
	h := fnv.New32a()
	fmt.Fprint(h, p.speaker.cfg.RouterID, p.address)
	return h.Sum32()
}

// unwatch ends the BFD session; the router draws no conclusion from that.
func (p *peer) unwatch() {
	if p.bfd != nil {
		p.bfd.Close()
		p.bfd = nil
	}
}

func (p *peer) remove() {
	if !p.address.IsValid() {
		return
	}
	p.unwatch()
	err := p.speaker.server.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: p.address.String()})
	if err != nil {
		p.speaker.log.Error("BGP peer cannot be removed", "peer", p.cfg.Name(), "error", err)
	}
	p.address = netip.Addr{}
}

// stop ends the session: the router forgets our routes.
func (p *peer) stop() {
	p.stopTimers()
	p.remove()
}

// stopTimers ends what goes on beside the session. It does not wait: the
// speaker's lock is held, and the search may want it.
func (p *peer) stopTimers() {
	if p.search != nil {
		p.search.cancel()
	}
	if p.retry != nil {
		p.retry.Stop()
	}
}

// asn is the AS number that the peer must have; 0: any.
func (p *peer) asn() uint32 {
	switch {
	case p.cfg.ASN != 0:
		return p.cfg.ASN
	case p.cfg.External:
		return 0
	}
	return p.speaker.cfg.ASN
}

// request is the peer as GoBGP wants it.
func (p *peer) request() *api.Peer {
	cfg, speaker := &p.cfg, &p.speaker.cfg
	seconds := func(d time.Duration) uint64 { return uint64(d / time.Second) }
	r := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: p.address.String(), PeerAsn: p.asn(), AuthPassword: p.password,
		},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: seconds(speaker.HoldTime), KeepaliveInterval: seconds(speaker.HoldTime / 3),
			ConnectRetry: seconds(speaker.ConnectRetry), IdleHoldTimeAfterReset: seconds(speaker.ConnectRetry),
		}},
		Transport: &api.Transport{PassiveMode: cfg.Passive, RemotePort: uint32(cfg.Port)},
	}
	if cfg.Interface != "" && !p.address.IsLinkLocalUnicast() {
		r.Transport.BindInterface = cfg.Interface
	}
	if cfg.Source.IsValid() {
		r.Transport.LocalAddress = cfg.Source.String()
	}
	if cfg.Multihop > 1 {
		r.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(cfg.Multihop)}
	}
	if cfg.TTLSecurity > 0 {
		r.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: uint32(256 - cfg.TTLSecurity)}
	}
	if speaker.GracefulRestart {
		r.GracefulRestart = &api.GracefulRestart{
			Enabled: true, RestartTime: uint32(seconds(speaker.RestartTime)), DeferralTime: deferral, LocalRestarting: p.speaker.restarted,
		}
	}
	for _, f := range cfg.Families {
		r.AfiSafis = append(r.AfiSafis, p.family(f))
	}
	return r
}

func (p *peer) family(f model.BGPFamily) *api.AfiSafi {
	family := &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	if f == model.IPv6Unicast {
		family.Afi = api.Family_AFI_IP6
	}
	a := &api.AfiSafi{
		Config:            &api.AfiSafiConfig{Family: family, Enabled: true},
		MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: p.speaker.cfg.GracefulRestart}},
	}
	if most := p.speaker.cfg.MaxPrefixes; most > 0 {
		a.PrefixLimits = &api.PrefixLimit{Family: family, MaxPrefixes: uint32(most)}
	}
	return a
}
