package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/cluster/flows"
	"fairlead/controlplane/metrics"
	"fairlead/controlplane/model"
	"fairlead/controlplane/serving"
	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/tell"
)

// untoldMost is for how long at most a node that starts leaves its VIPs to others
// while these tell it of their flows.
const untoldMost = 10 * time.Second

// flowing is this node's part in what nodes tell each other of flows.
type flowing struct {
	node *Node
	room *flows.Room
	stop chan struct{}
	done sync.WaitGroup

	waiting atomic.Bool // others have not told of their flows yet

	lost    uint64        // records that workers could not write, as far as is known
	heard   []tell.Record // of the present call of Events
	pools   []flows.Pool  // of generation pooled
	pooled  uint64
	members memberIndex
}

// openClusterFlows has this node tell others of the flows that they would send
// elsewhere, and be told.
func openClusterFlows(n *Node) (clusterRoom, error) {
	cfg := &n.cfg.Cluster.Flows
	if !cfg.Enabled {
		return clusterRoom{}, nil
	}
	f := &flowing{node: n, stop: make(chan struct{}), lost: n.Tells().Stats().Lost}
	f.room = flows.New(flows.Config{
		Members: n.cluster.Members, Peers: n.cluster.Peers, Store: n.cluster.Store, DataPath: f,
		Window: cfg.Window, Hold: cfg.Hold, Log: n.log.With("part", "flows"),
	})
	n.flowing = f
	f.waiting.Store(!n.adopted) // its flows come to it already
	start := func(context.Context) error {
		if f.waiting.Load() {
			f.done.Go(f.untold)
		}
		return nil
	}
	return clusterRoom{start: start, close: func() error {
		close(f.stop)
		f.done.Wait()
		f.room.Close()
		return nil
	}}, nil
}

// untold keeps VIPs from this node until the others have told it of their flows.
func (f *flowing) untold() {
	f.node.Impair("flows", "other nodes have not told it of their flows yet")
	defer func() {
		f.waiting.Store(false)
		f.node.Impair("flows", "")
	}()
	timer := time.NewTimer(untoldMost)
	defer timer.Stop()
	select {
	case <-f.room.Told():
	case <-timer.C:
	case <-f.stop:
	}
}

// waits reports whether routers are not to be told of this node yet.
func (f *flowing) waits() bool { return f != nil && f.waiting.Load() }

// Events implements flows.DataPath.
func (f *flowing) Events(to []flows.Flow) ([]flows.Flow, bool) {
	f.heard = f.heard[:0]
	f.node.Tells().Hear(func(r *tell.Record) { f.heard = append(f.heard, *r) })
	lost := f.node.Tells().Stats().Lost
	overflow := lost != f.lost
	f.lost = lost
	if len(f.heard) == 0 {
		return to, overflow
	}
	v := f.node.view()
	if v == nil {
		return to, true
	}
	defer v.close()
	for i := range f.heard {
		r := &f.heard[i]
		fl := flow.Flow{Client: r.Client, ClientPort: r.ClientPort, VIP: r.VIP, VIPPort: r.VIPPort, Proto: r.Proto,
			ServiceID: r.ServiceID, BackendID: r.BackendID, State: r.State}
		if out, ok := exceptionOf(v.snapshot, &fl, r.Remaining); ok {
			to = append(to, out)
		}
	}
	return to, overflow
}

// exceptionOf is a flow as other nodes are told of it. It is not ok when there is
// nothing to tell of any more.
func exceptionOf(s *fib.Snapshot, f *flow.Flow, remaining uint32) (out flows.Flow, ok bool) {
	svc, vip, b := s.ServiceByID(fib.ID(f.ServiceID)), s.LocalByID(f.VIP), s.BackendByID(fib.ID(f.BackendID))
	if svc == nil || vip == nil {
		return out, false
	}
	out = flows.Flow{
		Kind: flows.Established, Proto: f.Proto, Client: netip.AddrPortFrom(f.Client.Netip(), f.ClientPort),
		VIP: netip.AddrPortFrom(vip.Addr.Netip(), f.VIPPort), Life: time.Duration(remaining) * time.Millisecond,
		Timeout: time.Duration(idleTime(s.Timeouts(svc.Timeouts), f)) * time.Millisecond,
		Pool:    s.Name(s.Pool(svc.Pool).Name), Told: f.Told(),
	}
	switch {
	case f.State == flow.StateClosed:
		out.Kind = flows.Ended
		return out, true
	case f.State == flow.StateFinWait:
		out.Kind = flows.Ending
	}
	if b == nil || b.Flags&fib.BackendDown != 0 {
		return out, false
	}
	out.Backend = endpointOf(b)
	return out, true
}

func endpointOf(b *fib.Backend) netip.AddrPort { return netip.AddrPortFrom(b.Addr.Netip(), b.Port) }

// idleTime is what packets prolong a flow's life to, in milliseconds.
func idleTime(t *fib.Timeouts, f *flow.Flow) uint32 {
	switch {
	case f.Proto == packet.ProtoTCP && f.State == flow.StateFinWait:
		return t.TCPFinWait
	case f.Proto == packet.ProtoTCP:
		return t.TCPEstablished
	case f.Proto == packet.ProtoSCTP:
		return t.SCTP
	}
	return t.UDPStream
}

// Import implements flows.DataPath.
func (f *flowing) Import(fl *flows.Flow) flows.Outcome {
	v := f.node.view()
	if v == nil {
		return flows.Unresolved
	}
	defer v.close()
	s := v.snapshot
	vip := s.Local(packet.AddrFrom(fl.VIP.Addr()))
	if vip == nil || vip.Kind != fib.LocalVIP {
		return flows.Unresolved
	}
	svc := s.Service(vip.ID, fl.Proto, fl.VIP.Port())
	switch {
	case svc == nil:
		return flows.Unresolved
	case svc.Method == fib.MethodNAT || fl.Kind == flows.Affinity:
		return flows.Refused
	}
	r := tell.Record{
		Client: packet.AddrFrom(fl.Client.Addr()), ClientPort: fl.Client.Port(), VIP: vip.ID, VIPPort: fl.VIP.Port(), Proto: fl.Proto,
		ServiceID: uint32(svc.ID), State: flow.StateEstablished, Remaining: milliseconds(fl.Life), Slack: milliseconds(fl.Slack),
	}
	switch fl.Kind {
	case flows.Ended:
		r.State = flow.StateClosed
	case flows.Ending:
		r.State = flow.StateFinWait
	}
	if fl.Kind != flows.Ended {
		b := f.members.find(s, svc.Pool, fl.Backend)
		if b == nil {
			return flows.Unresolved
		}
		r.BackendID = uint32(b.ID)
	}
	if !f.node.Tells().Give(&r) {
		return flows.Full
	}
	return flows.Taken
}

func milliseconds(d time.Duration) uint32 {
	return uint32(min(max(0, d/time.Millisecond), time.Duration(flow.MaxTimeout)))
}

// memberIndex finds members of pools by their endpoints.
type memberIndex struct {
	generation uint64
	pools      map[uint32]map[netip.AddrPort]uint32
}

// fewMembers is how many are looked at one by one.
const fewMembers = 16

func (m *memberIndex) find(s *fib.Snapshot, pool uint32, end netip.AddrPort) *fib.Backend {
	members := s.Members(s.Pool(pool))
	if len(members) <= fewMembers {
		addr := packet.AddrFrom(end.Addr())
		for _, slot := range members {
			if b := s.Backend(slot); b.Addr == addr && b.Port == end.Port() {
				return b
			}
		}
		return nil
	}
	if m.generation != s.Generation() || m.pools == nil {
		m.generation, m.pools = s.Generation(), make(map[uint32]map[netip.AddrPort]uint32)
	}
	index := m.pools[pool]
	if index == nil {
		index = make(map[netip.AddrPort]uint32, len(members))
		for _, slot := range members {
			index[endpointOf(s.Backend(slot))] = slot
		}
		m.pools[pool] = index
	}
	slot, ok := index[end]
	if !ok {
		return nil
	}
	return s.Backend(slot)
}

// Progress implements flows.DataPath.
func (f *flowing) Progress() (given, taken uint64) { return f.node.Tells().Progress() }

// Scan implements flows.DataPath.
func (f *flowing) Scan(ctx context.Context, visit func([]flows.Flow)) error {
	var found []flows.Flow
	return f.node.scan(ctx, func(v *view, _ int, now flow.Time, fl *flow.Flow) error {
		switch fl.State {
		case flow.StateEstablished, flow.StateFinWait, flow.StateUnreplied, flow.StateStream:
		default:
			return nil
		}
		if dataplane.Known(v.snapshot, fl) {
			return nil
		}
		if out, ok := exceptionOf(v.snapshot, fl, uint32(max(0, int32(fl.Deadline-now)))); ok {
			found = append(found, out)
		}
		return nil
	}, func() error {
		if len(found) > 0 {
			visit(found)
			found = found[:0]
		}
		return nil
	})
}

// Adopt implements flows.DataPath.
func (f *flowing) Adopt(_ context.Context, bases []flows.PoolBase) error {
	set := make(map[string]serving.Bases, len(bases))
	for _, b := range bases {
		set[b.Pool] = serving.Bases{Base: modelShares(b.Shares), Also: modelShares(b.Also)}
	}
	return f.node.serving.SetBases(set)
}

func modelShares(list []flows.Share) (out []model.Share) {
	for _, s := range list {
		out = append(out, model.Share(s))
	}
	return out
}

// Pools implements flows.DataPath: those that services with direct replies use.
func (f *flowing) Pools() ([]flows.Pool, uint64) {
	v := f.node.view()
	if v == nil {
		return nil, 0
	}
	generation := v.snapshot.Generation()
	if generation == f.pooled {
		v.close()
		return f.pools, generation
	}
	direct := make(map[string]bool)
	for i := range v.snapshot.Services() {
		if svc := &v.snapshot.Services()[i]; svc.ID != 0 && svc.Method != fib.MethodNAT {
			direct[v.snapshot.Name(v.snapshot.Pool(svc.Pool).Name)] = true
		}
	}
	v.close()
	f.pools, f.pooled = nil, generation
	for name, shares := range f.node.serving.AllShares() {
		if !direct[name] {
			continue
		}
		p := flows.Pool{Name: name}
		for _, s := range shares {
			p.Current = append(p.Current, flows.Share(s))
			p.Declared = append(p.Declared, flows.Share{Endpoint: s.Endpoint, Weight: s.Weight})
		}
		f.pools = append(f.pools, p)
	}
	return f.pools, generation
}

// Generation implements flows.DataPath.
func (f *flowing) Generation() uint64 {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	return f.node.image.generation
}

// conditions are what is not as it is wanted: subject and message.
func (f *flowing) conditions() (list [][2]string) {
	if f == nil {
		return nil
	}
	s := f.room.Stats()
	if len(s.Behind) > 0 {
		slices.Sort(s.Behind)
		list = append(list, [2]string{"flows", fmt.Sprintf("not in step with what this node tells of its flows: %s", strings.Join(s.Behind, ", "))})
	}
	return list
}

// ToldFlows implements metrics.ToldSource.
func (n *Node) ToldFlows() *metrics.ToldFlows {
	if n.flowing == nil {
		return nil
	}
	s := n.flowing.room.Stats()
	out := &metrics.ToldFlows{
		Told: make(map[string]uint64), Received: make(map[string]uint64), Taken: s.Taken, Refused: s.Refused + n.Tells().Stats().Refused,
		Unresolved: s.UnresolvedLost, Dropped: s.Dropped, Waiting: s.Waiting, MessagesSent: s.SentMessages, MessagesReceived: s.ReceivedMessages,
		BytesSent: s.SentBytes, BytesReceived: s.ReceivedBytes, Bad: s.BadMessages, Resyncs: s.Resyncs, Overflows: s.Overflows, Scans: s.Scans,
		Bases: s.Pools, Moving: s.Moving, Behind: len(s.Behind),
	}
	for kind, count := range s.Told {
		out.Told[kind.String()] = count
	}
	for kind, count := range s.Received {
		out.Received[kind.String()] = count
	}
	return out
}
