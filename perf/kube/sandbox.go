package kube

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	core "k8s.io/api/core/v1"

	"fairlead/perf/lab"
)

// lastPod is the greatest number of a pod on its node; 1 is the gateway's.
const lastPod = 254

// podAddresses are those of one node. An address that is free again is given out
// after all others, so that nobody takes a new pod for an old one.
type podAddresses struct {
	four, six netip.Prefix

	mu   sync.Mutex
	last int
	used map[int]bool
}

func newPodAddresses(four, six netip.Prefix) *podAddresses {
	return &podAddresses{four: four, six: six, last: 1, used: map[int]bool{}}
}

// take is the number of a pod.
func (a *podAddresses) take() (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for range lastPod {
		a.last++
		if a.last > lastPod {
			a.last = 2
		}
		if !a.used[a.last] {
			a.used[a.last] = true
			return a.last, nil
		}
	}
	return 0, errors.New("the node has no address left for a pod")
}

func (a *podAddresses) free(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.used, n)
}

// at is the addresses of a number; 1 is the gateway of all pods.
func (a *podAddresses) at(n int) (four, six netip.Addr) {
	f, s := a.four.Addr().As4(), a.six.Addr().As16()
	f[3], s[15] = byte(n), byte(n)
	return netip.AddrFrom4(f), netip.AddrFrom16(s)
}

// sandbox is the network of a pod.
type sandbox struct {
	host       *lab.Host
	ipv4, ipv6 netip.Addr
	number     int // 0: it is the node's own
}

// makeSandbox gives a pod its network: the node's, or a namespace behind the
// node, which is its gateway.
func (k *kubelet) makeSandbox(pod *core.Pod) (*sandbox, error) {
	node := k.node.Host
	if pod.Spec.HostNetwork {
		return &sandbox{host: node.Host, ipv4: node.IPv4, ipv6: node.IPv6}, nil
	}
	number, err := k.addresses.take()
	if err != nil {
		return nil, err
	}
	b := &sandbox{number: number}
	b.ipv4, b.ipv6 = k.addresses.at(number)
	if b.host, err = node.Lab().AddHost(fmt.Sprintf("%s-%.40s-%.8s", pod.Namespace, pod.Name, pod.UID)); err == nil {
		err = k.connect(b)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("network of pod %s/%s: %w", pod.Namespace, pod.Name, err), k.removeSandbox(b))
	}
	return b, nil
}

// connect joins a pod to its node by a cable of its own.
func (k *kubelet) connect(b *sandbox) error {
	node := k.node.Host
	pod, port, err := node.Lab().Cable(b.host, "eth0", node.Host, fmt.Sprintf("pod%d", b.number), lab.LinkConfig{})
	if err != nil {
		return err
	}
	gateway4, gateway6 := k.addresses.at(1)
	for _, way := range []struct{ own, gateway netip.Addr }{{b.ipv4, gateway4}, {b.ipv6, gateway6}} {
		err := errors.Join(
			port.AddAddress(whole(way.gateway)), onLink(port, way.own),
			pod.AddAddress(whole(way.own)), onLink(pod, way.gateway), b.host.AddDefaultRoute(way.gateway))
		if err != nil {
			return err
		}
	}
	return nil
}

func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// onLink says that an address is at the other end of a cable.
func onLink(i *lab.Interface, a netip.Addr) error {
	route := &netlink.Route{LinkIndex: i.Index, Dst: netlink.NewIPNet(a.AsSlice()), Scope: netlink.SCOPE_LINK}
	if err := i.Host.Netlink().RouteReplace(route); err != nil {
		return fmt.Errorf("host %s: route %s dev %s: %w", i.Host.Name, a, i.Name, err)
	}
	return nil
}

// removeSandbox removes a pod's network with everything that still runs there.
func (k *kubelet) removeSandbox(b *sandbox) error {
	if b.number == 0 {
		return nil
	}
	defer k.addresses.free(b.number)
	if b.host == nil {
		return nil
	}
	return b.host.Remove()
}
