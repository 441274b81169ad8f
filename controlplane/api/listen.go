package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// What a node takes of connections. Those of root are not counted, so that
// there is always a way in.
const (
	maxConnections     = 256
	maxConnectionsEach = 64 // of one user, or of one address
)

// listen opens the Unix socket: its owner and one group may use it. A socket
// file that nobody listens on is replaced, one that somebody does is not.
func listen(socket, group string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(socket); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is there and is no socket", socket)
	}
	if c, err := net.DialTimeout("unix", socket, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s is in use: another fairlead runs", socket)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	own := &socketListener{UnixListener: l, path: socket}
	if err = permit(socket, group); err == nil {
		own.file, err = os.Lstat(socket)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(socket))
	}
	return own, nil
}

// socketListener takes its file away when it is closed, but no other's that has
// taken its place.
type socketListener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// Close ends listening.
func (l *socketListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.file) {
		os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

// permit sets who may open the socket.
func permit(socket, group string) error {
	if group != "" {
		id, ok := groupID(group, true)
		if !ok {
			return fmt.Errorf("there is no group %q for the socket", group)
		}
		if err := os.Chown(socket, -1, int(id)); err != nil {
			return err
		}
	}
	return os.Chmod(socket, 0o660)
}

// limits counts connections.
type limits struct {
	mu   sync.Mutex
	all  int
	each map[string]int
}

// take reports whether there is room for another connection of somebody.
func (l *limits) take(who string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == maxConnections || l.each[who] == maxConnectionsEach {
		return false
	}
	l.all++
	l.each[who]++
	return true
}

func (l *limits) free(who string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.each[who]--; l.each[who] == 0 {
		delete(l.each, who)
	}
}

// limitedListener takes connections while there is room for them.
type limitedListener struct {
	net.Listener
	limits *limits
	policy *policy // of a Unix socket
	log    *slog.Logger
	said   atomic.Int64 // when a refusal was last logged, in seconds
}

// limitedConn is a connection that counts.
type limitedConn struct {
	net.Conn
	caller Caller
	once   sync.Once
	free   func()
}

// Close closes the connection, which counts no longer.
func (c *limitedConn) Close() error {
	c.once.Do(c.free)
	return c.Conn.Close()
}

// Accept waits for a connection that there is room for.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who, caller, err := l.identify(c)
		switch {
		case err != nil:
			l.complain("a caller cannot be told", err)
		case who == "": // root
			return &limitedConn{Conn: c, caller: caller, free: func() {}}, nil
		case l.limits.take(who):
			return &limitedConn{Conn: c, caller: caller, free: func() { l.limits.free(who) }}, nil
		default:
			l.complain("too many connections", fmt.Errorf("refused one of %s", who))
		}
		c.Close()
	}
}

// identify says who counts for a connection, and of a Unix socket who calls.
func (l *limitedListener) identify(c net.Conn) (who string, _ Caller, err error) {
	local, is := c.(*net.UnixConn)
	if !is {
		host, _, err := net.SplitHostPort(c.RemoteAddr().String())
		return host, Caller{}, err
	}
	peer, err := peerOf(local)
	if err != nil {
		return "", Caller{}, err
	}
	if peer.uid != 0 {
		who = fmt.Sprintf("uid %d", peer.uid)
	}
	return who, l.policy.caller(peer), nil
}

// complain logs at most once a second.
func (l *limitedListener) complain(what string, err error) {
	now := time.Now().Unix()
	if l.said.Swap(now) != now {
		l.log.Warn("admin API: "+what, "error", err)
	}
}

// callerOfConn hands the caller of a Unix socket on to requests.
func callerOfConn(ctx context.Context, c net.Conn) context.Context {
	if own, is := c.(*limitedConn); is {
		return withCaller(ctx, own.caller)
	}
	return ctx
}
