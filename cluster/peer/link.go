package peer

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// handshakeTime is how long both handshakes may take together.
const handshakeTime = 5 * time.Second

// alpn keeps connections of another kind from being taken for ours (RFC 7301).
const alpn = "fairlead-peer"

// link is a connection on which both sides have proved who they are and have
// said hello.
type link struct {
	conn   *watchedConn
	tls    *tls.Conn
	key    ed25519.PublicKey // of the other node
	hello  *hello            // of the other node
	wire   int               // version that both speak
	dialed bool              // by this node
}

// connect dials a node, or with "" for its name whoever is there, and does both
// handshakes.
func (p *Peers) connect(ctx context.Context, name string, addr netip.AddrPort, use string) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	raw, err := p.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	conn := watch(raw)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	l, err := p.greet(ctx, conn, name, use)
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%s has not finished the handshake: %w", addr, ctx.Err())
		}
		return nil, err
	}
	return l, nil
}

// greet is the dialer's side of both handshakes.
func (p *Peers) greet(ctx context.Context, conn *watchedConn, name, use string) (*link, error) {
	cfg := p.cfg.Identity.ClientTLS(name)
	cfg.NextProtos = []string{alpn}
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	_, key, err := p.cfg.Identity.PeerOf(t.ConnectionState())
	if err != nil {
		return nil, err
	}
	mine := p.hello(use)
	if err := writeHello(t, mine); err != nil {
		return nil, err
	}
	theirs, err := readHello(t)
	if err != nil { // a certificate that is refused is heard of here, too
		return nil, err
	}
	if err := p.proved(t, theirs); err != nil {
		return nil, err
	}
	if theirs.Refused != "" {
		return nil, &RefusedError{Node: theirs.Node, Code: theirs.Refused, Reason: theirs.Why}
	}
	wire, err := common(mine, theirs)
	if err != nil {
		return nil, err
	}
	return &link{conn: conn, tls: t, key: key, hello: theirs, wire: wire, dialed: true}, nil
}

// proved says whether a node's hello has the name that its certificate proves.
func (p *Peers) proved(t *tls.Conn, h *hello) error {
	name, _, err := p.cfg.Identity.PeerOf(t.ConnectionState())
	if err != nil {
		return err
	}
	if h.Node != name {
		return fmt.Errorf("the node calls itself %q, and its certificate is for %q", h.Node, name)
	}
	return nil
}

func (p *Peers) hello(use string) *hello {
	return &hello{
		Node: p.name, Boot: p.boot, Use: use, Software: p.cfg.Software,
		WireMin: p.cfg.WireMin, WireMax: p.cfg.WireMax,
	}
}

// receive is the acceptor's side of both handshakes, but for the answer to the
// hello: see answer and refuse.
func (p *Peers) receive(ctx context.Context, conn *watchedConn) (*link, error) {
	cfg := p.cfg.Identity.ServerTLS()
	cfg.NextProtos = []string{alpn}
	t := tls.Server(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if got := t.ConnectionState().NegotiatedProtocol; got != alpn {
		return nil, fmt.Errorf("the connection is for %q and not for %q", got, alpn)
	}
	_, key, err := p.cfg.Identity.PeerOf(t.ConnectionState())
	if err != nil {
		return nil, err
	}
	theirs, err := readHello(t)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, tls: t, key: key, hello: theirs}
	if err := p.proved(t, theirs); err != nil {
		return nil, p.refuse(l, refusedBad, err)
	}
	if theirs.Use != useMember && theirs.Use != useVisit || theirs.Boot == "" {
		return nil, p.refuse(l, refusedBad, fmt.Errorf("a connection for %q", theirs.Use))
	}
	if l.wire, err = common(theirs, p.hello("")); err != nil {
		return nil, p.refuse(l, refusedVersion, err)
	}
	if code, err := p.stranger(l); err != nil {
		return nil, p.refuse(l, code, err)
	}
	return l, nil
}

// answer tells the dialer that its connection is taken.
func (p *Peers) answer(l *link) error { return writeHello(l.tls, p.hello("")) }

// refuse tells the dialer why its connection is not taken, and returns why.
func (p *Peers) refuse(l *link, code string, why error) error {
	p.count.refused(code)
	h := p.hello("")
	h.Refused, h.Why = code, why.Error()
	if err := writeHello(l.tls, h); err == nil {
		// So that it is read before the end of the connection is.
		l.tls.CloseWrite()
		l.conn.SetReadDeadline(time.Now().Add(time.Second))
		var rest [1]byte
		l.tls.Read(rest[:])
	}
	return &refusal{l.hello.Node, code, why}
}

// refusal is why this node has not taken a connection.
type refusal struct {
	node, code string
	why        error
}

func (e *refusal) Error() string { return fmt.Sprintf("node %q is refused: %v", e.node, e.why) }
func (e *refusal) Unwrap() error { return e.why }

// dialTCP is how a node is dialed unless somebody says otherwise.
func dialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1} // Peers knows sooner
	return d.DialContext(ctx, "tcp", addr.String())
}

// stranger says what speaks against a node that dials: it is this node itself, or
// it has the name of this node or of a member with another key. A visitor is
// told so by whom it asks, who may see further.
func (p *Peers) stranger(l *link) (code string, err error) {
	switch {
	case l.hello.Node == p.name && l.hello.Boot == p.boot:
		return refusedSelf, errors.New("it is this node itself")
	case l.hello.Use == useVisit:
		return "", nil
	case l.hello.Node == p.name && l.key.Equal(p.cfg.Identity.PublicKey()):
		return refusedTaken, errors.New("the name is this node's, and so is the key: the state directory has been copied; remove it on one of the two")
	case l.hello.Node == p.name:
		return refusedTaken, errors.New("the name is this node's, whose key is another one: every node needs a name of its own")
	}
	if r := p.remote(l.hello.Node); r != nil {
		if has := r.keyOf(); has != nil && !l.key.Equal(has) {
			return refusedTaken, errors.New("the name is that of a node with another key, which is up: every node needs a name of its own; if that node has been made anew, this passes when the old one is taken for dead")
		}
	}
	return "", nil
}
