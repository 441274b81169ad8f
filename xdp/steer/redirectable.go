package steer

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of <linux/netdev.h>, kernel 6.3 and later.
const (
	netdevFamily       = "netdev"
	netdevVersion      = 1
	netdevCmdDevGet    = 1
	netdevAttrIfIndex  = 1
	netdevAttrFeatures = 3
	featureNDOXmit     = 1 << 2
)

// genericHeader is struct genlmsghdr: command, version, and two bytes that the
// kernel wants to be zero.
type genericHeader [4]byte

// Len is the header's length.
func (h genericHeader) Len() int { return len(h) }

// Serialize is the header as it is sent.
func (h genericHeader) Serialize() []byte { return h[:] }

// redirectable reports whether the driver of an interface sends frames that a
// program redirects to it. What a kernel does not say is an error.
func redirectable(ifindex int) (bool, error) {
	family, err := netlink.GenlFamilyGet(netdevFamily)
	if err != nil {
		return false, fmt.Errorf("netlink family %s: %w", netdevFamily, err)
	}
	req := nl.NewNetlinkRequest(int(family.ID), 0)
	req.AddData(genericHeader{netdevCmdDevGet, netdevVersion})
	req.AddData(nl.NewRtAttr(netdevAttrIfIndex, nl.Uint32Attr(uint32(ifindex))))
	answers, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return false, fmt.Errorf("ask for the features of interface %d: %w", ifindex, err)
	}
	for _, answer := range answers {
		if len(answer) < nl.SizeofGenlmsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(answer[nl.SizeofGenlmsg:])
		if err != nil {
			return false, fmt.Errorf("features of interface %d: %w", ifindex, err)
		}
		for _, a := range attrs {
			if a.Attr.Type == netdevAttrFeatures && len(a.Value) == 8 {
				return binary.NativeEndian.Uint64(a.Value)&featureNDOXmit != 0, nil
			}
		}
	}
	return false, fmt.Errorf("interface %d: the kernel does not tell its features", ifindex)
}

// admit lets memos send by an interface if its driver can, and reports whether
// it did. Where that is not known they do not.
func (m *memo) admit(ifindex int) bool {
	if m.cfg == nil {
		return false
	}
	if can, err := redirectable(ifindex); err == nil && can && m.out.Put(uint32(ifindex), uint32(ifindex)) == nil {
		return true
	}
	m.expel(ifindex)
	return false
}

// Recheck asks anew which of the attached interfaces flow memos may send by, and
// returns those for which the answer is another than before. A driver's answer
// can change: a veth sends what is redirected to it only while its other end
// takes it. Packets of memos that lead to an interface that has been taken out
// go to the sockets again.
func (s *Steer) Recheck() ([]Attached, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	var changed []Attached
	for ifindex, i := range s.ifaces {
		if now := s.memo.admit(ifindex); now != i.attached.Redirectable {
			i.attached.Redirectable = now
			changed = append(changed, i.attached)
		}
	}
	sort.Slice(changed, func(a, b int) bool { return changed[a].IfIndex < changed[b].IfIndex })
	return changed, nil
}

// expel undoes admit. The only way in which it can fail is that there is nothing
// to undo.
func (m *memo) expel(ifindex int) {
	if m.cfg != nil {
		_ = m.out.Delete(uint32(ifindex))
	}
}
