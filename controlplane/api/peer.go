package api

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Access says what the local users who can open the socket may do. root and the
// user that the node runs as are operators always.
type Access struct {
	// Operators and Readers are users and groups, by name; "user:NAME" and
	// "group:NAME" mean one of the two alone, and take numbers.
	Operators []string
	// Readers may look. When there are none, everybody may who can open the
	// socket.
	Readers []string
}

// principals are the user and group ids that names stand for.
type principals struct {
	users, groups []uint32
}

// lookUp finds the ids behind names. A name that means nobody grants nothing,
// and is said: users may be made later than the node starts, which must not
// wait for them.
func lookUp(names []string, log *slog.Logger) (p principals) {
	for _, name := range names {
		kind, rest, both := strings.Cut(name, ":")
		if !both {
			kind, rest = "", name
		}
		found := false
		if kind != "group" {
			if id, ok := userID(rest, kind != ""); ok {
				p.users, found = append(p.users, id), true
			}
		}
		if kind != "user" {
			if id, ok := groupID(rest, kind != ""); ok {
				p.groups, found = append(p.groups, id), true
			}
		}
		if !found {
			log.Warn("admin API: no such user or group; it may do nothing", "name", name)
		}
	}
	return p
}

func userID(name string, numbers bool) (uint32, bool) {
	if u, err := user.Lookup(name); err == nil {
		name, numbers = u.Uid, true
	}
	return parseID(name, numbers)
}

func groupID(name string, numbers bool) (uint32, bool) {
	if g, err := user.LookupGroup(name); err == nil {
		name, numbers = g.Gid, true
	}
	return parseID(name, numbers)
}

func parseID(text string, numbers bool) (uint32, bool) {
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err == nil && numbers
}

func (p *principals) have(peer *peer) bool {
	return slices.Contains(p.users, peer.uid) ||
		slices.ContainsFunc(peer.groups, func(id uint32) bool { return slices.Contains(p.groups, id) })
}

// policy decides about local callers.
type policy struct {
	operators, readers principals
	everybody          bool // may look
	owner              uint32
}

func newPolicy(a Access, log *slog.Logger) *policy {
	return &policy{
		operators: lookUp(a.Operators, log), readers: lookUp(a.Readers, log),
		everybody: len(a.Readers) == 0, owner: uint32(os.Geteuid()),
	}
}

func (p *policy) role(peer *peer) Role {
	switch {
	case peer.uid == 0 || peer.uid == p.owner || p.operators.have(peer):
		return Operator
	case p.everybody || p.readers.have(peer):
		return ReadOnly
	}
	return Nobody
}

// peer is the process at the other end of a Unix socket, as the kernel saw it
// when it connected.
type peer struct {
	pid    int32
	uid    uint32
	groups []uint32 // all of them
}

// peerOf asks the kernel who has connected.
func peerOf(c *net.UnixConn) (*peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var p peer
	var failure error
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			failure = fmt.Errorf("SO_PEERCRED: %w", err)
			return
		}
		p = peer{pid: cred.Pid, uid: cred.Uid, groups: []uint32{cred.Gid}}
		more, err := peerGroups(int(fd))
		if err != nil {
			failure = fmt.Errorf("SO_PEERGROUPS: %w", err)
		}
		p.groups = append(p.groups, more...)
	})
	if err == nil {
		err = failure
	}
	return &p, err
}

// peerGroups are the supplementary groups of the process at the other end.
func peerGroups(fd int) ([]uint32, error) {
	for size := uint32(64 * 4); ; size *= 4 {
		buffer := make([]byte, size)
		length := size
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&buffer[0])), uintptr(unsafe.Pointer(&length)), 0)
		if errno == unix.ERANGE && size < 1<<20 {
			continue
		}
		if errno != 0 {
			return nil, errno
		}
		groups := make([]uint32, length/4)
		for i := range groups {
			groups[i] = binary.NativeEndian.Uint32(buffer[4*i:])
		}
		return groups, nil
	}
}

// caller names the process, and says what it may do.
func (p *policy) caller(peer *peer) Caller {
	name := fmt.Sprintf("uid %d", peer.uid)
	if u, err := user.LookupId(strconv.Itoa(int(peer.uid))); err == nil {
		name = u.Username
	}
	return Caller{Name: name, From: fmt.Sprintf("pid %d", peer.pid), Role: p.role(peer)}
}
