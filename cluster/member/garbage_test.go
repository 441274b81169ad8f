package member_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"fairlead/cluster"
)

// Types of memberlist's messages.
const (
	pingType, indirectType, ackType, suspectType, aliveType, deadType = 0, 1, 2, 3, 4, 5
	pushPullType, compoundType, userType                              = 6, 7, 8
	messageTypes                                                      = 16
)

// seal encrypts a text as memberlist does, with a version of its encryption.
func seal(t testing.TB, key []byte, version byte, text, data []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	rand.Read(nonce)
	return gcm.Seal(append([]byte{version}, nonce...), nonce, text, data)
}

// stream is a text as it is sent over TCP.
func stream(t testing.TB, key []byte, version byte, text []byte) []byte {
	head := []byte{10, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[1:], uint32(len(text)+29))
	return append(head, seal(t, key, version, text, head)...)
}

// pack is a map in msgpack.
func pack(pairs ...any) []byte {
	out := []byte{0x80 | byte(len(pairs)/2)}
	for _, p := range pairs {
		switch p := p.(type) {
		case string:
			out = append(append(out, 0xd9, byte(len(p))), p...)
		case []byte:
			out = append(append(out, 0xc5, byte(len(p)>>8), byte(len(p))), p...)
		case int:
			out = binary.BigEndian.AppendUint32(append(out, 0xce), uint32(p))
		}
	}
	return out
}

func message(kind byte, pairs ...any) []byte { return append([]byte{kind}, pack(pairs...)...) }

// TestGarbage sends everything that it can think of to the gossip port of a node,
// over real UDP and TCP, with the key and without: it goes on, and nothing that is
// said there moves a node, renames one, or adds one.
func TestGarbage(t *testing.T) {
	w := newWorld(t)
	loopback := netip.MustParseAddr("127.0.0.1")
	make3 := func(i int, name string) *node {
		cfg, host := w.config(i, name)
		cfg.Transport = nil
		cfg.Listen, cfg.Gossip = netip.AddrPortFrom(loopback, 0), netip.AddrPortFrom(loopback, 0)
		n, err := w.start(name, cfg, host)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	one, two := make3(1, "n1"), make3(2, "n2")
	for _, n := range []*node{one, two} {
		eventually(t, "both are there", func() bool { return n.count(cluster.Alive) == 2 })
	}
	gossip := one.Self().Gossip
	key := w.key.GossipKey()
	meta := two.Meta()
	versions := []byte{1, 5, 2, 0, 0, 0}
	elsewhere := net.IPv4(127, 0, 0, 9).To4()
	forged := [][]byte{
		message(aliveType, "Incarnation", 1<<20, "Node", "n2", "Addr", []byte(elsewhere), "Port", 7946, "Meta", meta, "Vsn", versions),
		message(aliveType, "Incarnation", 1<<20, "Node", "n9", "Addr", []byte(elsewhere), "Port", 7946, "Meta", meta, "Vsn", versions),
		message(aliveType, "Incarnation", 1<<20, "Node", "n8", "Addr", []byte(elsewhere), "Port", 7946, "Meta", []byte{}, "Vsn", versions),
		message(aliveType, "Incarnation", 1<<20, "Node", "n1", "Addr", []byte(elsewhere), "Port", 1, "Meta", meta[:len(meta)-1], "Vsn", versions),
		message(aliveType, "Incarnation", 1<<20, "Node", "n2", "Addr", []byte{1}, "Port", 1, "Meta", meta, "Vsn", []byte{}),
		message(suspectType, "Incarnation", 1<<20, "Node", "n1", "From", "n7"),
		message(deadType, "Incarnation", 1<<20, "Node", "n1", "From", "n1"),
		message(deadType, "Incarnation", 1<<20, "Node", "n1", "From", "n2"),
		message(userType), {userType}, {userType, 1, 2, 3}, {compoundType, 255}, {compoundType, 1, 0, 9}, {},
	}
	udp, err := net.Dial("udp", gossip.String())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	send := func(b []byte) {
		t.Helper()
		if _, err := udp.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range forged {
		packet := seal(t, key, 1, text, nil)
		send(packet)
		send(packet) // once more
		send(packet[:len(packet)-1])
		packet[len(packet)/2] ^= 1
		send(packet)
		send(text)
		if len(text) > 0 {
			send(seal(t, key, 0, text, nil)) // an old version, with no padding
		}
	}
	for kind := range byte(messageTypes) {
		for range 20 {
			junk := make([]byte, mrand.IntN(300))
			rand.Read(junk)
			send(seal(t, key, 1, append([]byte{kind}, junk...), nil))
			if len(junk) > 0 {
				send(junk)
			}
		}
	}
	send(make([]byte, 60_000))
	send(seal(t, key, 1, bytes.Repeat([]byte{userType}, 3000), nil))

	// Over TCP: what is no gossip, what ends early, what claims to be long, an empty
	// text and a wrong padding with the right key.
	tcp := func(b []byte) {
		t.Helper()
		c, err := net.Dial("tcp", gossip.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write(b) // it may have been refused before
		c.(*net.TCPConn).CloseWrite()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, io.ErrNoProgress) {
			t.Error(err)
		}
	}
	for _, text := range append(forged, message(pushPullType, "Nodes", 1<<30, "UserStateLen", 0, "Join", 1), message(pushPullType, "Nodes", 1, "UserStateLen", 1<<30, "Join", 1)) {
		whole := stream(t, key, 1, text)
		tcp(whole)
		tcp(whole[:len(whole)/2])
		tcp(text)
	}
	tcp(stream(t, key, 0, bytes.Repeat([]byte{255}, 16)))
	tcp([]byte{10, 255, 255, 255, 255, 1, 2, 3})
	tcp([]byte{244, 5, 1, 2, 3})
	tcp([]byte("GET / HTTP/1.1\r\n\r\n"))

	// Many that say nothing: more than there may be are refused at once.
	var silent []net.Conn
	for range 40 {
		c, err := net.Dial("tcp", gossip.String())
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	eventually(t, "some of many streams are refused", func() bool { return one.Stats().StreamsRefused > 0 })
	for _, c := range silent {
		c.Close()
	}

	third := make3(3, "n3")
	for _, n := range []*node{one, two, third} {
		eventually(t, "a third one joins", func() bool { return n.count(cluster.Alive) == 3 })
		for _, o := range n.All() {
			if o.Gossip.Addr() != loopback || o.Gossip.Port() == 7946 {
				t.Errorf("%v takes %s to be at %s", n, o.Name, o.Gossip)
			}
		}
		if all := n.All(); len(all) != 3 {
			t.Errorf("%v has %d members", n, len(all))
		}
	}
	if s := one.Stats(); s.Undecipherable == 0 || s.Refused == 0 || s.Unreadable == 0 {
		t.Errorf("it has not counted what was wrong: %+v", s)
	}
}

// FuzzGossip gives a node any text in a packet and in a stream, encrypted with its
// key: it answers a ping afterwards.
func FuzzGossip(f *testing.F) {
	w := newWorld(f)
	n := w.add(1)
	prober := w.Add("prober", gossipAt(2), streamAt(2))
	key := w.key.GossipKey()
	to := memberlist.Address{Name: "n1", Addr: gossipAt(1).String()}
	f.Add([]byte{userType, 1, 0, 0, 0, 0, 0, 0, 0, 0, 4, 't', 'e', 's', 't', 1})
	f.Add(message(aliveType, "Incarnation", 2, "Node", "n1", "Addr", []byte{198, 18, 0, 1}, "Port", 7946, "Meta", n.Meta(), "Vsn", []byte{1, 5, 2, 0, 0, 0}))
	f.Add(message(suspectType, "Incarnation", 1, "Node", "n1", "From", "x"))
	f.Add(message(deadType, "Incarnation", 1, "Node", "n1", "From", "n1"))
	f.Add(message(indirectType, "SeqNo", 1, "Target", []byte{1, 2, 3, 4}, "Port", 1, "Node", "x", "Nack", 1))
	f.Add(message(pushPullType, "Nodes", 1, "UserStateLen", 0, "Join", 1))
	f.Add([]byte{compoundType, 2, 0, 1, 0, 1, 8, 8})
	f.Add([]byte{})
	seq := 0
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1200 {
			return
		}
		prober.WriteToAddress(seal(t, key, 1, text, nil), to)
		conn, err := prober.DialAddressTimeout(to, time.Second)
		if err == nil {
			conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
			conn.Write(stream(t, key, 1, text))
			conn.Close()
		}
		seq = (seq + 1) % (1 << 20)
		prober.WriteToAddress(seal(t, key, 1, message(pingType, "SeqNo", seq, "Node", "n1", "SourceAddr", gossipAt(2).Addr().AsSlice(), "SourcePort", 7946, "SourceNode", "prober"), nil), to)
		deadline := time.After(10 * time.Second)
		for {
			select {
			case <-prober.PacketCh(): // the ack, or what the text has caused
				return
			case c := <-prober.StreamCh():
				c.Close()
			case <-deadline:
				t.Fatal("the node does not answer")
			}
		}
	})
}

// FuzzMeta has a node read what another one says of itself: nothing but what that
// one has signed is taken.
func FuzzMeta(f *testing.F) {
	w := newWorld(f)
	one, two := w.add(1), w.add(2)
	good := two.Meta()
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(append([]byte{}, good...), 0))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, 300))
	self := two.Self().Gossip
	f.Fuzz(func(t *testing.T, meta []byte) {
		err := one.NotifyAlive(&memberlist.Node{Name: "n2", Addr: self.Addr().AsSlice(), Port: self.Port(), Meta: meta})
		if ok := bytes.Equal(meta, good); ok != (err == nil) {
			t.Errorf("%x: %v", meta, err)
		}
	})
}

func nodeOf(name string, at netip.AddrPort, meta []byte) *memberlist.Node {
	return &memberlist.Node{Name: name, Addr: at.Addr().AsSlice(), Port: at.Port(), Meta: meta}
}

// resign signs what a node says of itself.
func resign(n *node, body []byte) []byte {
	return append(append(bytes.Clone(body), 255, 64), n.id.Sign("member meta", body)...)
}
