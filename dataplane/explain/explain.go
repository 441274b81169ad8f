// Package explain says stage by stage what a snapshot does with the first
// packet of a flow: what each lookup finds, which backend it leads to, how the
// packet leaves, or what keeps it from leaving.
//
// It decides nothing itself. The lookups are the snapshot's own, the verdict is
// dataplane.Decide's, and what is sent is what a worker sends (package replay).
package explain

import (
	"errors"
	"fmt"
	"net/netip"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/replay"
	"fairlead/dataplane/rewrite"
)

// Query is the flow to explain.
type Query struct {
	Client      netip.AddrPort
	Protocol    uint8 // packet.ProtoTCP, packet.ProtoUDP or packet.ProtoSCTP
	Destination netip.AddrPort
}

// Explanation is what becomes of the first packet of a flow. Stages that the
// packet does not come to are nil.
type Explanation struct {
	Client      string `json:"client"`
	Protocol    string `json:"protocol"`
	Destination string `json:"destination"`
	Generation  uint64 `json:"generation"`

	Address *Address `json:"address"`
	Service *Service `json:"service"`
	Source  *Source  `json:"source"`
	Hash    *Hash    `json:"hash"`
	Backend *Backend `json:"backend"`
	NextHop *NextHop `json:"nextHop"`
	MTU     *MTU     `json:"mtu"`
	Rewrite *Rewrite `json:"rewrite"`

	Action string `json:"action"`
	Reason string `json:"reason"`
}

// Address is what the node knows of the destination.
type Address struct {
	Kind        string `json:"kind"` // vip, snat or tunnel
	AnswersARP  bool   `json:"answersArp"`
	AnswersPing bool   `json:"answersPing"`
}

// Service is the service that matches address, protocol and port.
type Service struct {
	Name     string `json:"name"`
	Ports    string `json:"ports"` // "80", "8000-8010" or "all"
	Method   string `json:"method"`
	Affinity bool   `json:"affinity"`
	Pool     string `json:"pool"`
	Backends int    `json:"backends"` // in the pool, draining ones and those that are down among them
}

// Source is what the service says of the client's address.
type Source struct {
	Allowed bool     `json:"allowed"`
	Ranges  []string `json:"ranges"` // the prefixes that may; empty: any
}

// Hash is the choice by Maglev.
type Hash struct {
	Of        string `json:"of"` // "5-tuple", or "client" with session affinity
	Value     string `json:"value"`
	TableSize uint32 `json:"tableSize"` // 0: no backend may be chosen
	Slot      uint32 `json:"slot"`
	Checksum  string `json:"tableChecksum"` // equal on every node with an equal pool
}

// Backend is the backend that was chosen.
type Backend struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Port    uint16 `json:"port"` // 0: the client's destination port is kept
	Weight  uint32 `json:"weight"`
	State   string `json:"state"` // up, down or draining
}

// NextHop is the way to the backend at the link layer.
type NextHop struct {
	Known     bool   `json:"known"` // there is a route through one of the node's interfaces
	Resolved  bool   `json:"resolved"`
	Interface string `json:"interface"`
	MAC       string `json:"mac"`
}

// MTU is how large a packet may be on the way to the backend.
type MTU struct {
	Path uint32 `json:"path"` // largest IP packet on the way to the backend
	Room uint32 `json:"room"` // largest of the client's that fits, outer headers taken off
}

// Rewrite is what the packet looks like when it leaves. A SNAT port is the one
// of a node without other flows.
type Rewrite struct {
	Source      string   `json:"source"`      // of the packet that leaves: its outermost IP header
	Destination string   `json:"destination"` // with ports, where it has any of its own
	Inner       string   `json:"inner"`       // protocol of the tunnel: "ipip", "gue", or "" without
	SNAT        []string `json:"snat"`        // method nat: what the source may be taken from, address:port or address:first-last
}

// ErrQuery says that no packet has such ends.
var ErrQuery = errors.New("client and destination are of different families")

// Explain says what snapshot s does with the first packet of a flow.
func Explain(s *fib.Snapshot, q Query) (*Explanation, error) {
	if q.Client.Addr().Is4() != q.Destination.Addr().Is4() {
		return nil, ErrQuery
	}
	frame, err := firstPacket(q, s.Interface(0).MAC)
	if err != nil {
		return nil, err
	}
	e := &Explanation{
		Client: q.Client.String(), Protocol: protocolName(q.Protocol), Destination: q.Destination.String(), Generation: s.Generation(),
	}
	var info packet.Info
	if r := packet.Parse(frame, &info); r != reason.None {
		e.Action, e.Reason = r.Action().String(), r.String()
		return e, nil
	}
	in := dataplane.Input{Snapshot: s, Frame: frame, Info: &info, Local: s.Local(info.Dst)}
	e.lookUp(&in)
	v := dataplane.Decide(&in)
	e.follow(s, v)
	return e, e.send(s, frame, v)
}

// lookUp shows what the snapshot finds, stage by stage, until a stage finds
// nothing.
func (e *Explanation) lookUp(in *dataplane.Input) {
	s, info := in.Snapshot, in.Info
	if in.Local == nil {
		return
	}
	e.Address = &Address{
		Kind: kindName(in.Local.Kind), AnswersARP: in.Local.Flags&fib.LocalAnswerARP != 0, AnswersPing: in.Local.Flags&fib.LocalNoPing == 0,
	}
	if in.Local.Kind != fib.LocalVIP {
		return
	}
	svc := s.Service(in.Local.ID, info.Proto, info.DstPort)
	if svc == nil {
		return
	}
	pool := s.Pool(svc.Pool)
	e.Service = &Service{
		Name: s.Name(svc.Name), Ports: portsText(svc), Method: svc.Method.String(), Affinity: svc.Affinity != 0,
		Pool: s.Name(pool.Name), Backends: int(pool.MemberCount),
	}
	e.Source = &Source{Allowed: s.Allowed(svc, info.Src), Ranges: []string{}}
	for _, r := range s.Ranges(svc) {
		e.Source.Ranges = append(e.Source.Ranges, prefixText(&r))
	}
	if !e.Source.Allowed {
		return
	}
	hash := dataplane.FlowHash(s, svc, info.Src, info.Dst, info.SrcPort, info.DstPort, info.Proto)
	e.Hash = &Hash{Of: "5-tuple", Value: fmt.Sprintf("%016x", hash), TableSize: pool.TableSize, Checksum: fmt.Sprintf("%016x", pool.Checksum)}
	if svc.Affinity != 0 {
		e.Hash.Of = "client"
	}
	if pool.TableSize > 0 {
		e.Hash.Slot = s.TableSlot(pool, hash)
	}
}

// follow shows the backend of a verdict and the way to it.
func (e *Explanation) follow(s *fib.Snapshot, v dataplane.Verdict) {
	e.Action, e.Reason = v.Action.String(), v.Reason.String()
	if v.Backend == fib.NoIndex {
		return
	}
	b := s.Backend(v.Backend)
	e.Backend = &Backend{Name: s.BackendName(b), Address: b.Addr.String(), Port: b.Port, Weight: b.Weight, State: stateName(b)}
	e.NextHop = &NextHop{}
	hop := s.NextHop(b.NextHop)
	if hop == nil {
		return
	}
	e.NextHop.Known, e.NextHop.Interface = true, s.Name(s.Interface(hop.Port).Name)
	if hop.Resolved == 0 {
		return
	}
	e.NextHop.Resolved, e.NextHop.MAC = true, macText(hop.DstMAC)
	path := hop.MTU
	if b.MTU != 0 && (b.MTU < path || path == 0) {
		path = b.MTU
	}
	overhead := uint32(rewrite.Overhead(s.Services()[v.Service].Method, !b.Addr.Is4()))
	e.MTU = &MTU{Path: path, Room: path - min(path, overhead)}
}

// flowsOfOne is the size of the flow table that one packet is sent with.
const flowsOfOne = 1024

// chunkOfOne and headroomOfOne hold the packet and any outer headers.
const (
	chunkOfOne    = 2048
	headroomOfOne = 256
)

// send has a worker carry the packet out, and shows what leaves. A worker may
// still find what Decide cannot know, such as that there is no SNAT port.
func (e *Explanation) send(s *fib.Snapshot, frame []byte, decided dataplane.Verdict) error {
	r, err := replay.New(replay.Config{Snapshot: s, Flows: flowsOfOne, ChunkSize: chunkOfOne, Headroom: headroomOfOne})
	if err != nil {
		return err
	}
	ended, sent, err := r.Frame(replay.Frame{Data: frame})
	if err != nil {
		return err
	}
	if len(ended) != 1 {
		return fmt.Errorf("explain: %d verdicts on one packet", len(ended))
	}
	v := ended[0].Verdict
	if decided.Action != reason.Transmit && v.Reason != decided.Reason {
		return fmt.Errorf("explain: decided %v, and the worker %v", decided.Reason, v.Reason)
	}
	e.Action, e.Reason = v.Action.String(), v.Reason.String()
	if v.Action != reason.Transmit || v.Backend == fib.NoIndex || len(sent) == 0 {
		return nil // it ends here, or the client is answered
	}
	return e.leaves(s, sent[0].Data, v)
}

// leaves shows the packet that was sent.
func (e *Explanation) leaves(s *fib.Snapshot, frame []byte, v dataplane.Verdict) error {
	var info packet.Info
	if r := packet.Parse(frame, &info); r != reason.None {
		return fmt.Errorf("explain: what the worker sends is %v", r)
	}
	e.Rewrite = &Rewrite{Source: endText(info.Src, info.SrcPort), Destination: endText(info.Dst, info.DstPort), SNAT: []string{}}
	switch v.Op {
	case dataplane.OpIPIP:
		e.Rewrite.Inner = "ipip"
	case dataplane.OpGUE:
		e.Rewrite.Inner = "gue"
	case dataplane.OpNATForward:
		for i := range s.SNATs() {
			if n := s.SNAT(uint32(i)); n.Local != 0 && n.Addr.Is4() == info.Dst.Is4() {
				e.Rewrite.SNAT = append(e.Rewrite.SNAT, snatText(n))
			}
		}
	}
	return nil
}
