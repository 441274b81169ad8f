package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/identity"
	"fairlead/cluster/member"
	"fairlead/cluster/peer"
	"fairlead/cluster/store"
	"fairlead/configs"
)

// addressLimit bounds how long it is looked for this node's own address: names of
// seeds are looked up for that.
const addressLimit = 5 * time.Second

// clusterDirectory is where a node keeps its key and what all nodes share.
func clusterDirectory(cfg *configs.Config) string {
	return filepath.Join(cfg.Store.Directory, "cluster")
}

// openClusterBase makes what the rooms are made of: who this node is, the others,
// the ways to them, and what all share, as it was on disk. Nothing is said to
// anybody yet.
func (n *Node) openClusterBase(c *clustered) error {
	cfg := &n.cfg.Cluster
	dir := clusterDirectory(n.cfg)
	if n.cfg.Store.Directory == "" {
		return errors.New("a node of a cluster needs a state directory: name one in [state]")
	}
	id, err := identity.Load(dir, n.cfg.Node.Name, cfg.KeyFile, c.Log)
	if err != nil {
		return err
	}
	var seeds []member.Seed
	for _, s := range cfg.Seeds {
		seeds = append(seeds, member.Seed(s))
	}
	ctx, cancel := context.WithTimeout(context.Background(), addressLimit)
	defer cancel()
	address, err := member.Address(ctx, cfg.Advertise, cfg.Bind, seeds)
	if err != nil {
		return err
	}
	oldest, newest := cluster.WireVersions()
	members, err := member.New(member.Config{
		Identity: id, Dir: dir, Listen: netip.AddrPortFrom(cfg.Bind, uint16(cfg.GossipPort)),
		Gossip: netip.AddrPortFrom(address, uint16(cfg.GossipPort)), Stream: netip.AddrPortFrom(address, uint16(cfg.StreamPort)),
		Seeds: seeds, ProbeInterval: cfg.ProbeInterval, Software: Version, WireMin: oldest, WireMax: newest, Log: c.Log,
	})
	if err != nil {
		return err
	}
	c.close = append(c.close, members.Close)
	listener, err := listenStreams(cfg)
	if err != nil {
		return err
	}
	peers, err := peer.New(peer.Config{Identity: id, Listener: listener, WireMin: oldest, WireMax: newest, Software: Version, Log: c.Log})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	c.close = append(c.close, peers.Close)
	members.Attach(peers, func(ctx context.Context, at netip.AddrPort, topic cluster.Topic, request []byte) (string, []byte, error) {
		visit, err := peers.Dial(ctx, at)
		switch {
		case errors.Is(err, peer.ErrSelf):
			return "", nil, member.ErrSelf
		case err != nil:
			return "", nil, err
		}
		defer visit.Close()
		answer, err := visit.Call(ctx, topic, request)
		return visit.Node(), answer, err
	})
	joined := make(chan struct{})
	shared, err := store.Open(store.Config{Dir: filepath.Join(dir, "store"), Identity: id, Members: members, Peers: peers, Joined: joined, Log: c.Log})
	if err != nil {
		return err
	}
	c.close = append(c.close, shared.Close)
	c.Identity, c.Members, c.Peers, c.Store = id, members, peers, shared
	c.gossip, c.streams, c.shared = members, peers, shared
	c.join = func(ctx context.Context) error {
		defer close(joined)
		if err := peers.Start(members); err != nil {
			return err
		}
		return members.Join(ctx)
	}
	c.leave = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if err := members.Leave(ctx); err != nil {
			c.Log.Warn("the cluster may not know that this node leaves", "error", err)
		}
	}
	return nil
}

// listenStreams opens the port of the connections between nodes.
func listenStreams(cfg *configs.Cluster) (net.Listener, error) {
	host := ""
	if cfg.Bind.IsValid() && cfg.Bind != netip.IPv6Unspecified() {
		host = cfg.Bind.String()
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(cfg.StreamPort)))
	if err != nil {
		return nil, fmt.Errorf("stream port of the cluster: %w", err)
	}
	return l, nil
}
